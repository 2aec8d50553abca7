//! Writes what was measured, for people and for programs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::budgets::BUDGETS;
use crate::databases::Equal;
use crate::rounds::Round;
use crate::scenario::Scenario;

/// Where and of what the measurements were made.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// A results file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Of what.
    pub(crate) origin: Origin,
    /// What was measured.
    pub(crate) rounds: Vec<Round>,
}

impl Results {
    /// Those that are there under this name, to be continued; none yet when there are none.
    ///
    /// # Errors
    /// When they are of other programs: numbers of two builds are not put into one table.
    pub(crate) fn open(folder: &Path, stem: &str, origin: Origin) -> Result<Self> {
        let path = folder.join(format!("{stem}.json"));
        if !path.exists() {
            return Ok(Self { origin, rounds: Vec::new() });
        }
        let known: Self =
            serde_json::from_slice(&fs::read(&path)?).with_context(|| format!("read {}", path.display()))?;
        ensure!(
            known.origin.versions == origin.versions && known.origin.settings == origin.settings,
            "{} is about other programs or settings; choose another --name",
            path.display()
        );
        Ok(known)
    }

    /// The number of the last round of a scenario; 0 when there is none.
    pub(crate) fn last_round(&self, scenario: Scenario) -> u32 {
        let rounds = self.rounds.iter().filter(|round| round.scenario == scenario);
        rounds.map(|round| round.round).max().unwrap_or(0)
    }

    /// Writes `<stem>.json` and `<stem>.md`.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn write(&self, folder: &Path, stem: &str) -> Result<()> {
        fs::create_dir_all(folder)?;
        let put = |suffix: &str, text: String| {
            let path = folder.join(format!("{stem}.{suffix}"));
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        put("json", serde_json::to_string_pretty(self)? + "\n")?;
        put("md", page(stem, &self.origin, &self.rounds)?)
    }
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
    let names: BTreeSet<_> = rounds.iter().flat_map(|round| round.numbers.keys()).collect();
    writeln!(page, "### {}: {}\n", scenario.name(), scenario.sentence())?;
    writeln!(
        page,
        "| sidecar, round | {} | restored |",
        names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" | ")
    )?;
    writeln!(page, "|---|{}---|", "---:|".repeat(names.len()))?;
    let mut variants = scenario.variants().to_vec();
    variants.sort();
    for variant in variants {
        for round in rounds.iter().filter(|round| round.variant == variant) {
            let cells = names
                .iter()
                .map(|name| round.numbers.get(*name).map_or_else(|| "–".to_owned(), |value| short(*value)));
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
    use crate::rounds::numbers;
    use crate::sidecar::Variant;

    #[test]
    fn a_page_shows_every_round_and_names_what_was_missed() {
        let round = |variant, cpu| Round {
            scenario: Scenario::Paced,
            variant,
            round: 1,
            numbers: numbers([("cpu_s", cpu)]),
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
    fn results_are_continued_but_never_those_of_another_build() {
        let folder = tempfile::tempdir().unwrap();
        let origin = |commit: &str| Origin {
            time: "2026-11-23T00:00:00Z".to_owned(),
            machine: String::new(),
            versions: vec![format!("lifeboat 0.1.0, commit {commit}")],
            settings: String::new(),
        };
        let mut results = Results::open(folder.path(), "today", origin("a")).unwrap();
        assert_eq!(results.last_round(Scenario::Paced), 0);
        let (scenario, variant, numbers) = (Scenario::Paced, Variant::None, numbers([("cpu_s", 1.0)]));
        results.rounds.push(Round { scenario, variant, round: 2, numbers, restored: None });
        results.write(folder.path(), "today").unwrap();
        let known = Results::open(folder.path(), "today", origin("a")).unwrap();
        assert_eq!((known.last_round(Scenario::Paced), known.last_round(Scenario::First)), (2, 0));
        assert!(Results::open(folder.path(), "today", origin("b")).is_err());
    }

    #[test]
    fn numbers_have_about_three_digits() {
        assert_eq!(
            [1234.5, 12.345, 1.2345, 0.012_34, 0.0].map(short),
            ["1234", "12.3", "1.23", "0.012", "0"]
        );
    }
}
