//! Performs what a claim decides: the hands of [`lifeboat_replica::claim`].

use std::time::Duration;

use lifeboat_replica::adoption::{Ask, Chain, Look, LookStep, Record, Told};
use lifeboat_replica::claim::{
    Action, Claim, ClaimError, Claimant, Fact, Opened, Opening, OpeningStep, Patience, Sealed, Step,
};
use lifeboat_replica::head::{Owner, hex};
use lifeboat_replica::promise::Promise;
use lifeboat_replica::slot::WriteAnswer;
use lifeboat_wire::Reason;
use tokio::time::Instant;

use crate::bucket::Bucket;
use crate::clock::{millis, wall_ms};
use crate::exit::{Exit, Failure};
use crate::handover::HandOver;
use crate::marks::Marks;
use crate::pod;
use crate::retry::Trying;

/// Claims and seals the replica (steps 1 to 5): afterwards no predecessor can store anything.
///
/// # Errors
/// [`Failure`] when the replica may not be taken, or the store stays away for longer than `trying` allows.
pub async fn seal(bucket: &Bucket, claimant: Claimant, trying: &mut Trying) -> Result<Sealed, Failure> {
    let begun = Instant::now();
    let is_said = std::cell::Cell::new(false);
    let (mut claim, mut action) = Claim::begin(claimant);
    loop {
        if matches!(action, Action::Pause(_)) && !is_said.replace(true) {
            tracing::info!("the previous writer of {bucket} still makes progress; waiting for it to end");
        }
        let fact = perform(bucket, action, trying).await?;
        let now = millis(begun.elapsed());
        match claim.handle(now, fact)? {
            Step::Do(next) => action = next,
            Step::Sealed(sealed) => return Ok(sealed),
        }
    }
}

/// Opens a sealed claim (step 6) under a nonce of this process: it may write.
///
/// # Errors
/// Fenced when the claim was overtaken; otherwise as [`seal`].
pub async fn open(bucket: &Bucket, claim: HandOver, trying: &mut Trying) -> Result<Opened, Failure> {
    let owner = Owner { nonce: pod::new_owner()?.nonce, ..claim.head.owner.clone() };
    let (mut opening, mut action) = Opening::begin(claim.head, owner, claim.base);
    loop {
        let fact = perform(bucket, action, trying).await?;
        match opening.handle(fact)? {
            OpeningStep::Do(next) => action = next,
            OpeningStep::Opened(opened) => return Ok(opened),
        }
    }
}

/// This process as a claimant.
///
/// # Errors
/// A bug where the kernel gives no random bits.
pub fn claimant(
    sync_interval: Duration,
    handover_timeout: Duration,
    is_restarted: bool,
    expected: Option<u64>,
    promise: Option<Promise>,
) -> Result<Claimant, Failure> {
    Ok(Claimant {
        owner: pod::new_owner()?,
        new_lineage: hex(pod::random_bits()?),
        wall_ms: wall_ms(),
        patience: Patience::new(millis(sync_interval), millis(handover_timeout)),
        is_restarted,
        expected,
        promise,
    })
}

/// Performs one action. Reads are repeated until they are answered; a write that was not answered is told as unclear.
async fn perform(bucket: &Bucket, action: Action, trying: &mut Trying) -> Result<Fact, Failure> {
    loop {
        let failure = match try_perform(bucket, &action).await {
            Ok(fact) => {
                trying.worked();
                return Ok(fact);
            }
            Err(failure) if failure.exit == Exit::Unavailable => failure,
            Err(failure) => return Err(failure),
        };
        trying.again(failure).await?;
        match action {
            Action::CreateHead(_) | Action::ReplaceHead { .. } => {
                return Ok(Fact::HeadWritten(WriteAnswer::Unclear, None));
            }
            Action::PutSeal { .. } => return Ok(Fact::SealWritten(WriteAnswer::Unclear)),
            Action::ReadHead
            | Action::CountFiles
            | Action::ListSlots { .. }
            | Action::ReadSlot(_)
            | Action::Pause(_) => {}
        }
    }
}

/// What a write came to; one that was not answered may have happened, and some time passes.
///
/// # Errors
/// The failure, where it was an answer or there is no time left.
pub(crate) async fn or_unclear(
    written: Result<WriteAnswer, Failure>,
    trying: &mut Trying,
) -> Result<WriteAnswer, Failure> {
    match written {
        Err(failure) if failure.exit == Exit::Unavailable => {
            trying.again(failure).await?;
            Ok(WriteAnswer::Unclear)
        }
        answered => {
            trying.worked();
            answered
        }
    }
}

async fn try_perform(bucket: &Bucket, action: &Action) -> Result<Fact, Failure> {
    Ok(match action {
        Action::ReadHead => Fact::Head(bucket.head().await?),
        Action::CountFiles => Fact::FileCount(bucket.files().await?.len()),
        Action::CreateHead(head) => {
            let (answer, etag) = bucket.create_head(head).await?;
            Fact::HeadWritten(answer, etag)
        }
        Action::ReplaceHead { head, etag } => {
            let (answer, etag) = bucket.replace_head(head, etag).await?;
            Fact::HeadWritten(answer, etag)
        }
        Action::ListSlots { after } => {
            Fact::Slots(bucket.slots(*after).await?.into_iter().map(|file| file.max).collect())
        }
        Action::ReadSlot(txid) => Fact::Slot(bucket.slot(*txid).await?),
        Action::PutSeal { txid, bytes } => Fact::SealWritten(bucket.create_seal(*txid, bytes).await?),
        Action::Pause(ms) => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            Fact::Resumed
        }
    })
}

/// What the bucket holds, for the question whether the database beside these marks continues it. `trouble` hears of each
/// attempt that failed.
///
/// # Errors
/// [`Failure`] when it cannot be read, or the store stays away for longer than `trying` allows; refused when it holds nothing
/// although the marks say that something was stored there, or whoever started us `expects_data`.
pub async fn chain(
    bucket: &Bucket,
    (marks, expects_data): (&Marks, bool),
    trying: &mut Trying,
    trouble: impl Fn(&Failure),
) -> Result<Chain, Failure> {
    let record = marks.record()?;
    loop {
        match read_chain(bucket, record.as_ref()).await {
            Err(failure) if failure.exit == Exit::Unavailable => {
                trouble(&failure);
                trying.again(failure).await?;
            }
            answered => {
                let (chain, promise) = (answered?, marks.promise(bucket, expects_data)?);
                promise.map_or(Ok(()), |promise| promise.require_kept(&chain))?;
                return Ok(chain);
            }
        }
    }
}

async fn read_chain(bucket: &Bucket, record: Option<&Record>) -> Result<Chain, Failure> {
    let (mut look, mut ask) = Look::begin(record.cloned());
    loop {
        let told = match ask {
            Ask::Head => Told::Head(bucket.head().await?.map(|(head, _)| head)),
            Ask::Slots { after } => Told::Files(bucket.slots(after).await?),
            Ask::Everything => Told::Files(bucket.files().await?),
            Ask::Slot(txid) => Told::Slot(bucket.slot(txid).await?),
        };
        match look.handle(told)? {
            LookStep::Ask(next) => ask = next,
            LookStep::Chain(chain) => return Ok(chain),
        }
    }
}

/// Somebody stored something while we looked; whoever hears this begins anew.
pub(crate) fn moved(bucket: &Bucket) -> Failure {
    Failure::unavailable(format!("{bucket} changed while it was looked at; looking again"))
}

impl From<ClaimError> for Failure {
    fn from(error: ClaimError) -> Self {
        let message = error.to_string();
        match error {
            ClaimError::UnclaimedData { .. } | ClaimError::ForeignFile { .. } => {
                Self::refused(Reason::UnclaimedData, message)
            }
            ClaimError::Emptied(_) => Self::refused(Reason::ReplicaEmpty, message),
            ClaimError::ForeignOwner { .. } => Self::refused(Reason::PrefixConflict, message),
            ClaimError::NotConformant { .. } => Self::refused(Reason::StoreNotConformant, message),
            ClaimError::Lost { .. } | ClaimError::Superseded { .. } => Self::fenced(message),
            ClaimError::Hole { .. } | ClaimError::NoSlots { .. } => Self::damaged(Reason::ChainGap, message),
            ClaimError::BrokenChain { .. } => Self::damaged(Reason::IntegrityFailed, message),
            ClaimError::Moved { .. } => Self::unavailable(message),
            ClaimError::Bug { .. } => Self::bug(message),
            other => Self::bug(format!("a claim failed in an unknown way: {other}")),
        }
    }
}
