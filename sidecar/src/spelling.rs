//! Litestream's spelling of the command line: `-config FILE`, `-json=true`, as Go's programs take it.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{ArgAction, Command};

/// The arguments with one dash in front of a long option's name made two, and `=true` and `=false` of switches understood.
/// What is not the name of an option stays as it is, and so does everything behind `--`.
#[must_use]
pub fn ours(args: impl IntoIterator<Item = OsString>, known: &Command) -> Vec<OsString> {
    let switches = long_options(known);
    let (mut ours, mut is_over) = (Vec::new(), false);
    for arg in args {
        is_over |= arg == "--";
        match arg.to_str().filter(|_| !is_over).and_then(|text| long_option(text, &switches)) {
            Some(spelled) => ours.extend(spelled.map(OsString::from)),
            None => ours.push(arg),
        }
    }
    ours
}

/// An argument that names a long option, in our spelling: nothing for a switch that is set to false.
fn long_option(text: &str, switches: &BTreeMap<String, bool>) -> Option<Option<String>> {
    let name_and_value = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    let (name, value) = match name_and_value.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name_and_value, None),
    };
    let Some(is_switch) = switches.get(name).copied() else {
        // With one dash it would be taken for `-c onfg`, and nobody would understand the complaint.
        return is_misspelled(name, switches).then(|| Some(format!("--{name_and_value}")));
    };
    Some(match value {
        Some("true") if is_switch => Some(format!("--{name}")),
        Some("false") if is_switch => None,
        Some(value) => Some(format!("--{name}={value}")),
        None => Some(format!("--{name}")),
    })
}

/// Whether a name is that of a long option but for a letter.
fn is_misspelled(name: &str, switches: &BTreeMap<String, bool>) -> bool {
    name.len() > 2 && switches.keys().any(|known| strsim::jaro_winkler(name, known) > LIKE)
}

const LIKE: f64 = 0.94;

/// Every long option of every command, and whether it is a switch.
fn long_options(command: &Command) -> BTreeMap<String, bool> {
    let is_switch = |action: &ArgAction| matches!(action, ArgAction::SetTrue);
    let own = command.get_arguments().filter_map(|argument| {
        let long = argument.get_long().filter(|long| long.len() > 1)?;
        Some((long.to_owned(), is_switch(argument.get_action())))
    });
    let always = ["help", "version"].map(|name| (name.to_owned(), false));
    own.chain(always).chain(command.get_subcommands().flat_map(long_options)).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn ours(line: &str) -> String {
        let args = super::ours(line.split(' ').map(OsString::from), &Cli::command());
        args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_long_option_with_one_dash_is_one() {
        assert_eq!(
            ours("restore -if-replica-exists -config c.yml -o out"),
            "restore --if-replica-exists --config c.yml -o out"
        );
        assert_eq!(ours("replicate -config=c.yml"), "replicate --config=c.yml");
        assert_eq!(ours("ltx -json=true -level 9 -names-only=false u"), "ltx --json --level 9 u");
        assert_eq!(ours("--help -version"), "--help --version");
        assert_eq!(
            ours("replicate -confg c.yml"),
            "replicate --confg c.yml",
            "the parser guesses what was meant"
        );
    }

    #[test]
    fn what_is_no_option_of_ours_stays_as_it_is() {
        for line in [
            "restore -oout.db x",
            "replicate -c c.yml",
            "x -unknown",
            "x -oout",
            "x -cconfig.yml",
            "x -- -config",
            "x - -- --json=true",
            "x -o=a",
        ] {
            assert_eq!(ours(line), line);
        }
    }
}
