//! What somebody chose for a database of a pod: `main:remote@1f0c5a77`, in the pod's annotation.
//!
//! An annotation stays with its pod, and perhaps stands in the template of all of them. So a choice that changes anything holds only for the
//! contradiction that it names, and whoever comes with it later has chosen nothing.

use clap::ValueEnum;
use lifeboat_replica::adoption::Contradiction;

use crate::args::Take;
use crate::config::Config;
use crate::exit::Failure;

/// A choice, as it was written down.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// The database that it is for.
    pub(super) name: String,
    /// What it chooses.
    pub(super) take: Take,
    /// The contradiction that it is about, as the refusal showed it.
    about: Option<String>,
}

impl Choice {
    /// From `main:remote@1f0c5a77`, or without the name where there is one database; nothing from an empty text.
    pub(super) fn parse(text: &str, config: &Config) -> Result<Option<Self>, Failure> {
        let (name, which) = match (text.rsplit_once(':'), config.databases.as_slice()) {
            (None, _) if text.is_empty() => return Ok(None),
            (Some((name, which)), databases) if databases.iter().any(|database| database.name == name) => {
                (name, which)
            }
            (None, [only]) => (only.name.as_str(), text),
            (Some(_) | None, databases) => {
                let names: Vec<_> = databases.iter().map(|database| database.name.as_str()).collect();
                let names = names.join(", ");
                return Err(Failure::usage(format!("--take '{text}' names none of the databases: {names}")));
            }
        };
        let (which, about) =
            which.split_once('@').map_or((which, None), |(which, about)| (which, Some(about.to_owned())));
        let wrong = |_| Failure::usage(format!("--take '{text}': choose remote, local or neither"));
        let take = Take::from_str(which, false).map_err(wrong)?;
        Ok(Some(Self { name: name.to_owned(), take, about }))
    }

    /// What it chooses in this contradiction; `None` where it is about another, or does not say. A copy to look at harms nobody.
    pub(super) fn in_case_of(&self, contradiction: Contradiction) -> Option<Take> {
        let is_meant = self.about.as_ref().is_some_and(|about| *about == contradiction.to_string());
        (is_meant || self.take == Take::Neither).then_some(self.take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_choice_is_about_one_database_of_the_pod() {
        let one = Config::parse("dbs: [{name: main, path: /a.db, replica: {url: 'file:///x'}}]").unwrap();
        let two = "dbs: [{name: main, path: /a.db, replica: {url: 'file:///x'}}, {name: b, path: /b.db, replica: {url: 'file:///y'}}]";
        let two = Config::parse(two).unwrap();
        let chosen = |text: &str, config: &Config| {
            Choice::parse(text, config)
                .map(|choice| choice.map(|choice| (choice.name, choice.take, choice.about)))
        };
        assert_eq!(chosen("", &two).unwrap(), None);
        assert_eq!(chosen("remote", &one).unwrap(), Some(("main".to_owned(), Take::Remote, None)));
        let about = Some("1f0c5a77".to_owned());
        assert_eq!(chosen("b:local@1f0c5a77", &two).unwrap(), Some(("b".to_owned(), Take::Local, about)));
        for wrong in ["remote", "c:remote", "b:", "b:all", ":remote", "b:@1f0c5a77", "remote@1f0c5a77"] {
            assert_eq!(chosen(wrong, &two).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }
}
