//! `lifeboat replicate --exec CMD`: the application as our child, from the first look at its databases to the last commit.

use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Readiness};
use crate::exit::Failure;
use crate::shutdown::Told;

/// The application, not yet running.
#[derive(Debug)]
pub struct Application {
    program: String,
    args: Vec<String>,
}

impl Application {
    /// The command as a shell would split it into words. It is not run by a shell.
    ///
    /// # Errors
    /// Usage when there is no word, or a quotation mark is missing.
    pub fn parse(command: &str) -> Result<Self, Failure> {
        let words = shlex::split(command);
        let words = words
            .ok_or_else(|| Failure::usage(format!("exec: a quotation mark is missing in: {command}")))?;
        let mut words = words.into_iter();
        let program = words.next().ok_or_else(|| Failure::usage("exec: name the command to run"))?;
        Ok(Self { program, args: words.collect() })
    }

    /// Runs it beside its databases: from when all of them are followed, or waited for, until it ends. It gets the signal
    /// that tells us to stop. Where replication ends first, it is told to end: what it would write on, nobody stores.
    ///
    /// Returns its exit code, unless replication ended first, and how replication ended.
    pub async fn run_beside(
        self,
        followers: impl Future<Output = Result<(), Failure>>,
        board: Arc<Board>,
        told: Told,
        stop: CancellationToken,
    ) -> (Option<u8>, Result<(), Failure>) {
        let mut followers = Box::pin(followers);
        tokio::select! {
            ended = &mut followers => return (None, ended),
            readiness = decided(&board) => if readiness == Readiness::Refused {
                tracing::error!("{} is not started: a database it may use is not replicated", self.program);
                stop.cancel();
                return (None, followers.await);
            },
            () = told.stop.cancelled() => {
                stop.cancel();
                return (None, followers.await);
            }
        }
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(failure) => {
                stop.cancel();
                return (None, followers.await.and(Err(failure)));
            }
        };
        let (mut ended, mut is_told) = (None, false);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                result = &mut followers, if ended.is_none() => {
                    tracing::error!("replication has ended; telling {} to end too", self.program);
                    signal(&child, Signal::TERM);
                    ended = Some(result);
                }
                () = told.stop.cancelled(), if !is_told => {
                    is_told = true;
                    forward(&child, &told);
                }
            }
        };
        stop.cancel();
        match ended {
            Some(ended) => (None, ended),
            None => (Some(code(&self.program, status)), followers.await),
        }
    }

    fn spawn(&self) -> Result<Child, Failure> {
        tracing::info!("starting {}", self.program);
        let spawned = Command::new(&self.program).args(&self.args).spawn();
        spawned.map_err(|error| Failure::usage(format!("exec: {}: {error}", self.program)))
    }
}

async fn decided(board: &Board) -> Readiness {
    loop {
        match board.readiness() {
            Readiness::Waiting => tokio::time::sleep(LOOK).await,
            decided @ (Readiness::Ready | Readiness::Refused) => return decided,
        }
    }
}

/// A terminal has sent its SIGINT to the child as well.
fn forward(child: &Child, told: &Told) {
    let signal_told = told.signal();
    if signal_told != Signal::INT || !std::io::stdin().is_terminal() {
        signal(child, signal_told);
    }
}

/// A child that is gone meanwhile is no trouble.
fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, signal)) {
        tracing::debug!("the command cannot be signalled: {error}");
    }
}

/// As a shell says it: 128 and the number of the signal for one that was killed.
fn code(program: &str, status: std::io::Result<ExitStatus>) -> u8 {
    match status {
        Ok(status) => {
            tracing::info!("{program} has ended: {status}; storing the last commits");
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
        }
        Err(error) => {
            tracing::error!("{program}: nobody can say how it ended: {error}");
            u8::MAX
        }
    }
}

const LOOK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_does_and_a_missing_quotation_mark_is_said() {
        let application = Application::parse("./shop --name 'two words' \"a\"b").unwrap();
        assert_eq!((application.program.as_str(), application.args.len()), ("./shop", 3));
        assert_eq!(application.args[1..], ["two words", "ab"]);
        for wrong in ["", "  ", "./shop 'open"] {
            assert!(Application::parse(wrong).unwrap_err().message.starts_with("exec: "), "{wrong}");
        }
    }
}
