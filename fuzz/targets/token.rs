#![no_main]
#![doc = "See [`fuzz::token`]."]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::token::run(input));
