//! Cutting the next slot, when it is due.

use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_replica::flush::Decision;
use lifeboat_wal::PageCount;

use super::large::Route;
use super::{Capture, Finish, Report};
use crate::backlog::Backlog;
use crate::board::Post;
use crate::clock::millis;
use crate::database::Pages;
use crate::disk;
use crate::exit::{Exit, Failure};
use crate::limits::Turn;
use crate::pulse::Pulse;
use crate::show;
use crate::slot_file::{Cut, MEMORY_BYTES_MAX, NextSlot, SlotFile, Spool, bytes_at_most, cut_while};

/// What a view was good for.
enum Viewed {
    Cut(Result<Option<Box<SlotFile>>, Failure>),
    MustAsk,
    MustSpool,
    MustSpoolBeside,
    MustStream { turn: Turn, fits_in_file: bool },
}

impl Capture<'_> {
    /// The next slot, if one is due, or what must be asked before.
    pub(super) fn cut_if_due(&mut self) -> Result<Option<Report>, Failure> {
        let Some(next) = self.next else { return Ok(None) };
        self.flush.looked(!self.dirty.is_empty());
        if self.rest().is_some() || self.large.is_asked() {
            return Ok(None);
        }
        if self.dirty.is_empty() && self.finish == Finish::Wanted {
            self.finish = Finish::Cut;
        }
        if self.finish == Finish::Cut
            || self.flush.decide(self.now(), !self.dirty.is_empty()) != Decision::Cut
        {
            return Ok(None);
        }
        if self.derived.take_wanted() { self.cut_and_keep_view(next) } else { self.cut(next) }
    }

    pub(super) fn cut(&mut self, next: NextSlot) -> Result<Option<Report>, Failure> {
        if self.must_ask_before_view() {
            return Ok(Some(Report::Spool));
        }
        let viewed = match self.database.view(&mut self.dirty) {
            Ok(view) => {
                let pages = view.pages();
                tell_version(&pages, &self.task.path, self.post, &mut self.is_version_known);
                // A view that keeps the application from committing must not wait for the network.
                let bytes = bytes_at_most(pages.page_count(), pages.page_size(), &self.dirty, &self.sums);
                let route = if view.blocks_writers() {
                    self.large.route_blocking(bytes)
                } else {
                    let room = disk::total_and_free_bytes(&self.task.folder);
                    self.large.route(bytes, room, self.task.reserve)
                };
                let viewed = match route {
                    Route::Local if bytes > MEMORY_BYTES_MAX && !view.blocks_writers() => {
                        Viewed::MustSpoolBeside
                    }
                    Route::Local | Route::Memory => {
                        let dirty = self.dirty.clone();
                        let spool = Spool { folder: &self.task.folder, reserve: self.task.reserve };
                        let spool = matches!(route, Route::Local).then_some(spool);
                        let goes_on = beating(self.post.pulse());
                        match cut_while(&pages, dirty, &mut self.sums, next, spool, goes_on) {
                            Ok(Cut::TooLarge) => Viewed::MustSpool,
                            Ok(Cut::Nothing) => Viewed::Cut(Ok(None)),
                            Ok(Cut::Slot(slot)) => {
                                let changed = &slot.changed;
                                self.large.was_cut(slot.body.len());
                                self.notes.cut(next.txid.get(), &self.sums, changed, &self.dirty, &view);
                                Viewed::Cut(Ok(Some(slot)))
                            }
                            Err(failure) => Viewed::Cut(Err(failure)),
                        }
                    }
                    Route::Ask => Viewed::MustAsk,
                    Route::Stream { turn, fits_in_file } => Viewed::MustStream { turn, fits_in_file },
                };
                Ok((viewed, view.still_dirty().clone()))
            }
            Err(error) => Err(error),
        };
        match viewed {
            Ok((Viewed::MustStream { turn, fits_in_file }, _)) => self.stream(next, turn, fits_in_file),
            Ok((Viewed::MustSpoolBeside, _)) => self.spool(next),
            Ok((Viewed::MustAsk, _)) => Ok(Some(Report::Large)),
            Ok((Viewed::MustSpool, _)) => {
                self.large.needs_file();
                Ok(Some(Report::Spool))
            }
            Ok((Viewed::Cut(Ok(slot)), still_dirty)) => {
                self.dirty = still_dirty;
                self.is_cut(next, slot)
            }
            Ok((Viewed::Cut(Err(failure)), _)) => self.give_up_cut(failure).map(|()| None),
            Err(error) => self.endure(error).map(|()| None),
        }
    }

    /// A view of a database without a WAL keeps its application from committing. None is opened only to learn that the slot
    /// must go through a file.
    fn must_ask_before_view(&mut self) -> bool {
        if !self.database.is_written_in_place() {
            return false;
        }
        // Where that cannot be said, the view says it.
        let length = self.database.path().metadata().map_or(0, |file| file.len());
        let page_size = self.database.page_size();
        let pages = u32::try_from(length / u64::from(page_size.get())).unwrap_or(u32::MAX);
        let bytes = bytes_at_most(PageCount::new(pages), page_size, &self.dirty, &self.sums);
        // Without a WAL a commit makes every page dirty, whatever it changed. Only some are what a start found to differ.
        let is_certain = self.sums.checksum().is_none() || !self.dirty.is_all();
        self.large.asks_before_view(bytes, is_certain)
    }

    pub(super) fn is_cut(
        &mut self,
        next: NextSlot,
        slot: Option<Box<SlotFile>>,
    ) -> Result<Option<Report>, Failure> {
        let Some(slot) = slot else {
            // What was written is what the bucket has already.
            self.finish.cut();
            self.count_gained();
            self.waiting = Backlog::default();
            self.flush.nothing_to_cut();
            self.healed();
            self.post.nothing_to_store();
            return Ok(None);
        };
        self.sets_off();
        self.next = Some(next.after(slot.post_apply)?);
        Ok(Some(Report::Slot(slot)))
    }

    /// A slot with everything that waited is on its way.
    pub(super) fn sets_off(&mut self) {
        self.finish.cut();
        self.count_gained();
        // Also what nobody saw coming: the first slot after a start is cut in the turn that finds it.
        self.waiting.begin();
        let cut = std::mem::take(&mut self.waiting);
        // After that, because what waited is forgotten with the trouble.
        self.healed();
        self.tell_lost(cut);
        self.flush.cut(self.now());
        self.post.paced(self.flush.requests_per_day());
        self.flying = cut;
    }

    /// Commits of more than one interval in one slot: the moments between them cannot be restored.
    fn tell_lost(&self, cut: Backlog) {
        let waited = cut.since.map_or(Duration::ZERO, |since| since.elapsed());
        if self.task.rhythm.is_broken_by(millis(waited)) && self.post.squashed(waited) {
            tracing::warn!(
                "{}: {waited:.1?} of commits had to go into one slot; of that time only the end can be restored",
                self.task.path.display()
            );
        }
    }

    /// A slot that could not be written down is cut anew later; its pages stay dirty.
    pub(super) fn give_up_cut(&mut self, failure: Failure) -> Result<(), Failure> {
        if failure.exit != Exit::Unavailable {
            return Err(failure);
        }
        tracing::error!("{failure}; trying again in {CUT_AGAIN:?}");
        self.post.troubled(&failure);
        self.large.is_without_room();
        self.not_before = Some(Instant::now() + CUT_AGAIN);
        Ok(())
    }
}

/// Reading every page of a large database takes long. That the thread gets on shows every few of them.
fn beating(pulse: &Pulse) -> impl FnMut() -> bool {
    let mut pages = 0_u32;
    move || {
        pages = pages.wrapping_add(1);
        if pages.is_multiple_of(BEAT_EVERY) {
            pulse.beats();
        }
        true
    }
}

/// Says once which SQLite the application has, and what is wrong with that.
fn tell_version(pages: &Pages<'_>, path: &Path, post: &Post, is_known: &mut bool) {
    if std::mem::replace(is_known, true) {
        return;
    }
    // Who cannot be asked for this cannot be read either, and that is said by whoever reads.
    let Some(version) = pages.written_by().ok().flatten() else { return };
    if post.written_by(version) && version.has_wal_reset_race() {
        tracing::warn!("{}", show::race(&path.display().to_string(), &version.to_string()));
    }
}

const BEAT_EVERY: u32 = 64;
/// How long after a slot could not be written down the next attempt is made.
const CUT_AGAIN: Duration = Duration::from_secs(10);
