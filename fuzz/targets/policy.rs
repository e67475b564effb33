#![no_main]
#![doc = "See [`fuzz::policy`]."]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::policy::run(input));
