//! `lifeboat replicate --once`: everything committed now is stored, and then the process ends.

use std::time::Duration;

use futures::future::join_all;
use lifeboat_wire::Reason;

use crate::board::Post;
use crate::exit::Failure;

/// Waits until everything is stored that was committed when each database was opened, or there is nothing to wait for.
///
/// # Errors
/// The gravest [`Failure`] of all databases, without those of which a follower says itself why it ended.
pub async fn until_stored(posts: Vec<Post>) -> Result<(), Failure> {
    let stored = join_all(posts.iter().map(stored)).await;
    Failure::gravest(stored.into_iter().filter_map(Result::err))
}

/// Waits until one is stored, or there is nothing to wait for.
async fn stored(post: &Post) -> Result<(), Failure> {
    tokio::select! {
        // A follower that ends says itself why.
        _ = post.demand().made() => Ok(()),
        failure = is_absent(post) => Err(failure),
    }
}

/// Only an application could create the database, and nobody waits for one here.
async fn is_absent(post: &Post) -> Failure {
    loop {
        if let Some(status) = post.status()
            && status.reason == Some(Reason::WaitingForDatabase)
        {
            let message = format!("{}: there is no database to store; check the path", status.path);
            return Failure::refused(Reason::WaitingForDatabase, message);
        }
        tokio::time::sleep(LOOK).await;
    }
}

const LOOK: Duration = Duration::from_millis(50);
