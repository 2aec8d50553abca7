//! The habits of the house that no compiler knows: sizes, words, promises of the documentation.
//!
//! Each checker is a function over texts, and is shown something untidy below, about which it must complain.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what is wrong by panicking"
)]

mod house;

use std::collections::BTreeSet;
use std::path::Path;

/// A path from the root of the checkout, and the text there.
type File = (String, String);

const LINES_MAX: usize = 500;

/// Words that say nothing, or mean two things here, wherever they stand in the name of a module.
const EMPTY_WORDS: [&str; 18] = [
    "util",
    "utils",
    "common",
    "misc",
    "helper",
    "helpers",
    "manager",
    "handler",
    "handlers",
    "context",
    "info",
    "data",
    "service",
    "backup",
    "generation",
    "sync",
    "impl",
    "base",
];

/// Words that need another one beside them: the index of what?
const WORDS_NEVER_ALONE: [&str; 5] = ["index", "state", "log", "commit", "snapshot"];

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    house::no_complaints(&too_long(&house::files(".rs")));
}

#[test]
fn modules_are_named_by_what_they_are_about() {
    house::no_complaints(&empty_names(&house::files(".rs")));
}

#[test]
fn nothing_is_left_for_later_without_being_said_to_users() {
    let kinds = [".rs", ".sh", ".toml", ".yaml", ".yml", ".md", "Makefile", "Dockerfile", ".tpl"];
    let files: Vec<_> = kinds.iter().flat_map(|kind| house::files(kind)).collect();
    house::no_complaints(&unfinished(&files));
}

#[test]
fn every_reason_has_an_entry_in_the_documentation_and_every_entry_a_reason() {
    let of_the_sidecar = lifeboat_wire::Reason::ALL.iter().map(|reason| reason.as_str());
    let of_the_operator = lifeboat_api::Reason::ALL.iter().map(|reason| reason.as_str());
    let asks_for_nothing = lifeboat_api::Reason::AsExpected.as_str();
    let reasons =
        of_the_sidecar.chain(of_the_operator).filter(|reason| *reason != asks_for_nothing).collect();
    house::no_complaints(&differing_entries(&house::read("docs/errors.md"), &reasons));
}

#[test]
fn every_command_of_the_documentation_is_in_the_makefile() {
    house::no_complaints(&unknown_targets(&house::files(".md"), &house::read("Makefile")));
}

#[test]
fn every_target_explains_itself() {
    house::no_complaints(&unexplained_targets(&house::read("Makefile")));
}

#[test]
fn links_between_pages_lead_somewhere() {
    let exists = |path: &str| house::root().join(path).exists();
    house::no_complaints(&dead_links(&house::files(".md"), exists));
}

#[test]
fn pages_that_are_mentioned_are_there() {
    let kinds = [".rs", ".sh", ".toml", ".yaml", ".yml", ".md", "Makefile", ".txt", ".tpl"];
    let files: Vec<_> = kinds.iter().flat_map(|kind| house::files(kind)).collect();
    house::no_complaints(&missing_pages(&files));
}

fn too_long(files: &[File]) -> Vec<String> {
    let long =
        files.iter().map(|(path, text)| (path, text.lines().count())).filter(|(_, lines)| *lines > LINES_MAX);
    long.map(|(path, lines)| format!("{path} has {lines} lines; split it, {LINES_MAX} are allowed")).collect()
}

fn empty_names(files: &[File]) -> Vec<String> {
    let mut complaints = BTreeSet::new();
    for (path, _) in files {
        let Some((_, module)) = path.split_once("src/") else { continue };
        for name in module.trim_end_matches(".rs").split('/') {
            let is_empty = name.split('_').any(|word| EMPTY_WORDS.contains(&word));
            if is_empty || WORDS_NEVER_ALONE.contains(&name) {
                complaints.insert(format!(
                    "{path}: '{name}' does not say what it is about; docs/glossary.md has the words"
                ));
            }
        }
    }
    complaints.into_iter().collect()
}

/// Lines with a mark for later, or a macro that panics because nobody wrote the code yet.
fn unfinished(files: &[File]) -> Vec<String> {
    // In pieces, or this file would complain about itself.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX:"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut complaints = Vec::new();
    for (path, text) in files {
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(*mark)) {
                let number = number + 1;
                complaints.push(format!(
                    "{path}:{number}: '{mark}': do it, or say in the README that it is not there"
                ));
            }
        }
    }
    complaints
}

/// Reasons without a heading of their own, and headings of a reason that does not exist.
fn differing_entries(page: &str, reasons: &BTreeSet<&str>) -> Vec<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
    let entries: BTreeSet<&str> = headings.map(|heading| heading.trim_matches('`')).collect();
    let missing =
        reasons.difference(&entries).map(|reason| format!("docs/errors.md has no entry '### {reason}'"));
    let stale = entries
        .difference(reasons)
        .map(|entry| format!("docs/errors.md explains {entry}, which nothing says"));
    missing.chain(stale).collect()
}

fn targets(makefile: &str) -> BTreeSet<&str> {
    let rules = makefile.lines().filter_map(|line| line.split_once(':').map(|(name, _)| name));
    rules
        .filter(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || "-0123456789".contains(c))
        })
        .collect()
}

fn unknown_targets(pages: &[File], makefile: &str) -> Vec<String> {
    let known = targets(makefile);
    let mut complaints = Vec::new();
    for (path, text) in pages {
        for target in commands(text).filter_map(|command| command.strip_prefix("make ")) {
            let target = target.split_whitespace().find(|word| !word.contains('=')).unwrap_or("help");
            if !known.contains(target) {
                complaints.push(format!("{path} says `make {target}`, which the Makefile does not know"));
            }
        }
    }
    complaints
}

/// What a page shows as code: the lines of its blocks without prompt, and what stands between single backticks.
fn commands(page: &str) -> impl Iterator<Item = &str> {
    let mut is_block = false;
    page.lines().flat_map(move |line| {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
            return Vec::new();
        }
        if is_block {
            return vec![line.trim_start().trim_start_matches("$ ").trim_start_matches("sudo ")];
        }
        line.split('`').skip(1).step_by(2).collect()
    })
}

fn unexplained_targets(makefile: &str) -> Vec<String> {
    let explained: BTreeSet<_> = targets(makefile)
        .into_iter()
        .filter(|name| {
            makefile.lines().any(|line| line.starts_with(&format!("{name}:")) && line.contains("## "))
        })
        .collect();
    let phony = makefile.lines().filter_map(|line| line.strip_prefix(".PHONY: "));
    let phony: BTreeSet<_> = phony.flat_map(str::split_whitespace).collect();
    let without_help =
        phony.difference(&explained).map(|name| format!("`make help` does not explain {name}"));
    let not_phony =
        explained.difference(&phony).map(|name| format!("{name} is a command and not declared .PHONY"));
    without_help.chain(not_phony).collect()
}

/// Names of pages, anywhere in code or text, that no page of the checkout has.
fn missing_pages(files: &[File]) -> Vec<String> {
    let name_of = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let known: BTreeSet<String> = files.iter().map(|(path, _)| name_of(path)).collect();
    let mut complaints = Vec::new();
    for (path, text) in files {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "_./-".contains(c)));
        let pages =
            words.map(|word| name_of(word.trim_end_matches('.'))).filter(|word| word.ends_with(".md"));
        let missing = pages.filter(|page| !known.contains(page) && page != ".md");
        complaints.extend(missing.map(|page| format!("{path} mentions {page}, and there is no such page")));
    }
    complaints
}

fn dead_links(pages: &[File], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for (page, text) in pages {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let path = Path::new(page).with_file_name(target);
            if !exists(&path.to_string_lossy()) {
                complaints.push(format!("{page} links to {link}, which is not there"));
            }
        }
    }
    complaints
}

mod teeth {
    use super::*;

    fn file(path: &str, text: &str) -> Vec<File> {
        vec![(path.to_owned(), text.to_owned())]
    }

    #[test]
    fn one_line_too_many_is_found() {
        assert_eq!(too_long(&file("a.rs", &"x\n".repeat(LINES_MAX))), [""; 0]);
        assert_eq!(too_long(&file("a.rs", &"x\n".repeat(LINES_MAX + 1))).len(), 1);
    }

    #[test]
    fn an_empty_word_is_found_in_files_and_folders_but_not_inside_other_words() {
        assert_eq!(empty_names(&file("sidecar/src/page_utils.rs", "")).len(), 1);
        assert_eq!(empty_names(&file("sidecar/src/common/mod.rs", "")).len(), 1);
        assert_eq!(empty_names(&file("sidecar/src/index.rs", "")).len(), 1);
        assert_eq!(empty_names(&file("sidecar/ltx/src/page_index.rs", "")), [""; 0]);
        assert_eq!(empty_names(&file("sidecar/src/database/mod.rs", "")), [""; 0]);
    }

    #[test]
    fn work_left_for_later_is_found_with_its_line() {
        let later = format!("fn a() {{}}\n// {}: fsync\n", concat!("TO", "DO"));
        let complaints = unfinished(&file("a.rs", &later));
        assert!(complaints[0].starts_with("a.rs:2: "), "{complaints:?}");
        assert_eq!(unfinished(&file("b.rs", concat!("todo", "!()"))).len(), 1);
    }

    #[test]
    fn a_reason_without_an_entry_and_an_entry_without_a_reason_are_found() {
        let complaints = differing_entries(
            "# Errors\n### ChainGap\n### MoonPhase\n",
            &BTreeSet::from(["ChainGap", "NotWal"]),
        );
        assert_eq!(complaints.len(), 2, "{complaints:?}");
    }

    #[test]
    fn a_command_that_the_makefile_does_not_know_is_found_in_blocks_and_in_sentences() {
        let makefile = ".PHONY: test\ntest: build ## run\n\tcargo test\nX := make\n";
        let page = "Say `make test`, `make LAB=kind test` or `make tset`, and make sure.\n```sh\n$ make demo\nmake test\n```\n";
        let complaints = unknown_targets(&file("README.md", page), makefile);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
    }

    #[test]
    fn a_target_without_explanation_and_one_that_is_not_phony_are_found() {
        assert_eq!(unexplained_targets(".PHONY: a b\na: ## does a\nb: a\n").len(), 1);
        assert_eq!(unexplained_targets("a: ## does a\n").len(), 1);
    }

    #[test]
    fn a_page_that_nobody_else_can_read_is_found() {
        let text = concat!("// see docs/errors.md and secret.m", "d, section 2.");
        let files = [file("a.rs", text), file("docs/errors.md", "")].concat();
        assert_eq!(missing_pages(&files).len(), 1);
    }

    #[test]
    fn a_link_into_the_void_is_found() {
        let pages = file(
            "docs/README.md",
            concat!("[b](b.m", "d#x) [c](../c.m", "d) [web](https://example.org/x) [here](#y)"),
        );
        assert_eq!(dead_links(&pages, |path| path == concat!("docs/b.m", "d")).len(), 1);
    }
}
