#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_replica::page_log::fuzz_page_log(bytes));
