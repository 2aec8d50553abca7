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
                    "{} is an older state of what {} holds; restore it first: lifeboat restore --force -o {0} {1}",
                    path.display(),
                    self.database.location
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
        Failure::refused(
            Reason::Diverged,
            format!(
                "{path} is not a continuation of what {location} holds. Choose: (1) keep the bucket's: move the local \
                 file away and `lifeboat restore -o {path} URL`; (2) keep the local one: replicate it to another, empty \
                 prefix; (3) look at both: `lifeboat restore -o /tmp/bucket.db URL` and compare"
            ),
        )
    }
}
