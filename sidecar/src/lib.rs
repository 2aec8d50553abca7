//! (module docs follow)

pub mod database;
pub mod watch;
