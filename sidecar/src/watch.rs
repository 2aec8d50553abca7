//! Sleeps until something may have happened to a database, or somebody wakes it.
//!
//! In:  the path of a database, which need not exist yet, and neither need its folder.
//! Out: a reason to look. Never what happened: that stands in the WAL-index only.
//!
//! Nothing depends on an event: whoever waits also looks from time to time. inotify says nothing of changes made through
//! shared memory, and a machine may have used up its inotify instances (128 for each user, and all sidecars of a node may
//! be one user); then the wait is cut short instead, see [`Watch::trouble`].

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Watches a database, its WAL and its folder.
#[derive(Debug)]
pub struct Watch {
    database: PathBuf,
    /// Where the database lies, links followed as SQLite does: its WAL is beside the file and not beside the link.
    real: PathBuf,
    waker: Waker,
    notices: Result<Inotify, io::Error>,
    folder: Option<WatchDescriptor>,
    wal: Option<WatchDescriptor>,
}

/// Wakes a [`Watch`] from another thread.
#[derive(Clone, Debug)]
pub struct Waker {
    counter: Arc<OwnedFd>,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something happened to the WAL, or to the folder's entries of database and WAL.
    Event,
    /// Somebody called [`Waker::wake`].
    Called,
    /// The time is over.
    Timeout,
}

/// When to look again after an event that brought no news.
///
/// A commit writes its frames, which is the event, perhaps syncs them, and becomes visible only afterwards, without a
/// further event. So one event is followed by looks after 1, 2, 4 … 512 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookAgain {
    pause: Option<Duration>,
}

impl Watch {
    /// Begins to watch. What cannot be watched yet is looked for at every wait.
    ///
    /// # Errors
    ///
    /// When the kernel has no descriptor left for the [`Waker`].
    pub fn new(database: &Path) -> io::Result<Self> {
        let counter = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (database, waker) = (database.to_owned(), Waker { counter });
        let (real, notices) = (database.clone(), Inotify::init());
        let mut watch = Self { database, real, waker, notices, folder: None, wal: None };
        watch.add_missing();
        Ok(watch)
    }

    /// What wakes this watch from another thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Why there will be no events, if that is so; waits are cut short then.
    #[must_use]
    pub fn trouble(&self) -> Option<&io::Error> {
        self.notices.as_ref().err()
    }

    /// Waits for an event or a call, at most as long as `timeout`.
    ///
    /// Several events, or several calls, that came before are reported as one.
    ///
    /// # Errors
    ///
    /// When the operating system cannot wait.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Woken> {
        let until = Instant::now() + if self.trouble().is_some() { timeout.min(BLIND_WAIT) } else { timeout };
        loop {
            self.add_missing();
            let is_in_time = self.poll(until.saturating_duration_since(Instant::now()))?;
            if self.waker.was_called()? {
                return Ok(Woken::Called);
            }
            if self.read_events()? {
                return Ok(Woken::Event);
            }
            if !is_in_time {
                return Ok(Woken::Timeout);
            }
        }
    }

    /// Sleeps until a descriptor is readable; says whether one was before the time was over.
    fn poll(&self, timeout: Duration) -> io::Result<bool> {
        let mut sources = vec![PollFd::new(&self.waker.counter, PollFlags::IN)];
        if let Ok(notices) = &self.notices {
            sources.push(PollFd::new(notices, PollFlags::IN));
        }
        let timeout = Timespec::try_from(timeout).unwrap_or(LONGEST_WAIT);
        match poll(&mut sources, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes all events that are there; says whether one of them is about our database.
    fn read_events(&mut self) -> io::Result<bool> {
        let Ok(notices) = &mut self.notices else { return Ok(false) };
        let name = self.real.file_name().map(OsStr::to_owned).unwrap_or_default();
        let wal_name = with_wal_suffix(&name);
        let (mut is_ours, mut buffer) = (false, [0; EVENT_BYTES]);
        loop {
            let events = match notices.read_events(&mut buffer) {
                Ok(events) => events,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(is_ours),
                Err(error) => return Err(error),
            };
            for event in events {
                let is_wal_entry = event.name == Some(wal_name.as_os_str());
                let is_entry = is_wal_entry || event.name == Some(name.as_os_str());
                is_ours |= is_entry
                    || Some(&event.wd) == self.wal.as_ref()
                    || event.mask.contains(EventMask::Q_OVERFLOW);
                if event.mask.contains(EventMask::IGNORED) {
                    self.folder.take_if(|folder| *folder == event.wd);
                    self.wal.take_if(|wal| *wal == event.wd);
                }
                // The name may lead to another file now.
                if is_wal_entry {
                    self.wal = None;
                }
            }
        }
    }

    /// Watches what could not be watched before. A file that is missing is found by a later wait.
    fn add_missing(&mut self) {
        let Ok(notices) = &mut self.notices else { return };
        if self.folder.is_some() && self.wal.is_some() {
            return;
        }
        let real = self.database.canonicalize().unwrap_or_else(|_| self.database.clone());
        if real != self.real {
            (self.real, self.folder, self.wal) = (real, None, None);
        }
        let mut watches = notices.watches();
        if self.folder.is_none() {
            let folder = self.real.parent().filter(|folder| !folder.as_os_str().is_empty());
            self.folder = watches.add(folder.unwrap_or_else(|| Path::new(".")), ENTRIES).ok();
        }
        if self.wal.is_none() {
            self.wal = watches.add(with_wal_suffix(self.real.as_os_str()), WatchMask::MODIFY).ok();
        }
    }
}

impl Waker {
    /// Wakes the watch now, or at its next wait.
    pub fn wake(&self) {
        // Fails only when the counter is full, and then the watch is about to wake anyway.
        let _ = rustix::io::write(&self.counter, &1_u64.to_ne_bytes());
    }

    /// Takes the calls made until now.
    fn was_called(&self) -> io::Result<bool> {
        match rustix::io::read(&self.counter, &mut [0_u8; 8]) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl LookAgain {
    /// No look is due.
    #[must_use]
    pub const fn new() -> Self {
        Self { pause: None }
    }

    /// An event came: looks are due from now on, the first soon.
    pub const fn event(&mut self) {
        self.pause = Some(FIRST_LOOK);
    }

    /// News came, so the event is explained.
    pub const fn news(&mut self) {
        self.pause = None;
    }

    /// How long to wait for the next look, and moves on to the one after; `None` when no look is due.
    pub fn next_pause(&mut self) -> Option<Duration> {
        let pause = self.pause?;
        self.pause = Some(pause * 2).filter(|&longer| longer <= LAST_LOOK);
        Some(pause)
    }
}

fn with_wal_suffix(name: &OsStr) -> OsString {
    let mut name = name.to_owned();
    name.push("-wal");
    name
}

/// Entries that come, go or change their file. Writes to the database file itself are checkpoints and no news.
const ENTRIES: WatchMask =
    WatchMask::CREATE.union(WatchMask::DELETE).union(WatchMask::MOVED_TO).union(WatchMask::MOVED_FROM);

/// The longest wait without inotify.
const BLIND_WAIT: Duration = Duration::from_millis(50);
/// For a time out of the kernel's range.
const LONGEST_WAIT: Timespec = Timespec { tv_sec: 3600, tv_nsec: 0 };
/// Space for some events; an event needs 16 bytes and a file name of at most 256.
const EVENT_BYTES: usize = 4096;
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(512);

#[cfg(test)]
mod tests;
