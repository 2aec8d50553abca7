//! The bucket, politely: S3 or a directory behind one trait.
//!
//! | module | holds |
//! |---|---|
//! | [`Store`] | what a bucket must be able to do |
//! | [`S3`] | any server that speaks S3 |
//! | [`Counted`], [`Requests`] | any of them, counting what is asked of it |
//! | [`Directory`] | a directory, for people without a bucket |
//! | [`conformance`] | the promises of the trait as one suite, for every implementation |
//! | [`check`] | what a user is told of a store: can it fence, and what it means when it cannot |
//!
//! *Invariant:* this crate does not know what it stores, and decides nothing about it. It never turns an answer that
//! did not come into "absent", never retries a write whose outcome is unknown, and never puts a secret into a message.

pub mod check;
pub mod conformance;

mod counted;
mod directory;
mod error;
mod probe;
mod s3;
mod store;

pub use counted::{Counted, Requests};
pub use directory::Directory;
pub use error::{Place, StoreError};
pub use probe::completes_exclusively;
pub use s3::{KeptAs, Keys, S3, S3Config};
pub use store::{Body, ETag, Listed, Object, ObjectReader, Store, Upload};
