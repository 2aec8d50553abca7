//! Whether the database that is open may be replicated there.

use lifeboat_replica::adoption::{Adoption, Chain, Local, decide};
use lifeboat_wire::Reason;

use super::{Follower, OpenedDatabase};
use crate::exit::Failure;
use crate::{damage, marks};

impl Follower {
    /// Whether this database may be replicated there.
    pub(super) fn adopt(&self, database: &OpenedDatabase, chain: &Chain) -> Result<Adoption, Failure> {
        damage::require_none(self.marks.folder(), &database.file_id)?;
        let path = &self.database.path;
        let local = Local::Present {
            content: database.content,
            file_id: database.file_id.clone(),
            record: self.marks.record()?,
        };
        match decide(&local, chain, &marks::boot_id()?) {
            known @ (Adoption::Initial | Adoption::Same | Adoption::Continues) => Ok(known),
            Adoption::Behind => Err(Failure::refused(
                Reason::Diverged,
                format!(
                    "{} is an older state of what {} holds; restore it first: `lifeboat restore --force -o '{0}' {}`",
                    path.display(),
                    self.database.location,
                    self.database.location.argument()
                ),
            )),
            Adoption::Diverged => Err(self.diverged()),
            Adoption::FirstStart | Adoption::Restore => {
                Err(Failure::bug("an open database was taken for absent"))
            }
        }
    }

    fn diverged(&self) -> Failure {
        let (path, location) = (self.database.path.display(), &self.database.location);
        let command = |which| format!("`lifeboat replicate --take {which} '{path}' {}`", location.argument());
        Failure::refused(
            Reason::Diverged,
            format!(
                "{path} is not a continuation of what {location} holds. Choose; the other one is saved there as a fork first: (1) go \
                 on with the bucket's: stop the application, and {}; (2) go on with the local one: {}; (3) look at both: {} writes the \
                 bucket's beside the local one and starts nothing",
                command("remote"),
                command("local"),
                command("neither")
            ),
        )
    }
}
