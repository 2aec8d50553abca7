//! What the pages say of the command line and the config file is so, and all of it is said.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory;
use lifeboat::args::Cli;
use lifeboat::config::Config;
use lifeboat_replica::head::Head;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_flag_is_on_the_page_and_every_flag_on_the_page_exists() {
    let page = read("docs/cli.md");
    assert_eq!(differing_flags(&page, &known_flags()), [""; 0]);
}

#[test]
fn the_commands_of_the_readme_would_be_understood() {
    assert_eq!(misunderstood(&read("README.md")), [""; 0]);
}

#[test]
fn every_config_file_on_the_pages_is_one() {
    for page in ["README.md", "docs/config.md"] {
        for text in configs(&read(page)) {
            Config::parse(&text).unwrap_or_else(|failure| panic!("{page}: {failure}:\n{text}"));
        }
    }
    assert!(configs(&read("docs/config.md")).len() >= 3);
}

#[test]
fn every_key_of_the_config_file_is_on_its_page() {
    assert_eq!(missing_keys(&read("sidecar/src/config/file.rs"), &read("docs/config.md")), [""; 0]);
}

#[test]
fn the_head_on_its_page_is_one_and_every_field_of_it_is_explained() {
    let page = read("docs/formats/head.md");
    let json = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let head = Head::decode(json.as_bytes()).unwrap();
    let fields: serde_json::Value = serde_json::from_slice(&head.encode()).unwrap();
    for field in fields.as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{field}")), "{field} is not explained");
    }
}

fn known_flags() -> BTreeSet<String> {
    let mut cli = Cli::command();
    cli.build();
    flags_of(&cli).collect()
}

/// The long options of a command and of its verbs.
fn flags_of(command: &clap::Command) -> Box<dyn Iterator<Item = String> + '_> {
    let own = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let own = own.filter_map(|argument| argument.get_long()).map(|long| format!("--{long}"));
    let verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help");
    Box::new(own.chain(verbs.flat_map(flags_of)))
}

/// Flags of a page that do not exist, and flags that are not on it.
fn differing_flags(page: &str, known: &BTreeSet<String>) -> Vec<String> {
    let said: BTreeSet<String> = flags(page).map(str::to_owned).collect();
    let wrong = said.difference(known).map(|flag| format!("{flag} does not exist"));
    let missing = known.difference(&said).map(|flag| format!("{flag} is not on the page"));
    wrong.chain(missing).collect()
}

fn flags(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 3 && !word.ends_with('-'))
}

/// Lines of a page's code that begin with our program's name, and that it would refuse.
fn misunderstood(page: &str) -> Vec<String> {
    let commands = page.lines().map(|line| line.trim_start().trim_start_matches("$ "));
    let commands = commands.filter(|line| line.starts_with("lifeboat ") && !line.contains('|'));
    let plain =
        commands.map(|line| line.split(" #").next().unwrap_or_default().trim_end().trim_end_matches(" &"));
    let checked = plain.map(|line| (line, Cli::command().try_get_matches_from(line.split_whitespace())));
    checked
        .filter_map(|(line, result)| result.err().map(|error| format!("{line}: {}", error.kind())))
        .collect()
}

/// The blocks of a page that list databases.
fn configs(page: &str) -> Vec<String> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.lines().any(|line| line.starts_with("dbs:"))).map(str::to_owned).collect()
}

/// Fields of the config file's types that the page does not name.
fn missing_keys(source: &str, page: &str) -> Vec<String> {
    let fields =
        source.lines().filter_map(|line| line.trim_start().strip_prefix("pub(super) ")?.split_once(": "));
    let keys =
        fields.map(|(field, _)| if field == "kind" { "type".to_owned() } else { field.replace('_', "-") });
    let ours = keys.filter(|key| key != "others" && !key.contains(' '));
    ours.filter(|key| !page.contains(&format!("`{key}`")))
        .map(|key| format!("`{key}` is not on the page"))
        .collect()
}

mod teeth {
    use super::*;

    #[test]
    fn a_flag_that_does_not_exist_and_one_that_nobody_explains_are_found() {
        let known = BTreeSet::from(["--force".to_owned(), "--json".to_owned()]);
        assert_eq!(differing_flags("| `--force` | `--farce` |\n|---|---|", &known).len(), 2);
    }

    #[test]
    fn a_command_with_a_typing_error_is_found() {
        let page = "    lifeboat restore -o out.db s3://b/p   # fine\n$ lifeboat restore --fource a.db\nlifeboat is a word\n";
        assert_eq!(misunderstood(page).len(), 2);
    }

    #[test]
    fn a_key_that_is_not_on_the_page_is_found() {
        let source = "    pub(super) moon_phase: Option<String>,\n    pub(super) path: Option<String>,\n";
        assert_eq!(missing_keys(source, "`path`"), ["`moon-phase` is not on the page"]);
    }
}
