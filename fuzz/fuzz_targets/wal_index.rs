#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_wal::wal_index::fuzz_wal_index(bytes));
