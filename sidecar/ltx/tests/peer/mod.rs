//! The real Litestream.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lifeboat_ltx::Txid;

/// Path of Litestream's binary. Without one these tests pass with a word on stderr, except where CI is set.
pub(crate) fn litestream() -> Option<PathBuf> {
    let hint =
        "LITESTREAM_BIN is not set: run `make test`, or LITESTREAM_BIN=$(e2e/peers/litestream.sh) cargo test";
    match std::env::var_os("LITESTREAM_BIN") {
        Some(path) => Some(path.into()),
        None if std::env::var_os("CI").is_some() => panic!("{hint}"),
        None => {
            eprintln!("SKIPPED: {hint}");
            None
        }
    }
}

/// Runs `litestream restore` from a directory replica and returns the restored bytes.
pub(crate) fn restore(litestream: &Path, replica: &Path, out: &Path, txid: Option<Txid>) -> Vec<u8> {
    let mut command = Command::new(litestream);
    command.arg("restore").arg("-o").arg(out);
    if let Some(txid) = txid {
        command.arg("-txid").arg(txid.to_string());
    }
    succeeded(&command.arg(format!("file://{}", replica.display())).output().unwrap());
    let bytes = std::fs::read(out).unwrap();
    std::fs::remove_file(out).unwrap();
    bytes
}

pub(crate) fn succeeded(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}
