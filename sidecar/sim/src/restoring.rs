//! A restore beside everything else: one request after the other, as `lifeboat restore` makes them.

use std::fmt;
use std::rc::Rc;

use lifeboat_replica::PlanError;
use lifeboat_replica::head::Head;
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::layout::Level;
use lifeboat_replica::restore::Target;
use lifeboat_replica::restore::detour::Detour;

use crate::content::File;
use crate::invariant::{Invariant, Violation};
use crate::marks::Mark;
use crate::rules::Rule;
use crate::truth::{place_of, require_pages};
use crate::visited::fingerprint;
use crate::world::{How, State, Step, World};

/// A restore of the newest state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Restoring {
    at: At,
    /// What was acknowledged when it began: less than that it must not give.
    least: u64,
    /// The inventory that this plan was made from.
    current: u128,
    /// The inventory of the plan that failed last.
    failed: Option<u128>,
    plans: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum At {
    #[default]
    Rest,
    /// So many groups of levels are listed.
    Listing(usize, Vec<FileEntry>, Option<Head>),
    /// The files of the plan that are to be read, oldest first; and those that were, newest first.
    Reading(Vec<FileEntry>, Vec<Rc<File>>),
}

impl Restoring {
    /// What may happen next.
    pub fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        if self.at != At::Rest || (state.left.restores > 0 && state.truth.acknowledged > 0) {
            steps.push(Step::Restore(How::Answered));
            if matches!(self.at, At::Listing(..)) && state.left.failed > 0 {
                steps.push(Step::Restore(How::Failed));
            }
        }
    }
}

/// The next request.
///
/// # Errors
/// It ended with something that was never acknowledged, or with less, or with a complaint about files that are in order.
pub fn go_on(
    world: &World,
    state: &mut State,
    how: How,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), Violation> {
    if how == How::Failed {
        state.left.failed = state.left.failed.saturating_sub(1);
        say(format_args!("a list of the restore fails"));
    }
    if how == How::Failed && world.without != Some(Rule::FailureIsNoAnswer) {
        return Ok(());
    }
    let mut restoring = (*state.restoring).clone();
    match std::mem::take(&mut restoring.at) {
        At::Rest => {
            state.left.restores -= 1;
            restoring = Restoring { least: state.truth.acknowledged, ..Restoring::default() };
            list(world, state, &mut restoring, (0, Vec::new(), None), how, say)?;
        }
        At::Listing(group, files, head) => {
            list(world, state, &mut restoring, (group, files, head), how, say)?;
        }
        At::Reading(files, read) => go_on_reading(world, state, &mut restoring, (files, read), say)?,
    }
    state.restoring = Rc::new(restoring);
    Ok(())
}

fn list(
    world: &World,
    state: &mut State,
    restoring: &mut Restoring,
    (group, mut files, mut head): (usize, Vec<FileEntry>, Option<Head>),
    how: How,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), Violation> {
    let read_head = || state.bucket.head.as_ref().map(|head| (**head).clone());
    if world.without == Some(Rule::HeadReadLast) && group == 0 && head.is_none() {
        say(format_args!("the restore reads the head"));
        restoring.at = At::Listing(0, files, read_head());
        return Ok(());
    }
    if let Some(levels) = GROUPS.get(group) {
        say(format_args!(
            "the restore lists levels {:?}",
            levels.iter().map(|level| level.get()).collect::<Vec<_>>()
        ));
        if how != How::Failed {
            files.extend(state.bucket.list(levels));
        }
        restoring.at = At::Listing(group + 1, files, head);
        return Ok(());
    }
    if world.without != Some(Rule::HeadReadLast) {
        say(format_args!("the restore reads the head"));
        head = read_head();
    }
    let counted = if world.without == Some(Rule::DeadFilesIgnored) { None } else { head };
    let inventory = Inventory::new(files, counted);
    restoring.current = fingerprint(&inventory);
    match Detour::default().plan(inventory, Target::Latest) {
        Ok(plan) => {
            let keys: Vec<_> = plan.files().iter().map(|file| file.key.as_str()).collect();
            say(format_args!("it plans {keys:?}"));
            restoring.at = At::Reading(plan.files().to_vec(), Vec::new());
            Ok(())
        }
        Err(error @ (PlanError::Gap { .. } | PlanError::NoBeginning { .. } | PlanError::Outdated)) => {
            state.reached(Mark::PlannedAgain);
            again(restoring, &error.to_string(), say)
        }
        Err(error) => Err(Violation::new(Invariant::Durable, format!("a restore fails: {error}"))),
    }
}

/// Reads the newest file that was not read yet.
fn go_on_reading(
    world: &World,
    state: &mut State,
    restoring: &mut Restoring,
    (mut files, mut read): (Vec<FileEntry>, Vec<Rc<File>>),
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), Violation> {
    if let Some(wanted) = files.pop() {
        say(format_args!("the restore reads {}", place_of(&wanted)));
        let found = state.bucket.files.get(&place_of(&wanted));
        match found {
            Some(file) if file.entry.etag == wanted.etag => read.push(Rc::clone(file)),
            _ if world.without == Some(Rule::ListedVersions) => read.extend(found.map(Rc::clone)),
            Some(_) => return again(restoring, "it is another one than was listed", say),
            None => return again(restoring, "it is gone", say),
        }
    }
    if !files.is_empty() {
        restoring.at = At::Reading(files, read);
        return Ok(());
    }
    state.reached(Mark::RestoreDone);
    let reached = read.first().map_or(0, |file| file.place.max.get());
    say(format_args!("the restore ends at txid {reached}"));
    state.truth.require_state(read.iter().rev().map(Rc::as_ref), reached, restoring.least)?;
    match (&world.pages, state.truth.at(reached)) {
        (Some(_), Some(commits)) => {
            read.reverse();
            require_pages(&read, &commits).map(|_| ())
        }
        (None, _) | (_, None) => Ok(()),
    }
}

/// Plans anew, unless nothing moved since the last time: then files are missing.
fn again(
    restoring: &mut Restoring,
    why: &str,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), Violation> {
    if restoring.failed.replace(restoring.current) == Some(restoring.current) {
        return Err(Violation::new(
            Invariant::Live,
            format!("a restore reports damage where there is none: {why}"),
        ));
    }
    say(format_args!("{why}; it looks again"));
    restoring.plans += 1;
    restoring.at = if restoring.plans < PLANS_MAX { At::Listing(0, Vec::new(), None) } else { At::Rest };
    Ok(())
}

/// The levels, in the order in which they are listed; those that no world uses come along with one that is.
const GROUPS: [&[Level]; 3] = [&[Level::CAPTURED], &Level::MERGED, &[Level::SNAPSHOT]];
/// A restore that is planned anew so often is left alone here.
const PLANS_MAX: u8 = 3;
