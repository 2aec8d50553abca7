//! Arguments of a choice between two databases.

use clap::ValueEnum;

/// Which of two databases that contradict each other is gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Take {
    /// The bucket's takes the place of the local one.
    Remote,
    /// The local one becomes the newest state of the replica.
    Local,
    /// None: the bucket's is written beside the local one, to compare, and nothing is started.
    Neither,
}
