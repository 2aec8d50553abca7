//! Writes what was measured, for people and for programs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::budgets::BUDGETS;
use crate::databases::Equal;
use crate::rounds::Round;
use crate::scenario::Scenario;

/// Where and of what the measurements were made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Origin {
    /// When they began, RFC 3339 in UTC.
    pub(crate) time: String,
    /// The machine.
    pub(crate) machine: String,
    /// The programs' versions.
    pub(crate) versions: Vec<String>,
    /// The command's settings.
    pub(crate) settings: String,
}

#[derive(Serialize)]
struct Document<'a> {
    origin: &'a Origin,
    rounds: &'a [Round],
}

/// Writes `<stem>.json` and `<stem>.md`.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn write(folder: &Path, stem: &str, origin: &Origin, rounds: &[Round]) -> Result<()> {
    fs::create_dir_all(folder)?;
    let json = serde_json::to_string_pretty(&Document { origin, rounds })?;
    let put = |suffix: &str, text: String| {
        let path = folder.join(format!("{stem}.{suffix}"));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    put("json", json + "\n")?;
    put("md", page(stem, origin, rounds)?)
}

fn page(stem: &str, origin: &Origin, rounds: &[Round]) -> Result<String> {
    let mut page = format!("# Measurements of {stem}\n\n");
    writeln!(page, "Begun {}. {}\n\n{}\n", origin.time, origin.machine, origin.settings)?;
    for version in &origin.versions {
        writeln!(page, "- {version}")?;
    }
    writeln!(page, "\n[README.md](../README.md) says how they were made and how to read them.\n")?;
    write_budgets(&mut page, rounds)?;
    writeln!(page, "\n## Every round\n")?;
    for scenario in Scenario::ALL {
        write_rounds(&mut page, scenario, rounds)?;
    }
    Ok(page)
}

/// A table of all promises of which something was measured.
///
/// # Errors
/// Never: a `String` takes everything.
pub(crate) fn write_budgets(page: &mut String, rounds: &[Round]) -> Result<()> {
    writeln!(
        page,
        "## Budgets\n\n| scenario | number | budget | middle | rounds | |\n|---|---|---|---:|---|---|"
    )?;
    for budget in BUDGETS {
        let Some(judged) = budget.judge(rounds) else { continue };
        let (scenario, rule) = (budget.scenario.name(), budget.rule.sentence());
        let all: Vec<_> = judged.rounds.iter().map(|value| short(*value)).collect();
        let word = if judged.is_kept { "kept" } else { "**missed**" };
        writeln!(
            page,
            "| {scenario} | {} | {rule} | {} | {} | {word} |",
            budget.number,
            short(judged.middle),
            all.join(" ")
        )?;
    }
    Ok(())
}

fn write_rounds(page: &mut String, scenario: Scenario, rounds: &[Round]) -> Result<()> {
    let rounds: Vec<_> = rounds.iter().filter(|round| round.scenario == scenario).collect();
    if rounds.is_empty() {
        return Ok(());
    }
    let names: BTreeSet<_> = rounds.iter().flat_map(|round| round.numbers.keys().copied()).collect();
    writeln!(page, "### {}: {}\n", scenario.name(), scenario.sentence())?;
    writeln!(
        page,
        "| sidecar, round | {} | restored |",
        names.iter().copied().collect::<Vec<_>>().join(" | ")
    )?;
    writeln!(page, "|---|{}---|", "---:|".repeat(names.len()))?;
    let mut variants = scenario.variants().to_vec();
    variants.sort();
    for variant in variants {
        for round in rounds.iter().filter(|round| round.variant == variant) {
            let cells = names
                .iter()
                .map(|name| round.numbers.get(name).map_or_else(|| "–".to_owned(), |value| short(*value)));
            let restored = match round.restored {
                None => "–",
                Some(Equal::Bytes) => "same bytes",
                Some(Equal::Rows) => "same rows",
            };
            let cells = cells.collect::<Vec<_>>().join(" | ");
            writeln!(page, "| {} {} | {cells} | {restored} |", variant.name(), round.round)?;
        }
    }
    writeln!(page)?;
    Ok(())
}

/// With about three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value == value.trunc() => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::Numbers;
    use crate::sidecar::Variant;

    #[test]
    fn a_page_shows_every_round_and_names_what_was_missed() {
        let round = |variant, cpu| Round {
            scenario: Scenario::Paced,
            variant,
            round: 1,
            numbers: Numbers::from([("cpu_s", cpu)]),
            restored: (variant != Variant::None).then_some(Equal::Bytes),
        };
        let rounds = [round(Variant::Lifeboat, 1.0), round(Variant::Litestream, 2.0)];
        let origin = Origin {
            time: "2026-11-23T00:00:00Z".to_owned(),
            machine: "two cores".to_owned(),
            versions: vec!["lifeboat 0.1.0".to_owned()],
            settings: "quick".to_owned(),
        };
        let page = page("today", &origin, &rounds).unwrap();
        assert!(
            page.contains("| paced | cpu_s | ≤ 0.3 of Litestream's | 0.500 | 0.500 | **missed** |"),
            "{page}"
        );
        assert!(page.contains("| litestream 1 | 2 | same bytes |"), "{page}");
    }

    #[test]
    fn numbers_have_about_three_digits() {
        assert_eq!(
            [1234.5, 12.345, 1.2345, 0.012_34, 0.0].map(short),
            ["1234", "12.3", "1.23", "0.012", "0"]
        );
    }
}
