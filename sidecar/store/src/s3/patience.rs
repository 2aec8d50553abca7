//! How long an upload may take: as long as it moves.
//!
//! In:  an upload on its way, and what the network takes of its body.
//! Out: its answer, or a timeout, when for a while the network took nothing and no answer came either.
//!
//! The kernel takes some megabytes at once and says nothing of what becomes of them, so on a slow link an upload is silent
//! at its end although it moves. How long that takes is found out: after a timeout the next upload may be silent for
//! longer, and one that arrives says what was needed.

use std::mem;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// What is known of the link to one bucket.
#[derive(Debug)]
pub(super) struct Patience {
    /// The silence that needs no reason.
    least: Duration,
    /// How often the link turned out to be half as fast as was believed.
    halvings: AtomicU32,
}

/// When the network last took something of a body, and the longest silence until then.
#[derive(Clone, Debug)]
pub(super) struct Moved(Arc<Mutex<(Instant, Duration)>>);

impl Patience {
    pub(super) const fn new(least: Duration) -> Self {
        Self { least, halvings: AtomicU32::new(0) }
    }

    /// Waits for the answer to an upload of so many bytes, whose body is watched by `moved`.
    pub(super) async fn wait<T, E>(
        &self,
        bytes: u64,
        moved: &Moved,
        upload: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, SdkError<E, HttpResponse>> {
        let halvings = self.halvings.load(Ordering::Relaxed);
        let silence_max = self.silence(bytes, halvings);
        let mut upload = pin!(upload);
        loop {
            let left = silence_max.saturating_sub(moved.silence());
            if left.is_zero() {
                return Err(self.too_slow(bytes, halvings, silence_max));
            }
            if let Ok(answer) = tokio::time::timeout(left, &mut upload).await {
                self.learn(bytes, moved.longest_silence(), answer.is_ok());
                return answer;
            }
        }
    }

    /// How long an upload of so many bytes may be silent: as long as the kernel may need for what it took, and a server for
    /// the whole.
    fn silence(&self, bytes: u64, halvings: u32) -> Duration {
        let unseen = bytes.min(UNSEEN_BYTES_MAX) * MILLIS / UNSEEN_BYTES_A_SECOND;
        let server = bytes * MILLIS / SERVER_BYTES_A_SECOND;
        let more = Duration::from_millis(unseen + server).saturating_mul(1 << halvings.min(HALVINGS_MAX));
        (self.least + more).min(SILENCE_MAX.max(self.least))
    }

    /// How long a request may take whose answer the server must work for, such as putting together so many bytes.
    pub(super) fn for_work_on(&self, bytes: u64) -> TimeoutConfig {
        TimeoutConfig::builder().operation_attempt_timeout(self.silence(bytes, 0)).build()
    }

    fn too_slow<E>(&self, bytes: u64, halvings: u32, silence: Duration) -> SdkError<E, HttpResponse> {
        if bytes >= TELLING_BYTES {
            // Those on their way at the same time have found out the same thing, once.
            self.halvings.fetch_max((halvings + 1).min(HALVINGS_MAX), Ordering::Relaxed);
        }
        SdkError::timeout_error(format!("nothing moved for {silence:.1?}"))
    }

    /// One that arrived tells how much of the patience was needed. Small ones tell nothing about large ones.
    fn learn(&self, bytes: u64, silence: Duration, has_arrived: bool) {
        if has_arrived && bytes >= TELLING_BYTES {
            let needed = (0..HALVINGS_MAX).find(|halvings| self.silence(bytes, *halvings) >= 2 * silence);
            self.halvings.fetch_min(needed.unwrap_or(HALVINGS_MAX), Ordering::Relaxed);
        }
    }
}

impl Moved {
    /// An upload that begins now.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new((Instant::now(), Duration::ZERO))))
    }

    /// Makes the network take the body in small pieces, and notes each.
    pub(super) fn watching(&self) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static {
        let moved = self.clone();
        move |request| {
            let moved = moved.clone();
            let body = mem::replace(request.body_mut(), SdkBody::taken());
            // The signature covers what is in memory, and must still find it.
            *request.body_mut() = body.map_preserve_contents(move |body| {
                SdkBody::from_body_1_x(Watched { body, left: Bytes::new(), moved: moved.clone() })
            });
        }
    }

    fn note(&self) {
        let mut state = self.lock();
        let (last, longest) = *state;
        *state = (Instant::now(), longest.max(last.elapsed()));
    }

    fn silence(&self) -> Duration {
        self.lock().0.elapsed()
    }

    fn longest_silence(&self) -> Duration {
        self.note();
        self.lock().1
    }

    fn lock(&self) -> MutexGuard<'_, (Instant, Duration)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body in small pieces.
struct Watched {
    body: SdkBody,
    left: Bytes,
    moved: Moved,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = aws_sdk_s3::error::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        this.moved.note();
        while this.left.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.left = bytes,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end @ (Some(Err(_)) | None) => return Poll::Ready(end),
            }
        }
        let piece = this.left.split_to(this.left.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (left, body) = (self.left.len() as u64, Body::size_hint(&self.body));
        let mut hint = SizeHint::new();
        hint.set_lower(left.saturating_add(body.lower()));
        if let Some(upper) = body.upper() {
            hint.set_upper(left.saturating_add(upper));
        }
        hint
    }
}

/// An upload has no time of its own, only a longest silence.
pub(super) fn unlimited() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder().disable_operation_attempt_timeout().build();
    aws_sdk_s3::config::Builder::new().timeout_config(timeouts)
}

const MILLIS: u64 = 1_000;
/// What the kernel and the HTTP library take of a body without sending it.
const UNSEEN_BYTES_MAX: u64 = 5 << 20;
/// How fast a link is believed to be at first.
const UNSEEN_BYTES_A_SECOND: u64 = 128 << 10;
/// How fast a server, or one before it that collects the whole first, works on what has arrived.
const SERVER_BYTES_A_SECOND: u64 = 16 << 20;
/// Eight times slower: 16 KiB a second.
const HALVINGS_MAX: u32 = 3;
/// No silence may be longer: then the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(10 * 60);
/// Only uploads of as much tell how fast a link is.
const TELLING_BYTES: u64 = 1 << 20;
const PIECE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn patience() -> Patience {
        Patience::new(Duration::from_secs(10))
    }

    #[test]
    fn small_uploads_are_never_waited_for_longer_than_they_need() {
        let patience = patience();
        patience.halvings.store(HALVINGS_MAX, Ordering::Relaxed);
        let silence = patience.silence(10_000, HALVINGS_MAX);
        assert!(silence < Duration::from_secs(11), "{silence:?}");
    }

    #[test]
    fn a_link_of_16_kib_a_second_is_patiently_waited_for_in_the_end() {
        let part = 5 * MIB;
        let seconds = |halvings| patience().silence(part, halvings).as_secs();
        assert_eq!([0, 1, 2].map(seconds), [50, 90, 171]);
        assert!(seconds(HALVINGS_MAX) > part / (16 << 10));
    }

    #[test]
    fn no_silence_is_longer_than_ten_minutes() {
        assert_eq!(patience().silence(1 << 40, HALVINGS_MAX), SILENCE_MAX);
    }

    #[test]
    fn what_arrives_says_how_much_patience_was_needed() {
        let patience = patience();
        for _ in 0..10 {
            let tried = patience.halvings.load(Ordering::Relaxed);
            let _: SdkError<(), _> = patience.too_slow(5 * MIB, tried, Duration::ZERO);
        }
        assert_eq!(patience.halvings.load(Ordering::Relaxed), HALVINGS_MAX);
        patience.learn(100, Duration::ZERO, true);
        assert_eq!(patience.halvings.load(Ordering::Relaxed), HALVINGS_MAX, "a small one tells nothing");
        patience.learn(5 * MIB, Duration::from_secs(40), true);
        assert_eq!(patience.halvings.load(Ordering::Relaxed), 1);
        patience.learn(5 * MIB, Duration::from_secs(1), true);
        assert_eq!(patience.halvings.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_moves_takes_any_time_and_what_does_not_ends() {
        let patience = Patience::new(Duration::from_millis(300));
        for is_moving in [true, false] {
            let moved = Moved::new();
            let upload = async {
                for _ in 0..20 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    if is_moving {
                        moved.note();
                    }
                }
                Ok::<_, SdkError<(), _>>(())
            };
            assert_eq!(patience.wait(0, &moved, upload).await.is_ok(), is_moving);
        }
    }

    #[test]
    fn those_that_fail_together_find_out_one_thing() {
        let patience = patience();
        for _ in 0..2 {
            let _: SdkError<(), _> = patience.too_slow(5 * MIB, 0, Duration::ZERO);
        }
        assert_eq!(patience.halvings.load(Ordering::Relaxed), 1);
    }
}
