#![no_main]

#[path = "../bodies.rs"]
#[allow(dead_code, reason = "a target runs one of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::stored_map(bytes));
