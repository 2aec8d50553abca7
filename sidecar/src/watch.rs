//! Tells followers when something may have happened to their databases: one thread and one inotify for the whole process.
//!
//! In:  the paths of databases, which need not exist yet, and neither need their folders.
//! Out: a reason to look. Never what happened: that stands in the WAL-index only.
//!
//! While a database is busy its follower looks on its own and nothing is produced here. When it is quiet, the follower
//! *arms* its [`Watch`], looks once more, and waits. The next change of the WAL rings once.
//!
//! Nothing depends on an event alone: about once a second the watcher looks at the files of armed databases, at all of a few
//! hundred, of thousands at a share each time. inotify says nothing of changes made elsewhere, and a machine may have used
//! up its watches; such databases are looked at every second.

mod bell;
mod register;
mod seen;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use inotify::Inotify;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::disk;
use bell::Bell;
use register::{Key, Register};
use seen::Seen;

pub use bell::Woken;

/// The process's watcher. Its thread ends when nobody has it any more.
#[derive(Clone, Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    register: Mutex<Register>,
    /// When the thread last looked around.
    turned: Mutex<Instant>,
}

/// One database, watched until this is dropped.
#[derive(Debug)]
pub struct Watch {
    database: PathBuf,
    key: Key,
    bell: Arc<Bell>,
    watcher: Watcher,
}

/// Hears of files that come into folders and belong to no watched database.
#[derive(Debug)]
pub struct Lookout {
    bell: Arc<Bell>,
    watcher: Watcher,
}

impl Watcher {
    /// Starts the thread. Without inotify, because all of a user's 128 instances are used up, it goes on by looking.
    ///
    /// # Errors
    ///
    /// When the operating system has no thread left.
    pub fn start() -> io::Result<Self> {
        Self::start_with(Inotify::init())
    }

    fn start_with(notices: io::Result<Inotify>) -> io::Result<Self> {
        if let Err(error) = &notices {
            tracing::warn!("no inotify ({error}); databases are looked at every other second instead");
        }
        let notices = notices.ok();
        let register = Mutex::new(Register::new(notices.as_ref().map(Inotify::watches)));
        let shared = Arc::new(Shared { register, turned: Mutex::new(Instant::now()) });
        let theirs = Arc::downgrade(&shared);
        std::thread::Builder::new().name("watcher".to_owned()).spawn(move || run(notices, &theirs))?;
        Ok(Self { shared })
    }

    /// Begins to watch a database. It is not [armed](Watch::arm) yet.
    #[must_use]
    pub fn watch(&self, database: &Path) -> Watch {
        let bell = Arc::new(Bell::default());
        let key = self.register().add(database, disk::real(database), Arc::clone(&bell));
        Watch { database: database.to_owned(), key, bell, watcher: self.clone() }
    }

    /// Begins to look out for new files, in no folder yet.
    #[must_use]
    pub fn lookout(&self) -> Lookout {
        Lookout { bell: Arc::new(Bell::default()), watcher: self.clone() }
    }

    /// Whether the thread still looks around.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared.turned.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < TURN_MAX
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        self.shared.register()
    }
}

impl Shared {
    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// From now on the first change is an event. Whatever happened before is not: look once more after this, then wait.
    ///
    /// Returns whether the kernel will tell. If not, changes are noticed within some two seconds by looking at the files from
    /// outside, so whoever has the database open also looks by himself now and then.
    pub fn arm(&self) -> bool {
        self.bell.forget_event();
        let real = disk::real(&self.database);
        let seen = Seen::of(&self.database, &real);
        self.watcher.register().arm(self.key, real, seen)
    }

    /// Waits for an event or a call, at most for `timeout`. Several that came before are reported as one.
    pub fn wait(&self, timeout: Option<Duration>) -> Woken {
        self.bell.wait(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Waits for a call, at most for `timeout`: for whoever looks on his own and needs no events.
    pub fn pause(&self, timeout: Duration) -> Woken {
        self.bell.wait_for_call(Instant::now() + timeout)
    }

    /// Whether nothing happened since it was [armed](Self::arm), also nothing that is still on its way.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        let armed = self.watcher.register().armed(self.key);
        armed.is_some_and(|armed| armed.is_as_seen())
    }

    /// Waits for an event or a call, without a thread.
    pub async fn rung(&self) -> Woken {
        self.bell.rung().await
    }

    /// Ends a wait, now or as soon as it begins.
    pub fn call(&self) {
        self.bell.call();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watcher.register().remove(self.key);
    }
}

impl Lookout {
    /// Looks out in one more folder. Returns at once where it does already.
    pub fn add(&self, folder: &Path) {
        self.watcher.register().look_out(&disk::real(folder), &self.bell);
    }

    /// Waits until a file may have come.
    pub async fn rung(&self) {
        self.bell.rung().await;
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.watcher.register().end_lookout(&self.bell);
    }
}

/// The watcher's thread.
fn run(mut notices: Option<Inotify>, shared: &Weak<Shared>) {
    let mut next_turn = Instant::now() + TURN;
    loop {
        wait(notices.as_ref(), next_turn.saturating_duration_since(Instant::now()));
        let Some(shared) = shared.upgrade() else { return };
        if let Some(Err(error)) = notices.as_mut().map(|notices| take_events(notices, &shared)) {
            tracing::error!("inotify ended ({error}); databases are looked at every other second instead");
            notices = None;
            let mut register = shared.register();
            register.go_blind();
        }
        if Instant::now() >= next_turn {
            turn(&shared);
            next_turn = Instant::now() + TURN;
        }
    }
}

/// Sleeps until there are events.
fn wait(notices: Option<&Inotify>, timeout: Duration) {
    let Some(notices) = notices else { return std::thread::sleep(timeout) };
    let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    // An interrupted wait is a short one.
    let _ = poll(&mut [PollFd::new(notices, PollFlags::IN)], Some(&timeout));
}

fn take_events(notices: &mut Inotify, shared: &Shared) -> io::Result<()> {
    let mut buffer = [0; EVENT_BYTES];
    loop {
        let events = match notices.read_events(&mut buffer) {
            Ok(events) => events,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut register = shared.register();
        events.for_each(|event| register.event(&event));
    }
}

/// What happens about every second. The files are looked at without the lock: a file system that hangs must not hang those who
/// arm their watches.
fn turn(shared: &Shared) {
    let due = {
        let mut register = shared.register();
        register.find_folders();
        register.due()
    };
    for (key, armed) in due {
        if !armed.is_as_seen() {
            shared.register().changed(key, armed.seen);
        }
    }
    *shared.turned.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}

/// So much more than a second that the whole idle process wakes less than once a second, whatever else wakes it.
const TURN: Duration = Duration::from_millis(1_250);
/// A watcher that has not looked around for this long is stuck.
const TURN_MAX: Duration = Duration::from_secs(20);
/// Space for many events; an event needs 16 bytes and a file name of at most 256.
const EVENT_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests;
