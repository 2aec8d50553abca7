//! Whether the database that is open may be replicated there.

use lifeboat_replica::adoption::{Adoption, Chain, Local, decide, why_diverged};
use lifeboat_wire::Reason;

use super::{Follower, OpenedDatabase};
use crate::exit::Failure;
use crate::{damage, marks};

impl Follower {
    /// Whether this database may be replicated there.
    pub(super) fn adopt(&self, database: &OpenedDatabase, chain: &Chain) -> Result<Adoption, Failure> {
        damage::require_none(self.marks.folder(), &database.file_id)?;
        let (path, boot_id) = (&self.database.path, marks::boot_id()?);
        let (record, file_id) = (self.marks.record()?, &database.file_id);
        let local =
            Local::Present { content: database.content, file_id: file_id.clone(), record: record.clone() };
        match decide(&local, chain, &boot_id) {
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
            Adoption::Diverged => {
                Err(self.diverged(&why_diverged(record.as_ref(), file_id, chain, &boot_id)))
            }
            Adoption::FirstStart | Adoption::Restore => {
                Err(Failure::bug("an open database was taken for absent"))
            }
        }
    }

    fn diverged(&self, why: &str) -> Failure {
        let (path, location) = (self.database.path.display(), &self.database.location);
        // What the config says beside is not said to this command; it ends when that is done.
        let mode = if self.database.enforce_wal { "" } else { " --enforce-wal false" };
        let command = |which| {
            format!("`lifeboat replicate --once --take {which}{mode} '{path}' {}`", location.argument())
        };
        Failure::refused(
            Reason::Diverged,
            format!(
                "{path} is not a continuation of what {location} holds: {why}. Choose; the other one is saved there as a fork first: (1) go \
                 on with the bucket's: stop the application, and {}; (2) go on with the local one: {}; (3) look at both: {} writes the \
                 bucket's beside the local one and starts nothing",
                command("remote"),
                command("local"),
                command("neither")
            ),
        )
    }
}
