#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_replica::layout::fuzz_object_name(bytes));
