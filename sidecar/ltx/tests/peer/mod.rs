//! The real Litestream.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lifeboat_ltx::Txid;

/// Path of Litestream's binary.
pub(crate) fn litestream() -> PathBuf {
    let path = std::env::var_os("LITESTREAM_BIN").map(PathBuf::from);
    path.unwrap_or_else(|| {
        panic!("LITESTREAM_BIN is not set: run `make unit`, or LITESTREAM_BIN=$(e2e/peers/litestream.sh) cargo test")
    })
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
