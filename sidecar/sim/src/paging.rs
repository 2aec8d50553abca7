//! What a writer does with pages, in worlds from a seed: it follows, cuts slots of real bytes, and reads merged files from views.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use lifeboat_ltx::{Checksum, Header, Txid, decode_whole};
use lifeboat_replica::compaction::{Past, Survey};
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::layout::Level;
use lifeboat_replica::page_log::{FileStamp, LogIdentity};
use lifeboat_replica::page_sums::PageSums;
use lifeboat_replica::slot::{WriteAnswer, next};

use crate::bucket::Write;
use crate::content::{File, Place};
use crate::following::{Cut, Following, Noted};
use crate::image::{Image, Unseen};
use crate::invariant::{Invariant, Violation};
use crate::marks::Mark;
use crate::rules::Rule;
use crate::sqlite::Sqlite;
use crate::truth::place_of;
use crate::volume::{FILE_ID, Volume};
use crate::world::{How, Plan, State, Step, World, name};
use crate::writing::{Flight, Writer};

impl Writer {
    /// Begins to follow, where databases have pages.
    pub(crate) fn follow(&mut self, world: &World, state: &mut State, plan: &Plan, newest: u64) {
        let (Some(_), now) = (&world.pages, state.now) else { return };
        let floor = self.opened.head.floor(Level::CAPTURED);
        let end = self.end;
        let Some(volume) = state.volumes.get_mut(plan.volume).map(Rc::make_mut) else { return };
        let boot_id = volume.boot_id();
        let noted = Noted { log: &volume.log.0, newest, boot_id: &boot_id };
        let Some(sqlite) = &mut volume.sqlite.0 else { return };
        let following = Following::begin(sqlite, end, floor, &noted, now);
        sqlite.pin();
        if following.is_resumed {
            state.reached(Mark::Resumed);
        }
        self.following = Unseen(Some(Box::new(following)));
    }

    /// Whether it has something to store, as soon as its rhythm allows.
    pub(crate) fn waits(&self, state: &State, plan: &Plan) -> bool {
        let sqlite = state.volumes.get(plan.volume).and_then(|volume| volume.sqlite.0.as_ref());
        let following = self.following.0.as_ref();
        following.zip(sqlite).is_some_and(|(following, sqlite)| following.wants(sqlite, state.now).waits)
    }

    /// What it may do next, where databases have pages.
    pub(crate) fn paged_steps(&self, state: &State, (at, plan): (usize, &Plan), steps: &mut Vec<Step>) {
        let sqlite = state.volumes.get(plan.volume).and_then(|volume| volume.sqlite.0.as_ref());
        let Some(sqlite) = sqlite else { return };
        let Some(following) = &self.following.0 else {
            steps.push(Step::Look(at));
            return;
        };
        let wants = following.wants(sqlite, state.now);
        if wants.look {
            steps.push(Step::Look(at));
        }
        if wants.cut && self.flight.is_none() {
            steps.push(Step::Cut(at));
        }
        if following.due.is_some() {
            crate::process::push(steps, state, true, |how| Step::Derive(at, how));
        }
    }
}

/// The follower looks at the WAL.
pub(crate) fn look(
    world: &World,
    state: &mut State,
    (at, plan): (usize, &Plan),
    writer: &mut Writer,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) {
    if writer.following.0.is_none() {
        let newest = writer.newest_pages;
        writer.follow(world, state, plan, newest);
        say(format_args!("{} begins to follow", name(at)));
        return;
    }
    let mut is_whole = true;
    if let (Some(following), Some(volume)) = (&mut writer.following.0, state.volumes.get_mut(plan.volume))
        && let Some(sqlite) = &mut Rc::make_mut(volume).sqlite.0
    {
        is_whole = following.look(sqlite, world.without != Some(Rule::RescanAfterBreak));
        if world.without != Some(Rule::PinMoves) {
            sqlite.pin();
        }
    }
    say(format_args!("{} reads the WAL; nothing is missing: {is_whole}", name(at)));
    if !is_whole {
        state.reached(Mark::WalBroken);
    }
}

/// The next slot, if anything changed.
pub(crate) fn cut(
    world: &World,
    state: &mut State,
    (at, plan): (usize, &Plan),
    writer: &mut Writer,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), Violation> {
    look(world, state, (at, plan), writer, say);
    let txid = next(writer.end.txid).ok_or_else(|| Violation::new(Invariant::Live, "no txid is left"))?;
    let cut = for_slot(world, state, plan, writer, txid);
    let Some(volume) = state.volumes.get_mut(plan.volume).map(Rc::make_mut) else { return Ok(()) };
    let (Some(following), Some(view)) = (&mut writer.following.0, volume.view(world)) else { return Ok(()) };
    let view = Rc::new(view);
    let stamp = volume.sqlite.0.as_ref().map_or(NO_FILE, Sqlite::stamp);
    let bytes = following.cut(&view, &cut, (&mut volume.log.0, stamp));
    let bytes = bytes.map_err(|error| Violation::new(Invariant::Exact, format!("slot {txid}: {error}")))?;
    let Some((header, bytes)) = bytes else {
        say(format_args!("{} finds that nothing changed", name(at)));
        state.reached(Mark::NothingChanged);
        return Ok(());
    };
    let to = volume.database.clone().unwrap_or_default();
    say(format_args!("{} cuts slot {txid} with commits {:?}", name(at), to.numbers));
    let says = header.mark.map(|mark| mark.post_apply);
    if says != Some(to.checksum()) {
        let what = format!("slot {txid} lacks something of commits {:?}", to.numbers);
        return Err(Violation::new(Invariant::NothingLost, what));
    }
    let from = crate::writing::stored(state, writer);
    let file = File::with_bytes(Place::slot(txid), header, bytes, (from, to));
    writer.flight = Some(Flight { file: Rc::new(file), is_reading: false });
    Ok(())
}

fn for_slot(world: &World, state: &State, plan: &Plan, writer: &Writer, txid: Txid) -> Cut {
    Cut {
        txid,
        epoch: writer.opened.head.epoch,
        pre_apply: writer.end.checksum.unwrap_or(Checksum::EMPTY),
        now: (state.now, state.wall(world, plan.volume)),
    }
}

/// A slot is proved to be stored.
pub(crate) fn stored(world: &World, state: &mut State, plan: &Plan, writer: &mut Writer, txid: Txid) {
    let identity = |volume: &Volume| LogIdentity {
        lineage: writer.opened.head.lineage.clone(),
        boot_id: volume.boot_id(),
        file_id: FILE_ID.to_owned(),
    };
    let now = state.now;
    if let (Some(following), Some(volume)) = (&mut writer.following.0, state.volumes.get_mut(plan.volume)) {
        let volume = Rc::make_mut(volume);
        let identity = identity(volume);
        following.stored(txid, identity, &mut volume.log.0, now);
        if following.compaction.needs_past(now) {
            let end = following.compaction.past_end();
            let past = past(state, end, state.wall(world, plan.volume));
            following.compaction.learned(past, now);
            state.reached(Mark::PastLearned);
        }
    }
}

/// What was stored before this process, as `sidecar/src/survey.rs` looks it up.
fn past(state: &State, end: u64, wall_ms: i64) -> Past {
    let Some(survey) = Survey::of(&state.bucket.inventory(), end) else { return Past::unreadable(end) };
    let header = |file: &&FileEntry| Some((file.key.clone(), state.file(file)?.header.clone()));
    let headers: BTreeMap<String, Header> = survey.headers().iter().filter_map(header).collect();
    let pages = |file: &&FileEntry| {
        let read = decode_whole(state.file(file)?.bytes.0.as_deref()?).ok()?;
        let mut pages = DirtyPages::new();
        read.pages.iter().for_each(|(page, _)| pages.insert(*page));
        Some((file.key.clone(), pages))
    };
    let pages = survey.indexes().iter().filter_map(pages).collect();
    survey.past(&headers, &pages, wall_ms)
}

/// Writes the merged file that is due, from the view that was kept.
pub(crate) fn derive(
    world: &World,
    state: &mut State,
    (at, plan): (usize, &Plan),
    writer: &mut Writer,
    how: How,
    say: &mut dyn FnMut(fmt::Arguments<'_>),
) -> Result<(), Violation> {
    let Some((mut job, mut view)) = writer.following.0.as_mut().and_then(|following| following.due.take())
    else {
        return Ok(());
    };
    if world.without == Some(Rule::DerivedFilesAreTrue)
        && let Some(present) = state.volumes.get(plan.volume).and_then(|volume| volume.view(world))
    {
        job.post_apply = present.checksum;
        view = Rc::new(present);
    }
    let place = Place { level: job.level, min: job.name.min(), max: job.name.max() };
    let cut = for_slot(world, state, plan, writer, place.max);
    let made = Following::derived(&job, &view, &cut);
    let (header, bytes) = made
        .map_err(|error| Violation::new(Invariant::Exact, format!("{place} cannot be written: {error}")))?;
    let ends = [place.min.get() - 1, place.max.get()].map(|txid| state.truth.at(txid).unwrap_or_default());
    let [from, to] = ends;
    let file = File::with_bytes(place, header, bytes, (from, to));
    let size = file.entry.size;
    let write = Write::Create(Rc::new(file));
    say(format_args!("{}: {write}", name(at)));
    let answer = state.send(world, write, how)?;
    say(format_args!("{answer:?}"));
    state.reached(if place.level == Level::SNAPSHOT { Mark::Snapshot } else { Mark::Merged });
    let now = state.now;
    if let Some(following) = &mut writer.following.0 {
        match answer {
            WriteAnswer::Done | WriteAnswer::Rejected => following.compaction.written(size),
            WriteAnswer::Unclear => following.compaction.given_up(now),
        }
    }
    Ok(())
}

/// The page log that a restore leaves beside the database.
pub(crate) fn log_of(image: &Image, lineage: &str, boot_id: String, txid: u64) -> Vec<u8> {
    let numbered = (1..).filter_map(lifeboat_wal::PageNo::try_new).zip(&image.pages);
    let sums = numbered.map(|(page, image)| lifeboat_ltx::PageChecksum::of(page, image)).collect();
    let identity = LogIdentity { lineage: lineage.to_owned(), boot_id, file_id: FILE_ID.to_owned() };
    let base =
        lifeboat_replica::page_log::base(&identity, image.page_size, txid, &PageSums::known(sums), None);
    base.unwrap_or_default()
}

/// The newest snapshot that is older than the window, by the time in its header and by this machine's clock.
pub(crate) fn beginning(world: &World, state: &State, plan: &Plan, inventory: &Inventory) -> Option<Txid> {
    let snapshots = inventory.files().iter().filter(|file| file.level == Level::SNAPSHOT);
    let snapshots = snapshots.filter(|file| file.max > Txid::FIRST);
    let (now, window) =
        (state.wall(world, plan.volume), world.pages.as_ref().map_or(0, |shape| shape.window_ms));
    let is_old = |file: &&FileEntry| {
        world.pages.is_none()
            || state
                .bucket
                .files
                .get(&place_of(file))
                .is_some_and(|file| file.header.timestamp_ms <= now - window)
    };
    snapshots.filter(is_old).map(|file| file.max).max()
}

const NO_FILE: FileStamp = FileStamp { bytes: 0, modified: (0, 0) };
