#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_wal::scan::fuzz_wal_scan(bytes));
