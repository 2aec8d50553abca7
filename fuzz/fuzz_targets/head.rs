#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_replica::head::fuzz_head(bytes));
