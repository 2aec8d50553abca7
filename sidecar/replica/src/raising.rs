//! How the writer gives files up: new floors in `head.json`, by compare-and-swap.
//!
//! In:  the head as this process wrote it last, and the floors that [`retention`](crate::retention) decided on.
//! Out: whether they stand in the bucket. Only then may what is dead by them be deleted.
//!
//! An answer that did not come, or a rejection, decides nothing: the head is read, and only its content tells.

use std::collections::BTreeMap;

use crate::claim::{Action, ClaimError, Fact, Opened};
use crate::head::Head;
use crate::slot::WriteAnswer;

/// What the machine wants after a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RaisingStep {
    /// Do this and come back with the fact.
    Do(Action),
    /// The floors stand: what is dead by this head may be deleted.
    Raised(Opened),
    /// The head is ours, but with other floors: an earlier raise whose answer never came. What may go is decided anew.
    Moved(Opened),
    /// The head is another process's: this one deletes nothing any more.
    Lost,
    /// The write was tried often enough for now. The version may be a newer one than before.
    Later(Opened),
}

/// One change of the floors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raising {
    now: Opened,
    raised: Head,
    attempts: u32,
    is_reading: bool,
}

impl Raising {
    /// Raises the floors of `now` to these. The first action writes the head.
    #[must_use]
    pub fn begin(now: Opened, floors: BTreeMap<u8, u64>) -> (Self, Action) {
        let raised = now.head.raise(floors);
        let mut raising = Self { now, raised, attempts: 0, is_reading: false };
        let action = raising.write();
        (raising, action)
    }

    /// Takes the fact that answers the last action.
    ///
    /// # Errors
    /// [`ClaimError::Bug`] for a fact that answers nothing.
    pub fn handle(&mut self, fact: Fact) -> Result<RaisingStep, ClaimError> {
        match (self.is_reading, fact) {
            (false, Fact::HeadWritten(WriteAnswer::Done, Some(etag))) => {
                Ok(RaisingStep::Raised(Opened { head: self.raised.clone(), etag }))
            }
            (false, Fact::HeadWritten(_, _)) => {
                self.is_reading = true;
                Ok(RaisingStep::Do(Action::ReadHead))
            }
            (true, Fact::Head(found)) => Ok(self.found(found)),
            (is_reading, fact) => Err(ClaimError::Bug {
                what: format!("the raise of floors was told {fact:?}, reading: {is_reading}"),
            }),
        }
    }

    fn found(&mut self, found: Option<(Head, String)>) -> RaisingStep {
        let Some((head, etag)) = found else { return RaisingStep::Lost };
        if head == self.raised {
            return RaisingStep::Raised(Opened { head, etag });
        }
        if head != self.now.head {
            let is_ours = head.is_by_the_same_writer(&self.now.head);
            return if is_ours { RaisingStep::Moved(Opened { head, etag }) } else { RaisingStep::Lost };
        }
        self.now.etag = etag;
        if self.attempts >= ATTEMPTS_MAX {
            return RaisingStep::Later(self.now.clone());
        }
        RaisingStep::Do(self.write())
    }

    fn write(&mut self) -> Action {
        (self.attempts, self.is_reading) = (self.attempts + 1, false);
        Action::ReplaceHead { head: self.raised.clone(), etag: self.now.etag.clone() }
    }
}

/// Pruning is not urgent: a store that answers this often in vain is asked again at the next occasion.
const ATTEMPTS_MAX: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{HeadState, test_head};

    fn opened() -> Opened {
        let mut head = test_head(&[(0, 2)]);
        head.state = HeadState::Open;
        Opened { head, etag: "a".to_owned() }
    }

    fn begun() -> Raising {
        Raising::begin(opened(), BTreeMap::from([(0, 5)])).0
    }

    /// What becomes of a raise whose answer is lost, when the head is found to be this one.
    fn after_a_lost_answer(found: Option<Head>) -> RaisingStep {
        let mut raising = begun();
        let asked = raising.handle(Fact::HeadWritten(WriteAnswer::Unclear, None));
        assert_eq!(asked, Ok(RaisingStep::Do(Action::ReadHead)));
        raising.handle(Fact::Head(found.map(|head| (head, "b".to_owned())))).unwrap()
    }

    fn raised(floor: u64) -> Head {
        opened().head.raise(BTreeMap::from([(0, floor)]))
    }

    #[test]
    fn an_answer_that_came_is_enough() {
        let answer = Fact::HeadWritten(WriteAnswer::Done, Some("b".to_owned()));
        let done = RaisingStep::Raised(Opened { head: raised(5), etag: "b".to_owned() });
        assert_eq!(begun().handle(answer), Ok(done));
    }

    #[test]
    fn after_a_lost_answer_the_content_of_the_head_tells() {
        let etag = || "b".to_owned();
        assert_eq!(
            after_a_lost_answer(Some(raised(5))),
            RaisingStep::Raised(Opened { head: raised(5), etag: etag() })
        );
        assert_eq!(
            after_a_lost_answer(Some(raised(4))),
            RaisingStep::Moved(Opened { head: raised(4), etag: etag() })
        );
        let again = Action::ReplaceHead { head: raised(5), etag: etag() };
        assert_eq!(after_a_lost_answer(Some(opened().head)), RaisingStep::Do(again));
    }

    #[test]
    fn whoever_finds_another_writers_head_or_none_deletes_nothing() {
        let claimed = opened().head.claim(Head { ..test_head(&[]) }.owner);
        assert_eq!(after_a_lost_answer(Some(claimed)), RaisingStep::Lost);
        assert_eq!(after_a_lost_answer(None), RaisingStep::Lost);
    }

    #[test]
    fn it_is_not_tried_for_ever() {
        let mut raising = begun();
        for attempt in 1..=ATTEMPTS_MAX {
            raising.handle(Fact::HeadWritten(WriteAnswer::Unclear, None)).unwrap();
            let step = raising.handle(Fact::Head(Some((opened().head, "c".to_owned())))).unwrap();
            let is_over = attempt == ATTEMPTS_MAX;
            assert_eq!(matches!(step, RaisingStep::Later(_)), is_over, "attempt {attempt}: {step:?}");
        }
    }
}
