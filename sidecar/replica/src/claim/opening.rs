//! Step 6 of a claim: the head says `open`, and the writer may write.

use super::{Action, ClaimError, Fact};
use crate::head::{Base, Head, Owner};
use crate::slot::WriteAnswer;

/// The right to write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Opened {
    /// The head as we wrote it.
    pub head: Head,
    /// Its version.
    pub etag: String,
}

/// What the machine wants after a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpeningStep {
    /// Do this and come back with the fact.
    Do(Action),
    /// The replica may be written.
    Opened(Opened),
}

/// The opening of a sealed claim, perhaps by another process of the same pod, which draws a nonce of its own: no two
/// processes may ever believe that one claim is theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Opening {
    sealed: Head,
    mine: Head,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Reading,
    Writing,
}

impl Opening {
    /// Opens the claim whose head is `sealed`, as `owner`, from `base` on. The first action reads the head, so that a
    /// hand-over read twice, or long ago, is noticed.
    #[must_use]
    pub fn begin(sealed: Head, owner: Owner, base: Base) -> (Self, Action) {
        let mine = sealed.open(owner, base);
        (Self { sealed, mine, state: State::Reading }, Action::ReadHead)
    }

    /// The claim that is to be opened.
    #[must_use]
    pub const fn sealed(&self) -> &Head {
        &self.sealed
    }

    /// Takes the fact that answers the last action.
    ///
    /// # Errors
    /// [`ClaimError::Lost`] when the claim is not ours any more.
    pub fn handle(&mut self, fact: Fact) -> Result<OpeningStep, ClaimError> {
        match (&self.state, fact) {
            (State::Reading, Fact::Head(Some((found, etag)))) => self.found(found, etag),
            (State::Reading, Fact::Head(None)) => Err(ClaimError::Lost { by: None }),
            (State::Writing, Fact::HeadWritten(WriteAnswer::Done, Some(etag))) => {
                Ok(OpeningStep::Opened(Opened { head: self.mine.clone(), etag }))
            }
            (State::Writing, Fact::HeadWritten(_, _)) => {
                self.state = State::Reading;
                Ok(OpeningStep::Do(Action::ReadHead))
            }
            (state, fact) => {
                Err(ClaimError::Bug { what: format!("the opening was told {fact:?} while {state:?}") })
            }
        }
    }

    fn found(&mut self, found: Head, etag: String) -> Result<OpeningStep, ClaimError> {
        if found == self.mine {
            return Ok(OpeningStep::Opened(Opened { head: found, etag }));
        }
        if found != self.sealed {
            return Err(ClaimError::Lost { by: Some(found.epoch) });
        }
        self.state = State::Writing;
        Ok(OpeningStep::Do(Action::ReplaceHead { head: self.mine.clone(), etag }))
    }
}
