//! The control socket: which one a process serves, and how it is asked.
//!
//! A socket file outlives its process. So whoever wants to serve one knocks first: where somebody answers, the socket is
//! theirs; where nobody does, the file is left over and taken away. A file that is no socket is never touched.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as Knock;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::fs::{FlockOperation, flock};
use tokio::net::{UnixListener, UnixStream};

use crate::args::ConfigArgs;
use crate::config::ConfigText;
use crate::disk;
use crate::exit::Failure;

/// Which socket a replicating process serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Socket {
    /// The first of the usual places that can be had, else none.
    #[default]
    Usual,
    /// This one, or the process does not start.
    At(PathBuf),
    /// None.
    Off,
}

impl From<PathBuf> for Socket {
    fn from(path: PathBuf) -> Self {
        match path.as_os_str().to_str() {
            Some("") => Self::Usual,
            Some("off") => Self::Off,
            Some(_) | None => Self::At(path),
        }
    }
}

/// Where a socket is when nobody says where: for the machine's services, and for one user's programs.
#[must_use]
pub fn usual_places() -> Vec<PathBuf> {
    let of_user = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    [Some(PathBuf::from("/run")), of_user]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("lifeboat/lifeboat.sock"))
        .collect()
}

/// The socket that was named: in the call, else in the config file, if there is one that can be read.
#[must_use]
pub fn named(socket: Option<&Path>, config: &ConfigArgs) -> Option<PathBuf> {
    let is_said = |path: &&Path| !path.as_os_str().is_empty();
    let of_config = || match ConfigText::load(config).and_then(|text| text.parse()).ok()?.socket {
        Socket::At(path) => Some(path),
        Socket::Usual | Socket::Off => None,
    };
    socket.filter(is_said).map(Path::to_owned).or_else(of_config)
}

/// Begins to listen, if there is a place to listen at. To be called within the runtime.
///
/// # Errors
/// Usage when the socket was named and cannot be had.
pub fn open(socket: &Socket) -> Result<Option<UnixListener>, Failure> {
    match socket {
        Socket::Off => Ok(None),
        Socket::At(path) => listen(path).map(Some).map_err(|error| {
            Failure::usage(format!("socket {}: {error}; choose another with --socket", path.display()))
        }),
        Socket::Usual => Ok(open_first(&usual_places())),
    }
}

/// A process that was not asked to have a socket goes on without.
fn open_first(places: &[PathBuf]) -> Option<UnixListener> {
    for place in places {
        if let Some(folder) = place.parent() {
            let _ = fs::create_dir(folder);
        }
        match listen(place) {
            Ok(listener) => {
                tracing::debug!("`lifeboat sync` and `lifeboat status` are answered at {}", place.display());
                return Some(listener);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                tracing::warn!(
                    "socket {}: {error}; `lifeboat sync` and `lifeboat status` reach this one only with a socket of \
                     its own: start it with --socket PATH",
                    place.display()
                );
                return None;
            }
            Err(error) => tracing::debug!("socket {}: {error}", place.display()),
        }
    }
    None
}

/// Listens at `path`, for our user and group only.
fn listen(path: &Path) -> io::Result<UnixListener> {
    // Two processes that start at once must not both find the same file left over. The lock ends with the file's scope.
    let folder = File::open(disk::folder_of(path))?;
    let _ = flock(&folder, FlockOperation::NonBlockingLockExclusive);
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        Ok(_) if Knock::connect(path).is_ok() => {
            return Err(io::Error::new(ErrorKind::AddrInUse, "another process answers there"));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Asks the process behind the socket that was named, else behind the first of the usual ones where one answers.
///
/// # Errors
/// Unavailable when no process answers within `patience`.
pub async fn ask(
    named: Option<&Path>,
    method: Method,
    path: &str,
    patience: Duration,
) -> Result<(StatusCode, Bytes), Failure> {
    let places = match named.map(|path| Socket::from(path.to_owned())) {
        None | Some(Socket::Usual) => usual_places(),
        Some(Socket::At(place)) => vec![place],
        Some(Socket::Off) => {
            return Err(Failure::usage(
                "the socket is switched off by --socket or $LIFEBOAT_SOCKET; name that of the running process",
            ));
        }
    };
    let (place, stream) = connect(&places).await?;
    let lost = |why: &dyn std::fmt::Display| {
        Failure::unavailable(format!(
            "socket {}: the replicating process gave no answer: {why}",
            place.display()
        ))
    };
    match tokio::time::timeout(patience, exchange(stream, method, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(lost(&format!("waited for {patience:?}"))),
    }
}

async fn connect(places: &[PathBuf]) -> Result<(&PathBuf, UnixStream), Failure> {
    let mut why = Vec::new();
    for place in places {
        match UnixStream::connect(place).await {
            Ok(stream) => return Ok((place, stream)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => why.push(format!(
                "socket {}: {error}: ask as the user that runs `lifeboat replicate`, or as its group",
                place.display()
            )),
            Err(error) => why.push(format!("socket {}: {error}", place.display())),
        }
    }
    Err(Failure::unavailable(format!(
        "no lifeboat process answers; {}. Is `lifeboat replicate` running? If it was started with --socket PATH, name \
         the same here",
        why.join("; ")
    )))
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request =
        Request::builder().method(method).uri(path).header("host", "lifeboat").body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_somebody_serves_is_not_taken_and_a_left_over_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let first = listen(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(first);
        listen(&path).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_never_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        fs::write(&path, "the only copy").unwrap();
        let refused = open(&Socket::At(path.clone())).unwrap_err();
        assert!(refused.message.contains("no socket") && refused.message.contains("--socket"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"the only copy");
    }

    #[tokio::test]
    async fn without_a_wish_the_first_place_that_can_be_had_is_taken_and_nobody_is_driven_out() {
        let folder = tempfile::tempdir().unwrap();
        let places = ["absent/lifeboat/a.sock", "lifeboat/a.sock"].map(|name| folder.path().join(name));
        let first = open_first(&places);
        assert!(first.is_some() && places[1].exists());
        assert!(open_first(&places).is_none());
        let (place, _) = connect(&places).await.unwrap();
        assert_eq!(place, &places[1]);
    }

    #[tokio::test]
    async fn a_variable_that_is_set_to_nothing_is_no_socket_and_off_is_none() {
        assert_eq!(Socket::from(PathBuf::new()), Socket::Usual);
        assert!(open(&Socket::from(PathBuf::from("off"))).unwrap().is_none());
        let failure = ask(Some(Path::new("off")), Method::GET, "/", Duration::ZERO).await.unwrap_err();
        assert!(failure.message.contains("switched off"), "{failure}");
    }

    #[tokio::test]
    async fn whoever_finds_no_process_learns_where_it_was_looked_for_and_what_to_do() {
        let failure =
            ask(Some(Path::new("/nowhere/a.sock")), Method::GET, "/", Duration::ZERO).await.unwrap_err();
        for word in ["/nowhere/a.sock", "lifeboat replicate", "--socket"] {
            assert!(failure.message.contains(word), "no '{word}' in: {failure}");
        }
    }
}
