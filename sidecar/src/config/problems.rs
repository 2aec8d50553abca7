//! What is wrong with a config's text: everything, each with its line and key.

use std::fmt;

use serde::Serialize;

use super::file;
use super::lines::Lines;
use crate::exit::Failure;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line, from 1; `None` where nobody can say.
    pub line: Option<u64>,
    /// The key, such as `dbs[0].replica.url`; empty for the whole text.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    lines: Lines,
    found: Vec<Problem>,
}

impl Problems {
    /// None yet, of this text.
    pub(super) fn of(text: &str) -> Self {
        Self { lines: Lines::of(text), found: Vec::new() }
    }

    /// Notes one.
    pub(super) fn note(&mut self, key: impl Into<String>, message: impl Into<String>) {
        let (key, message) = (key.into(), message.into());
        self.found.push(Problem { line: self.lines.line(&key), key, message });
    }

    /// The value, or the note that there is none.
    pub(super) fn take<T>(&mut self, key: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|message| self.note(key, message)).ok()
    }

    /// Notes that the text is no config, with what the parser says.
    pub(super) fn undecodable(&mut self, error: &serde_saphyr::Error) {
        let place = error.location().map(|location| (location.line(), location.column()));
        let key = place.and_then(|(line, column)| self.lines.key(line, column));
        let key = key.unwrap_or_default().to_owned();
        // The parser's own words name the place again, and could go on with an excerpt.
        let message = error.without_snippet().to_string();
        let message = message.lines().next().unwrap_or_default();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        self.found.push(Problem { line: place.map(|(line, _)| line), key, message });
    }

    /// Notes a key that nothing took; with what was meant, perhaps.
    pub(super) fn unknown_key(&mut self, key: &str) {
        let (place, name) = key.rsplit_once('.').unwrap_or(("", key));
        let hint = match (nearest(name, file::keys_of(place)), file::home_of(name)) {
            (_, Some(home)) => format!("it belongs {home}"),
            (Some(meant), None) => format!("did you mean '{meant}'?"),
            (None, None) => "remove it, or see docs/config.md for the keys there are".to_owned(),
        };
        self.note(key, format!("the key '{name}' is unknown here; {hint}"));
    }

    /// All of them, by line.
    pub(super) fn into_sorted(self) -> Vec<Problem> {
        let mut found = self.found;
        found.sort_by_key(|problem| problem.line);
        found
    }

    /// Whether nothing is wrong.
    pub(super) const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether the key stands in the text.
    pub(super) fn is_written(&self, key: &str) -> bool {
        self.lines.has(key)
    }

    /// The line of a key.
    pub(super) fn line(&self, key: &str) -> Option<u64> {
        self.lines.line(key)
    }
}

/// The first problem, and how many more there are, in one line.
#[must_use]
pub fn failure(problems: &[Problem]) -> Failure {
    let first = problems.first().map(ToString::to_string).unwrap_or_default();
    let others = match problems.len() {
        0 | 1 => String::new(),
        count => format!("; {} more: see `lifeboat config check`", count - 1),
    };
    Failure::usage(first + &others)
}

/// The key that is spelled most like `name`, if one is at all.
fn nearest<'k>(name: &str, keys: &[&'k str]) -> Option<&'k str> {
    let likeness = |key: &&str| strsim::jaro_winkler(name, key);
    let best = keys.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) > LIKE).then_some(best)
}

const LIKE: f64 = 0.75;
