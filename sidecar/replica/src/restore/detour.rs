//! Another way to the same target, where a file of a plan was found damaged.
//!
//! In:  which files are suspected, and why; then an inventory and the target, as before.
//! Out: a plan without them that ends at exactly the same state, or none.
//!
//! A merged file holds what the slots did that it merged, and these often are still there. The target stays what it would be
//! with every file: what cannot be read does not turn the newest state into an older one.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_ltx::Txid;

use super::{RestorePlan, Target, choose, newest, onward, witness};
use crate::error::PlanError;
use crate::inventory::{FileEntry, Inventory};

/// The files that a restore must do without. At first there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detour {
    /// By the keys of files.
    avoided: BTreeMap<String, Avoided>,
    /// One of these must be damaged, and nobody knows which.
    suspects: Option<(Vec<String>, String)>,
}

/// A file that brings a copy onward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onward {
    /// The file.
    pub file: FileEntry,
    /// Where it replaces the whole copy, so that nothing of that contradicts it: another file that says what the state at its
    /// end is, if there is one.
    pub witness: Option<FileEntry>,
}

/// Why a file is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Avoided {
    what: String,
    /// Its own bytes say so. Else it contradicts others, and goes on doing so: no restore may end up with what it contradicts
    /// by giving it up.
    is_torn: bool,
}

impl Detour {
    /// One of the files with these keys must be damaged, because of what was met.
    pub fn suspect(&mut self, keys: Vec<String>, what: &str) {
        self.suspects = Some((keys, what.to_owned()));
    }

    /// The file with this key is damaged.
    pub fn avoid(&mut self, key: &str, what: &str) {
        self.avoided.insert(key.to_owned(), Avoided { what: what.to_owned(), is_torn: true });
    }

    /// Plans the restore of a target without the files that were suspected: without all of them if that is possible, else
    /// without as few as one. These are given up for good.
    ///
    /// # Errors
    /// [`PlanError`] where no files lead there, or there are no other ones.
    pub fn plan(&mut self, inventory: Inventory, target: Target) -> Result<RestorePlan, PlanError> {
        let mut failed = None;
        for option in self.options(&inventory) {
            match choose(&inventory, target, &option) {
                Ok(chosen) => {
                    let witness = witness(&inventory, &chosen, |key| self.is_torn(key));
                    self.give_up(option);
                    return Ok(RestorePlan { files: taken(inventory, &chosen), witness });
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        // Where only files are suspected that were given up before, whoever asks knows why.
        Err(failed.unwrap_or(PlanError::EmptyReplica))
    }

    /// The file with this key is sound, and contradicts what is known to be right.
    pub fn contradicted(&mut self, key: &str, what: &str) {
        self.avoided.insert(key.to_owned(), Avoided { what: what.to_owned(), is_torn: false });
    }

    /// Plans how a copy that stands at `from` is brought to the newest state, without the files that were given up: by what
    /// goes on from there, or else from a snapshot. A snapshot contradicts no copy, so where anything did, none is used.
    ///
    /// # Errors
    /// [`PlanError`] where no files lead there now.
    pub fn plan_onward(&mut self, inventory: &Inventory, from: Txid) -> Result<Vec<Onward>, PlanError> {
        if inventory.is_outdated() {
            return Err(PlanError::Outdated);
        }
        if let Some(newest) = Txid::try_new(newest(inventory)).filter(|newest| *newest < from) {
            return Err(PlanError::SetBack { from, newest });
        }
        let mut failed = None;
        for option in self.options(inventory) {
            let is_usable = |file: &FileEntry| !option.contains(&file.key);
            let chosen = match onward(inventory, from, is_usable) {
                Some(chosen) => Ok(chosen),
                None if self.avoided.values().any(|avoided| !avoided.is_torn) => {
                    Err(PlanError::NoWayOn { from })
                }
                None => choose(inventory, Target::Latest, &option),
            };
            match chosen {
                Ok(chosen) => {
                    self.give_up(option);
                    return Ok(self.steps(inventory, &chosen, from));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or(PlanError::NoWayOn { from }))
    }

    fn steps(&self, inventory: &Inventory, chosen: &[usize], from: Txid) -> Vec<Onward> {
        let steps = chosen.iter().enumerate().filter_map(|(n, place)| {
            let file = inventory.files().get(*place).filter(|file| file.max > from)?.clone();
            let is_whole = file.min == Txid::FIRST;
            let upto = chosen.get(..=n).filter(|_| is_whole);
            let witness = upto.and_then(|chosen| witness(inventory, chosen, |key| self.is_torn(key)));
            Some(Onward { file, witness })
        });
        steps.collect()
    }

    /// Whether every file of the replica may be used.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.avoided.is_empty() && self.suspects.is_none()
    }

    /// Whether the file with this key is given up.
    #[must_use]
    pub fn avoids(&self, key: &str) -> bool {
        self.avoided.contains_key(key)
    }

    /// The keys of the files that were given up, and why.
    pub fn avoided(&self) -> impl Iterator<Item = (&str, &str)> {
        self.avoided.iter().map(|(key, avoided)| (key.as_str(), avoided.what.as_str()))
    }

    fn is_torn(&self, key: &str) -> bool {
        let is_only_suspect = self.suspects.as_ref().is_some_and(|(suspects, _)| suspects == &[key]);
        is_only_suspect || self.avoided.get(key).is_some_and(|avoided| avoided.is_torn)
    }

    /// What may be done without, the most likely to help first. What was merged can be had otherwise more often than a slot.
    fn options(&self, inventory: &Inventory) -> Vec<BTreeSet<String>> {
        let without = |keys: &[String]| self.avoided.keys().chain(keys).cloned().collect();
        let Some((suspects, _)) = &self.suspects else { return vec![without(&[])] };
        let is_suspect = |file: &&FileEntry| suspects.contains(&file.key) && !self.avoids(&file.key);
        let mut files: Vec<_> = inventory.files().iter().filter(is_suspect).collect();
        files.sort_by_key(|file| std::cmp::Reverse((file.level, file.max)));
        let all: Vec<_> = files.iter().map(|file| file.key.clone()).collect();
        let each = all.iter().map(|key| without(std::slice::from_ref(key)));
        std::iter::once(without(&all)).filter(|_| !all.is_empty()).chain(each).collect()
    }

    fn give_up(&mut self, keys: BTreeSet<String>) {
        let Some((suspects, what)) = self.suspects.take() else { return };
        let avoided = Avoided { what, is_torn: suspects.len() == 1 };
        for key in keys {
            self.avoided.entry(key).or_insert_with(|| avoided.clone());
        }
    }
}

/// The files at these places. A long list is not kept twice.
fn taken(inventory: Inventory, places: &[usize]) -> Vec<FileEntry> {
    let mut listed: Vec<_> = inventory.into_files().into_iter().map(Some).collect();
    places.iter().filter_map(|place| listed.get_mut(*place)?.take()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::test_file as file;

    fn keys(plan: Result<RestorePlan, PlanError>) -> Option<Vec<String>> {
        Some(plan.ok()?.files.into_iter().map(|file| file.key).collect())
    }

    fn history() -> Inventory {
        let files = vec![
            file(9, 1, 1),
            file(9, 1, 6),
            file(2, 2, 6),
            file(1, 2, 4),
            file(1, 5, 6),
            file(1, 7, 8),
            file(0, 7, 7),
            file(0, 8, 8),
        ];
        Inventory::new(files, None)
    }

    fn without(suspects: &[&[&str]], target: Target) -> (Option<Vec<String>>, Detour) {
        let mut detour = Detour::default();
        for keys in suspects {
            detour.suspect(keys.iter().map(|&key| key.to_owned()).collect(), "torn");
            let _ = detour.plan(history(), target);
        }
        (keys(detour.plan(history(), target)), detour)
    }

    #[test]
    fn a_damaged_snapshot_is_replaced_by_an_older_one_and_a_merged_file_by_what_it_merged() {
        let expect = |suspects: &[&[&str]], files: &[&str]| {
            let (found, detour) = without(suspects, Target::Latest);
            assert_eq!(found.unwrap(), files);
            assert_eq!(detour.avoided().count(), suspects.len());
        };
        expect(&[], &["9/1-6", "1/7-8"]);
        expect(&[&["1/7-8"]], &["9/1-6", "0/7-7", "0/8-8"]);
        expect(&[&["9/1-6"]], &["9/1-1", "2/2-6", "1/7-8"]);
        expect(&[&["9/1-6"], &["2/2-6"]], &["9/1-1", "1/2-4", "1/5-6", "1/7-8"]);
    }

    #[test]
    fn the_newest_state_stays_the_newest_one_when_nothing_leads_there_any_more() {
        let mut detour = Detour::default();
        detour.suspect(vec!["0/9-9".to_owned()], "torn");
        let files = vec![file(0, 8, 8), file(9, 1, 7), file(0, 9, 9)];
        assert_eq!(keys(detour.plan(Inventory::new(files, None), Target::Latest)), None);
        let (found, detour) = without(&[&["1/7-8"], &["0/8-8"]], Target::Latest);
        assert_eq!(found, None);
        assert!(detour.avoids("1/7-8") && !detour.avoids("0/8-8"), "no way was found without it");
    }

    #[test]
    fn of_several_suspects_only_those_are_given_up_that_others_stand_in_for() {
        let (found, detour) = without(&[&["9/1-6", "9/1-1"]], Target::Latest);
        assert_eq!(found.unwrap(), ["9/1-1", "2/2-6", "1/7-8"]);
        assert_eq!(detour.avoided().collect::<Vec<_>>(), [("9/1-6", "torn")]);
        let (found, _) = without(&[&["9/1-6", "1/7-8"]], Target::Latest);
        assert_eq!(found.unwrap(), ["9/1-1", "2/2-6", "0/7-7", "0/8-8"]);
    }

    fn onward(detour: &mut Detour, from: u64) -> Result<Vec<String>, PlanError> {
        let steps = detour.plan_onward(&history(), Txid::try_new(from).unwrap())?;
        Ok(steps.into_iter().map(|step| step.file.key).collect())
    }

    #[test]
    fn a_copy_goes_on_around_a_torn_file_and_by_a_snapshot_only_when_nothing_contradicted_it() {
        let torn = |keys: &[&str], from| {
            let mut detour = Detour::default();
            keys.iter().for_each(|key| detour.avoid(key, "torn"));
            onward(&mut detour, from)
        };
        assert_eq!(torn(&[], 4).unwrap(), ["1/5-6", "1/7-8"]);
        assert_eq!(torn(&["1/7-8"], 4).unwrap(), ["1/5-6", "0/7-7", "0/8-8"]);
        assert_eq!(torn(&["1/5-6"], 4).unwrap(), ["2/2-6", "1/7-8"]);
        assert_eq!(torn(&["1/5-6", "2/2-6"], 4).unwrap(), ["9/1-6", "1/7-8"]);
        assert!(torn(&["1/5-6", "2/2-6", "9/1-6"], 4).is_err());
        let mut contradicted = Detour::default();
        contradicted.avoid("1/5-6", "torn");
        contradicted.contradicted("2/2-6", "it does not continue the copy");
        let from = Txid::try_new(4).unwrap();
        assert_eq!(onward(&mut contradicted, 4), Err(PlanError::NoWayOn { from }));
    }

    #[test]
    fn a_file_that_replaces_the_whole_copy_needs_a_witness() {
        let mut detour = Detour::default();
        detour.avoid("1/5-6", "torn");
        detour.avoid("2/2-6", "torn");
        let steps = detour.plan_onward(&history(), Txid::try_new(4).unwrap()).unwrap();
        let witnesses: Vec<_> =
            steps.iter().map(|step| step.witness.as_ref().map(|file| file.key.as_str())).collect();
        assert_eq!(witnesses, [Some("0/7-7"), None], "torn ones are no witnesses");
    }

    #[test]
    fn a_replica_that_ends_before_the_copy_is_not_one_that_has_nothing_new() {
        let from = Txid::try_new(9).unwrap();
        assert_eq!(
            onward(&mut Detour::default(), 9),
            Err(PlanError::SetBack { from, newest: Txid::try_new(8).unwrap() })
        );
        assert_eq!(onward(&mut Detour::default(), 8).unwrap(), [""; 0]);
    }

    #[test]
    fn what_contradicts_is_not_silenced_by_giving_it_up() {
        let files = || Inventory::new(vec![file(9, 1, 1), file(1, 2, 6)], None);
        let (first, mut detour) = (Target::Txid(Txid::FIRST), Detour::default());
        let witness = |plan: RestorePlan| plan.witness().map(|file| file.key.clone());
        assert_eq!(witness(detour.plan(files(), first).unwrap()).unwrap(), "1/2-6");
        detour.suspect(vec!["9/1-1".to_owned(), "1/2-6".to_owned()], "they differ");
        assert_eq!(witness(detour.plan(files(), first).unwrap()).unwrap(), "1/2-6");
        detour.suspect(vec!["9/1-1".to_owned(), "1/2-6".to_owned()], "they differ");
        assert!(detour.plan(files(), first).is_err());
        let mut detour = Detour::default();
        detour.suspect(vec!["1/2-6".to_owned()], "torn");
        assert_eq!(witness(detour.plan(files(), first).unwrap()), None);
    }
}
