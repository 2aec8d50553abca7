#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lifeboat_ltx::fuzz_page_index(bytes));
