#![no_main]
#![doc = "See [`fuzz::head`]."]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::head::run(input));
