#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_wal::header::fuzz_wal_header(bytes));
