//! Why a local database is taken for no continuation, in words: as far as the record beside it tells.

use super::{Chain, Record};

/// The reason why a database that [`decide`](super::decide) calls diverged is one. `file_id` and `boot_id` as there.
#[must_use]
pub fn why_diverged(record: Option<&Record>, file_id: &str, chain: &Chain, boot_id: &str) -> String {
    let Some(record) = record else {
        return "its pages are not those of the newest stored state, and no record beside it says which one it had".to_owned();
    };
    let (what, txid) = (if record.is_of_restore() { "restored" } else { "stored" }, record.slot.txid);
    let then = format!("it was last {what} at txid {txid:016x}");
    if record.lineage != chain.lineage {
        return format!("{then}, but of another replica, of the lineage {}", record.lineage);
    }
    if record.file_id.is_empty() || record.file_id != file_id {
        return "it is another file than the one of which the record beside it speaks".to_owned();
    }
    if !chain.has(record) {
        return format!("{then}, and that state is not stored any more, or as another one");
    }
    if record.boot_id != boot_id {
        return format!(
            "{then}, and was written to after that; the machine was started anew meanwhile, so nothing proves that it still \
             holds what was stored"
        );
    }
    format!(
        "{then}, and written to after that; but others have stored since, up to txid {:016x}",
        chain.newest
    )
}

#[cfg(test)]
mod tests {
    use lifeboat_ltx::Checksum;

    use super::*;
    use crate::adoption::ChainSlot;
    use crate::epoch::Epoch;
    use crate::head::Base;

    fn record() -> Record {
        let slot = Base { txid: 5, checksum: Some(Checksum::EMPTY) };
        Record::of_restore("l".to_owned(), slot, "boot-1".to_owned(), "file-1".to_owned())
    }

    fn chain() -> Chain {
        let others = ChainSlot { txid: 6, epoch: Epoch::new(3), is_seal: false };
        Chain {
            lineage: "l".to_owned(),
            checksum: None,
            at_record: Some(Checksum::EMPTY),
            newest: 6,
            newest_pages: 6,
            holds_pages: true,
            since_record: vec![others],
        }
    }

    #[test]
    fn each_cause_has_a_sentence_of_its_own() {
        let (ours, chain) = (record(), chain());
        let written = Record { epoch: Some(Epoch::FIRST), ..record() };
        let elsewhere = Record { lineage: "m".to_owned(), ..record() };
        let set_back = Chain { at_record: None, ..chain.clone() };
        for (record, file, chain, boot, words) in [
            (None, "file-1", &chain, "boot-1", "no record beside it"),
            (Some(&elsewhere), "file-1", &chain, "boot-1", "another replica"),
            (Some(&ours), "file-2", &chain, "boot-1", "another file"),
            (Some(&ours), "", &chain, "boot-1", "another file"),
            (Some(&ours), "file-1", &set_back, "boot-1", "not stored any more"),
            (Some(&ours), "file-1", &chain, "boot-2", "started anew"),
            (Some(&ours), "file-1", &chain, "boot-1", "restored at txid 0000000000000005"),
            (Some(&ours), "file-1", &chain, "boot-1", "up to txid 0000000000000006"),
            (Some(&written), "file-1", &chain, "boot-1", "last stored at txid"),
        ] {
            let said = why_diverged(record, file, chain, boot);
            assert!(said.contains(words), "no '{words}' in: {said}");
        }
    }
}
