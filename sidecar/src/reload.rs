//! A config that changes while it is in use: on SIGHUP, and when its file changes.

use std::io;
use std::path::Path;
use std::time::Duration;

use inotify::{Inotify, WatchMask};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;

use crate::args::ReplicateArgs;
use crate::config::{Config, ConfigText};
use crate::disk;
use crate::exit::Failure;

/// A config that was read again, or what is wrong with it.
pub type Reload = Result<Config, Failure>;

/// Reads the config again whenever it may have changed, until `stop`. Without a config file nothing ever comes.
///
/// # Errors
/// A bug where the kernel does not let us listen.
pub fn listen(args: &ReplicateArgs, stop: CancellationToken) -> Result<Receiver<Reload>, Failure> {
    let (reloads, receiver) = mpsc::channel(1);
    let hangup = signal(SignalKind::hangup());
    let mut hangup = hangup.map_err(|error| Failure::bug(format!("cannot listen to signals: {error}")))?;
    let text = if args.db.is_some() { None } else { Some(ConfigText::load(&args.config)?) };
    let mut changes = changes(text.as_ref().and_then(ConfigText::path));
    let args = args.clone();
    tokio::spawn(async move {
        let mut last = text;
        loop {
            let is_told = tokio::select! {
                _ = hangup.recv() => true,
                Some(()) = changes.recv() => {
                    // Who writes a file seldom writes once.
                    tokio::time::sleep(SETTLE).await;
                    false
                }
                () = stop.cancelled() => return,
            };
            let Some(last) = &mut last else {
                tracing::info!("SIGHUP: there is no config file to read again");
                continue;
            };
            if let Some(reload) = read(&args, last, is_told)
                && reloads.send(reload).await.is_err()
            {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The config, if it is not as it was, or somebody wants it read all the same.
fn read(args: &ReplicateArgs, last: &mut ConfigText, is_told: bool) -> Option<Reload> {
    match ConfigText::load(&args.config) {
        Ok(text) if !is_told && text == *last => None,
        Ok(text) => {
            tracing::info!("{}: read again", text.from());
            *last = text;
            Some(Config::from_text(last, args))
        }
        Err(failure) => Some(Err(failure)),
    }
}

/// Says whenever the file may have changed.
fn changes(path: Option<&Path>) -> Receiver<()> {
    let (changed, changes) = mpsc::channel(1);
    if let Some(Err(error)) = path.map(|path| watch(path, changed)) {
        tracing::warn!("changes of the config file are not noticed ({error}); send SIGHUP after one");
    }
    changes
}

/// A thread that sleeps until the folder of the file changes.
fn watch(path: &Path, changed: Sender<()>) -> io::Result<()> {
    let mut notices = Inotify::init()?;
    let events = WatchMask::CREATE | WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO;
    notices.watches().add(disk::folder_of(path), events)?;
    let name = path.file_name().map(ToOwned::to_owned);
    let run = move || {
        let mut buffer = [0; 4096];
        while let Ok(events) = notices.read_events_blocking(&mut buffer) {
            // A mounted ConfigMap changes by a link beside it whose name begins so.
            let is_ours = |found: &std::ffi::OsStr| {
                Some(found) == name.as_deref() || found.as_encoded_bytes().starts_with(b"..")
            };
            if events.filter_map(|event| event.name).any(is_ours)
                && matches!(changed.try_send(()), Err(mpsc::error::TrySendError::Closed(())))
            {
                return;
            }
        }
    };
    std::thread::Builder::new().name("config".to_owned()).spawn(run).map(drop)
}

const SETTLE: Duration = Duration::from_millis(300);
