#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_replica::fork::fuzz_note(bytes));
