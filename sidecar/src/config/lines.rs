//! On which line of a config's text each of its keys stands.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// Line and column of all keys, by their place: `dbs[0].replica.url`.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<String, (u64, u64)>);

impl Lines {
    /// Of a text; empty where it is no YAML, which whoever decodes it says.
    pub(super) fn of(text: &str) -> Self {
        let mut lines = BTreeMap::new();
        if let Ok(node) = serde_saphyr::from_str::<Node>(text) {
            node.collect("", &mut lines);
        }
        Self(lines)
    }

    /// The line of a key; of what it stands in where it is missing.
    pub(super) fn line(&self, key: &str) -> Option<u64> {
        let mut key = key;
        loop {
            if let Some((line, _)) = self.0.get(key) {
                return Some(*line);
            }
            key = &key[..key.rfind(['.', '['])?];
        }
    }

    /// Whether there is such a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The last key that begins at this line and column, or before.
    pub(super) fn key(&self, line: u64, column: u64) -> Option<&str> {
        let before = self.0.iter().filter(|(_, begins)| **begins <= (line, column));
        before.max_by_key(|(key, begins)| (**begins, key.len())).map(|(key, _)| key.as_str())
    }
}

/// Any YAML, of which only the places of keys and entries are kept.
enum Node {
    Table(Vec<(Spanned<String>, Self)>),
    List(Vec<Spanned<Self>>),
    Single,
}

impl Node {
    fn collect(&self, place: &str, lines: &mut BTreeMap<String, (u64, u64)>) {
        match self {
            Self::Table(entries) => {
                for (key, value) in entries {
                    let dot = if place.is_empty() { "" } else { "." };
                    let place = format!("{place}{dot}{}", key.value);
                    lines.insert(place.clone(), begin(key.referenced));
                    value.collect(&place, lines);
                }
            }
            Self::List(entries) => {
                for (number, entry) in entries.iter().enumerate() {
                    let place = format!("{place}[{number}]");
                    lines.insert(place.clone(), begin(entry.referenced));
                    entry.value.collect(&place, lines);
                }
            }
            Self::Single => {}
        }
    }
}

fn begin(location: Location) -> (u64, u64) {
    (location.line(), location.column())
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = table.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Table(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            entries.push(entry);
        }
        Ok(Node::List(entries))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Single)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Single)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Single)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Single)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Single)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Single)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Single)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Node::Single)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "addr: x\n\ndbs:\n  - path: /a\n    replica:\n      url: u\n  - {path: /b,\n     name: b}\n";

    #[test]
    fn every_key_has_its_line_and_a_missing_one_that_of_its_entry() {
        let lines = Lines::of(TEXT);
        let found = ["addr", "dbs", "dbs[0].path", "dbs[0].replica.url", "dbs[1]", "dbs[1].name"];
        assert_eq!(found.map(|key| lines.line(key).unwrap()), [1, 3, 4, 6, 7, 8]);
        assert_eq!(lines.line("dbs[1].replica.url"), Some(7));
        assert_eq!(lines.line("socket"), None);
    }

    #[test]
    fn a_place_has_the_key_whose_value_begins_there() {
        let lines = Lines::of(TEXT);
        let keys =
            [(1, 7), (2, 1), (6, 12), (7, 5), (8, 6)].map(|(line, column)| lines.key(line, column).unwrap());
        assert_eq!(keys, ["addr", "addr", "dbs[0].replica.url", "dbs[1]", "dbs[1].name"]);
    }
}
