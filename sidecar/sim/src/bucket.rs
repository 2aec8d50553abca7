//! The bucket: conditional writes, one at a time; and the requests that are still on their way to it.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use lifeboat_ltx::Txid;
use lifeboat_replica::head::Head;
use lifeboat_replica::inventory::{FileEntry, Inventory};
use lifeboat_replica::layout::Level;
use lifeboat_replica::slot::WriteAnswer;

use crate::content::{File, Place};
use crate::invariant::Violation;
use crate::rules::Rule;
use crate::truth::Truth;
use crate::visited::fingerprint;

/// A request that changes something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    /// Create the head.
    CreateHead(Rc<Head>),
    /// Replace this version of the head.
    ReplaceHead(Rc<Head>, String),
    /// Create a file.
    Create(Rc<File>),
    /// Delete a file.
    Delete(Place),
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateHead(_) => write!(f, "create the head"),
            Self::ReplaceHead(head, _) => {
                let Head { revision, epoch, state, floors, .. } = &**head;
                write!(
                    f,
                    "replace the head by revision {revision}: epoch {epoch}, {state:?}, floors {floors:?}"
                )
            }
            Self::Create(file) if file.seal.is_some() => {
                write!(f, "create {}, the seal of epoch {}", file.place, file.epoch())
            }
            Self::Create(file) => {
                write!(
                    f,
                    "create {} of epoch {} with commits {:?}",
                    file.place,
                    file.epoch(),
                    file.to.numbers
                )
            }
            Self::Delete(place) => write!(f, "delete {place}"),
        }
    }
}

/// What the bucket holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// `head.json`.
    pub head: Option<Rc<Head>>,
    /// The files.
    pub files: BTreeMap<Place, Rc<File>>,
}

impl Bucket {
    /// The head's version.
    #[must_use]
    pub fn etag(&self) -> String {
        self.head.as_ref().map_or_else(String::new, |head| format!("{:032x}", fingerprint(head)))
    }

    /// The head and its version.
    #[must_use]
    pub fn head_read(&self) -> Option<(Head, String)> {
        self.head.as_ref().map(|head| ((**head).clone(), self.etag()))
    }

    /// A slot.
    #[must_use]
    pub fn slot(&self, txid: Txid) -> Option<&Rc<File>> {
        self.files.get(&Place::slot(txid))
    }

    /// The list of these levels.
    #[must_use]
    pub fn list(&self, levels: &[Level]) -> Vec<FileEntry> {
        self.files
            .values()
            .filter(|file| levels.contains(&file.place.level))
            .map(|file| file.entry.clone())
            .collect()
    }

    /// Everything, read in one moment.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        Inventory::new(self.list(&Level::ALL), self.head.as_ref().map(|head| (**head).clone()))
    }

    /// A request arrives.
    ///
    /// # Errors
    /// What it did must never happen.
    pub fn take(
        &mut self,
        write: &Write,
        truth: &mut Rc<Truth>,
        without: Option<Rule>,
    ) -> Result<WriteAnswer, Violation> {
        let is_done = match write {
            Write::CreateHead(head) => {
                let is_free = self.head.is_none();
                if is_free {
                    self.head = Some(Rc::clone(head));
                }
                is_free
            }
            Write::ReplaceHead(head, etag) => {
                let is_current = self.head.is_some()
                    && (*etag == self.etag() || without == Some(Rule::HeadByCompareAndSwap));
                if is_current {
                    self.head = Some(Rc::clone(head));
                }
                is_current
            }
            Write::Create(file) => {
                let overwrites = without == Some(Rule::CreatedNeverOverwritten);
                let is_free = overwrites || !self.files.contains_key(&file.place);
                if is_free {
                    self.files.insert(file.place, Rc::clone(file));
                    Rc::make_mut(truth).created(file)?;
                }
                is_free
            }
            Write::Delete(place) => {
                self.files.remove(place);
                true
            }
        };
        if is_done {
            truth.require_restorable(self, without)?;
        }
        Ok(if is_done { WriteAnswer::Done } else { WriteAnswer::Rejected })
    }
}
