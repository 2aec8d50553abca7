//! The hands of Lifeboat: the program `lifeboat`, as a library that its tests and the simulator can use.
//!
//! | modules | do |
//! |---|---|
//! | [`args`], [`spelling`], [`config`], [`location`], [`exit`], [`telemetry`] | the door: what the user says, and how it ends |
//! | [`database`], [`watch`], [`trouble`] | the application's database: followed, read, never written |
//! | [`bucket`], [`connect`], [`retry`] | the replica in its store |
//! | [`claim`], [`handover`], [`marks`], [`pod`] | who we are, and whether we may write |
//! | [`take`] | `--take`: a person chooses between a local database and a replica that it does not continue |
//! | [`adopt`], [`import`] | `--adopt`: a replica that Litestream has written becomes ours; a database out of what it has stored, also 0.3 |
//! | [`opening`], [`first_view`], [`scan`], [`page_log_file`] | what the database holds already, and what the bucket has of it |
//! | [`replicate`], [`child`], [`once`], [`reload`], [`fleet`], [`limits`], [`places`], [`discovery`], [`follower`], [`capture`], [`backlog`], [`pace`], [`notes`], [`slot_file`], [`parts`], [`streaming`], [`upload`], [`upload_parts`], `writer` | from a commit to a stored slot |
//! | [`restore`], [`pod_restore`], [`local`], [`page_writer`], [`rebuild`], [`progress`] | from stored files to a database |
//! | [`board`], [`measures`], [`metrics`], [`demand`], [`http`], [`answer`], [`socket`] | what is said of it and asked of it |
//! | [`store_now`], [`show`], [`ctl`] | whoever asks: `lifeboat sync`, `lifeboat status`, the probes |
//! | [`configured`], [`files`], [`manual`], [`table`] | what lists and explains: databases, config, files of a replica, pages |
//! | [`fork`], [`forks`] | a database that lost its replica is saved; whoever looks at it afterwards |
//! | [`verify`] | whoever wants to know whether a replica is sound |
//! | [`store_check`] | whoever chooses a bucket: `lifeboat store check` |
//! | [`disk`], [`scratch`], [`clock`], [`blocking`], [`shutdown`] | files, times and threads, and how it stops |
//!
//! What to do next is decided in `lifeboat_replica`; here it is done.

pub mod adopt;
pub mod answer;
pub mod args;
pub mod backlog;
pub mod blocking;
pub mod board;
pub mod bucket;
pub mod capture;
pub mod child;
pub mod claim;
pub mod clock;
pub mod compact;
pub mod config;
pub mod configured;
pub mod connect;
pub mod ctl;
pub mod damage;
pub mod database;
pub mod demand;
pub mod deriving;
pub mod discovery;
pub mod disk;
pub mod exit;
#[cfg(test)]
mod faulty;
pub mod files;
pub mod first_view;
pub mod fleet;
pub mod follower;
pub mod fork;
pub mod forks;
pub mod handover;
mod history;
pub mod http;
pub mod import;
pub mod limits;
pub mod local;
pub mod location;
#[cfg(test)]
mod made_up;
pub mod manual;
pub mod marks;
pub mod measures;
pub mod metrics;
pub mod notes;
pub mod once;
pub mod opening;
pub mod pace;
pub mod page_log_file;
pub mod page_writer;
pub mod parts;
pub mod places;
pub mod pod;
pub mod pod_restore;
pub mod progress;
pub mod prune;
pub mod pulse;
pub mod rebuild;
pub mod reload;
pub mod replicate;
pub mod restore;
pub mod retry;
pub mod scan;
pub mod scratch;
pub mod show;
pub mod shutdown;
pub mod slot_file;
pub mod socket;
pub mod spelling;
pub mod store_check;
pub mod store_now;
pub mod streaming;
pub mod survey;
pub mod table;
pub mod take;
pub mod telemetry;
pub mod trouble;
pub mod upload;
pub mod upload_parts;
pub mod verify;
mod view_bounds;
pub mod watch;
mod writer;
