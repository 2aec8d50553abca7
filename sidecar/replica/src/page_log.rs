//! What the bucket has, page by page, as a file beside the database: the page log.
//!
//! In:  the bytes of a page log, and the newest slot with pages that the bucket has.
//! Out: the checksum of every page in that state, and where the local database can be followed from; or nothing.
//!
//! A page log is a base, which holds the checksum of every page in one state, and behind it, for every slot cut since, the
//! checksums of the pages it changes. A slot is noted *before* it is sent, so whichever of the two states the bucket turns
//! out to have after a process was killed, the log has it too. Which state counts is never decided here: the bucket's
//! newest slot picks it. Its number does, not its checksum alone: a slot that takes back what others did leads to the checksum of
//! an older state. Within one lineage no two different slots ever have one number.
//!
//! Nothing is synced. What a power cut takes away is noticed: every entry has a checksum, a torn tail is no entry, and the
//! pages of a state must add up to the checksum that the bucket names. So a log may be missing, old, or damaged, and
//! costs time then; it can never make a wrong state.
//!
//! Eight bytes for each page of the base, twelve for each changed page behind it, until those outgrow the base and a new
//! one is written: at most 28 bytes for each page and [`SLACK_BYTES`].

use lifeboat_ltx::{Checksum, PageChecksum};
use lifeboat_wal::continuity::{WAL_PLACE_BYTES, WalPlace};
use lifeboat_wal::{PageNo, PageSize};

use crate::page_sums::PageSums;

/// Whose pages a log speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The lineage of the replica.
    pub lineage: String,
    /// The boot of the machine: after a power cut the file may be an older one.
    pub boot_id: String,
    /// Device, inode and birth of the database file; empty where the file system cannot tell.
    pub file_id: String,
}

/// What changes whenever anybody writes to a file, SQLite or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// Size of the file.
    pub bytes: u64,
    /// When it was last written to: seconds since 1970, and nanoseconds. Compared, never subtracted.
    pub modified: (i64, u32),
}

/// From where a database that was in a state of the log can be followed, without a look at its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// A place in the WAL that the state is at least as new as.
    pub place: WalPlace,
    /// The database file, seen while it was followed: with another stamp now, anything may stand in it.
    pub stamp: FileStamp,
    /// Whether the file, with this stamp, held everything up to the place: then the run through the WAL that the place is
    /// in may be gone.
    pub is_settled: bool,
}

/// A state of the database that a log speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownState {
    /// Whose pages these are.
    pub identity: LogIdentity,
    /// Their size.
    pub page_size: PageSize,
    /// The slot that brought the bucket to this state.
    pub txid: u64,
    /// The checksum of every page.
    pub sums: PageSums,
    /// Where to follow from; `None` where the local database was not in this state any more when it was written down.
    pub anchor: Option<Anchor>,
}

impl KnownState {
    /// The anchor, if it is about this file in this boot of the machine.
    #[must_use]
    pub fn anchor_in(&self, boot_id: &str, file_id: &str) -> Option<&Anchor> {
        let LogIdentity { boot_id: boot, file_id: file, .. } = &self.identity;
        self.anchor.as_ref().filter(|_| boot == boot_id && file == file_id && !file.is_empty())
    }
}

/// The bytes of a new log, of one state. `None` while the pages of the state are not known.
#[must_use]
pub fn base(
    identity: &LogIdentity,
    page_size: PageSize,
    txid: u64,
    sums: &PageSums,
    anchor: Option<&Anchor>,
) -> Option<Vec<u8>> {
    let checksum = sums.checksum()?;
    let mut payload = Vec::with_capacity(sums.all().len() * 8 + BASE_BYTES_MIN);
    put_state(&mut payload, txid, checksum, sums.all().len(), anchor);
    payload.extend(page_size.get().to_le_bytes());
    for text in [&identity.lineage, &identity.boot_id, &identity.file_id] {
        payload.extend(u16::try_from(text.len()).ok()?.to_le_bytes());
        payload.extend(text.as_bytes());
    }
    sums.all().iter().for_each(|sum| payload.extend(sum.get().to_le_bytes()));
    let mut bytes = MAGIC.to_vec();
    put_entry(&mut bytes, BASE, &payload);
    Some(bytes)
}

/// The bytes to append for a slot that changes these pages. `None` while the pages of the state are not known.
#[must_use]
pub fn delta(
    txid: u64,
    sums: &PageSums,
    changed: impl Iterator<Item = PageNo>,
    anchor: Option<&Anchor>,
) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    put_state(&mut payload, txid, sums.checksum()?, sums.all().len(), anchor);
    for page in changed {
        payload.extend(page.get().to_le_bytes());
        payload.extend(sums.of(page)?.get().to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(payload.len() + ENTRY_BYTES);
    put_entry(&mut bytes, DELTA, &payload);
    Some(bytes)
}

/// The bytes to append when the newest state can be followed from a better place; or, with `None`, when following was
/// interrupted, and no state noted until now can be followed from anywhere.
#[must_use]
pub fn moved(anchor: Option<&Anchor>) -> Vec<u8> {
    let (mut payload, mut bytes) = (Vec::new(), Vec::new());
    put_anchor(&mut payload, anchor);
    put_entry(&mut bytes, MOVED, &payload);
    bytes
}

/// Whether it is time for a new base, when so much was appended to one of this size.
#[must_use]
pub const fn is_outgrown(base_bytes: u64, appended_bytes: u64) -> bool {
    appended_bytes > base_bytes.saturating_add(SLACK_BYTES)
}

/// The state that slot `txid` led to, if it had this checksum. `None` when the log does not have it, or is none.
#[must_use]
pub fn find(bytes: &[u8], txid: u64, checksum: Checksum) -> Option<KnownState> {
    let entries = entries(bytes)?;
    let is_wanted = |state: &State| state.txid == txid && state.checksum == checksum;
    let found = entries.iter().rposition(|entry| entry.state().is_some_and(is_wanted))?;
    let (until, after) = entries.split_at_checked(found + 1)?;
    let (Entry::Base { base, page_size, identity, sums }, deltas) = until.split_first()? else { return None };
    let (mut sums, mut state) = (read_sums(sums), base);
    for entry in deltas {
        if let Entry::Delta { state: next, pages } = entry {
            apply(&mut sums, next, pages)?;
            state = next;
        }
    }
    let sums = PageSums::known(sums);
    if sums.checksum() != Some(checksum) {
        return None;
    }
    let anchor = anchor(state, after);
    Some(KnownState { identity: identity.clone(), page_size: *page_size, txid: state.txid, sums, anchor })
}

/// The anchor of a state, with what was said of it and of the file later on.
fn anchor(state: &State, after: &[Entry<'_>]) -> Option<Anchor> {
    let moved = |entry: &Entry<'_>| match entry {
        Entry::Moved(anchor) => *anchor,
        Entry::Base { .. } | Entry::Delta { .. } => None,
    };
    if after.iter().any(|entry| matches!(entry, Entry::Moved(None))) {
        return None;
    }
    let own = after.iter().map_while(moved).last().or(state.anchor)?;
    // Whoever saw the file later was following it still: what was written until then was written by SQLite.
    let seen = after.iter().rev().find_map(Entry::anchor).map_or(own.stamp, |last| last.stamp);
    Some(Anchor { stamp: seen, is_settled: own.is_settled && own.stamp == seen, ..own })
}

/// What base and delta both say of the state they lead to.
#[derive(Clone, Copy, Debug)]
struct State {
    txid: u64,
    checksum: Checksum,
    page_count: u32,
    anchor: Option<Anchor>,
}

#[derive(Clone, Debug)]
enum Entry<'b> {
    Base { base: State, page_size: PageSize, identity: LogIdentity, sums: &'b [u8] },
    Delta { state: State, pages: &'b [u8] },
    Moved(Option<Anchor>),
}

impl Entry<'_> {
    const fn state(&self) -> Option<&State> {
        match self {
            Self::Base { base: state, .. } | Self::Delta { state, .. } => Some(state),
            Self::Moved(_) => None,
        }
    }

    const fn anchor(&self) -> Option<&Anchor> {
        match self {
            Self::Base { base: state, .. } | Self::Delta { state, .. } => state.anchor.as_ref(),
            Self::Moved(anchor) => anchor.as_ref(),
        }
    }
}

/// Every whole entry; `None` when there is not even a base.
fn entries(bytes: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut entries = Vec::new();
    while let Some((kind, payload)) = take_entry(&mut rest) {
        let entry = match (kind, entries.is_empty()) {
            (BASE, true) => take_base(payload),
            (DELTA, false) => take_delta(payload),
            (MOVED, false) => take_anchor(&mut { payload }).map(Entry::Moved),
            (_, _) => None,
        };
        entries.push(entry?);
    }
    if entries.is_empty() { None } else { Some(entries) }
}

fn take_base(mut payload: &[u8]) -> Option<Entry<'_>> {
    let base = take_state(&mut payload)?;
    let page_size = PageSize::try_new(u32::from_le_bytes(take(&mut payload)?))?;
    let mut text = || {
        let length = usize::from(u16::from_le_bytes(take(&mut payload)?));
        let (text, rest) = payload.split_at_checked(length)?;
        payload = rest;
        String::from_utf8(text.to_vec()).ok()
    };
    let identity = LogIdentity { lineage: text()?, boot_id: text()?, file_id: text()? };
    let is_whole = payload.len() as u64 == u64::from(base.page_count) * 8;
    is_whole.then_some(Entry::Base { base, page_size, identity, sums: payload })
}

fn take_delta(mut payload: &[u8]) -> Option<Entry<'_>> {
    let state = take_state(&mut payload)?;
    payload.len().is_multiple_of(CHANGE_BYTES).then_some(Entry::Delta { state, pages: payload })
}

fn read_sums(bytes: &[u8]) -> Vec<PageChecksum> {
    bytes.as_chunks().0.iter().map(|bits| PageChecksum::from_bits(u64::from_le_bytes(*bits))).collect()
}

/// Brings the sums to the state of a delta. Every page that appears must be named, but for the lock page, so no number in
/// a hostile log makes us ask for memory it does not fill itself.
fn apply(sums: &mut Vec<PageChecksum>, state: &State, pages: &[u8]) -> Option<()> {
    let changes = pages.as_chunks::<CHANGE_BYTES>().0;
    let size = state.page_count as usize;
    if size > sums.len() + changes.len() + 1 {
        return None;
    }
    sums.resize(size, PageChecksum::from_bits(0));
    for [a, b, c, d, sum @ ..] in changes {
        let page = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        *sums.get_mut(page.checked_sub(1)?)? = PageChecksum::from_bits(u64::from_le_bytes(*sum));
    }
    Some(())
}

fn put_state(out: &mut Vec<u8>, txid: u64, checksum: Checksum, page_count: usize, anchor: Option<&Anchor>) {
    out.extend(txid.to_le_bytes());
    out.extend(checksum.get().to_le_bytes());
    out.extend(u32::try_from(page_count).unwrap_or(u32::MAX).to_le_bytes());
    put_anchor(out, anchor);
}

fn take_state(rest: &mut &[u8]) -> Option<State> {
    Some(State {
        txid: u64::from_le_bytes(take(rest)?),
        checksum: Checksum::try_new(u64::from_le_bytes(take(rest)?))?,
        page_count: u32::from_le_bytes(take(rest)?),
        anchor: take_anchor(rest)?,
    })
}

fn put_anchor(out: &mut Vec<u8>, anchor: Option<&Anchor>) {
    out.push(anchor.map_or(NO_ANCHOR, |anchor| if anchor.is_settled { SETTLED } else { ANCHOR }));
    let Some(Anchor { place, stamp, .. }) = anchor else { return };
    out.extend(place.encode());
    out.extend(stamp.bytes.to_le_bytes());
    out.extend(stamp.modified.0.to_le_bytes());
    out.extend(stamp.modified.1.to_le_bytes());
}

/// `None` for bytes that are no anchor, `Some(None)` for those that say that there is none.
#[expect(clippy::option_option, reason = "one is damage and the other is an answer")]
fn take_anchor(rest: &mut &[u8]) -> Option<Option<Anchor>> {
    let is_settled = match take(rest)? {
        [NO_ANCHOR] => return Some(None),
        [ANCHOR] => false,
        [SETTLED] => true,
        [_] => return None,
    };
    let place = WalPlace::decode(&take::<WAL_PLACE_BYTES>(rest)?);
    let bytes = u64::from_le_bytes(take(rest)?);
    let modified = (i64::from_le_bytes(take(rest)?), u32::from_le_bytes(take(rest)?));
    Some(Some(Anchor { place, stamp: FileStamp { bytes, modified }, is_settled }))
}

fn put_entry(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let begin = out.len();
    out.push(kind);
    out.extend((payload.len() as u64).to_le_bytes());
    out.extend(payload);
    let checksum = crc(out.get(begin..).unwrap_or_default());
    out.extend(checksum.to_le_bytes());
}

/// Takes the next whole entry off the front: its kind and what it holds.
fn take_entry<'b>(rest: &mut &'b [u8]) -> Option<(u8, &'b [u8])> {
    let whole = *rest;
    let [kind] = take(rest)?;
    let length = usize::try_from(u64::from_le_bytes(take(rest)?)).ok()?;
    let (payload, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    let summed = whole.get(..ENTRY_HEAD_BYTES + length)?;
    (u64::from_le_bytes(take(rest)?) == crc(summed)).then_some((kind, payload))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

fn crc(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

/// Whatever the bytes are, no state is found that does not add up to the checksum asked for, and nothing panics.
#[doc(hidden)]
pub fn fuzz_page_log(bytes: &[u8]) {
    let Some(entries) = entries(bytes) else { return };
    for state in entries.iter().filter_map(Entry::state) {
        if let Some(known) = find(bytes, state.txid, state.checksum) {
            assert_eq!(known.sums.checksum(), Some(state.checksum), "BUG: a state that does not add up");
        }
    }
}

/// How much may be appended to however small a base.
pub const SLACK_BYTES: u64 = 64 * 1024;

/// The name of the format and its version.
const MAGIC: &[u8] = b"lifeboat page log 1\n";
const BASE: u8 = 1;
const DELTA: u8 = 2;
const MOVED: u8 = 3;
const NO_ANCHOR: u8 = 0;
const ANCHOR: u8 = 1;
const SETTLED: u8 = 2;
/// Kind and length.
const ENTRY_HEAD_BYTES: usize = 9;
/// The same, and the checksum.
const ENTRY_BYTES: usize = ENTRY_HEAD_BYTES + 8;
const BASE_BYTES_MIN: usize = 256;
/// A page number and a checksum.
const CHANGE_BYTES: usize = 12;

#[cfg(test)]
mod tests;
