//! libFuzzer around one target, named by `TURNWISE_FUZZ_TARGET`.
#![no_main]
#![allow(unsafe_code, reason = "libFuzzer calls a C function")]

use std::sync::OnceLock;

static TARGET: OnceLock<fuzz::Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("TURNWISE_FUZZ_TARGET").unwrap_or_default();
        let found = fuzz::TARGETS.iter().find(|(known, _)| *known == name);
        let (_, target) = found.expect("TURNWISE_FUZZ_TARGET names a target");
        let _ = TARGET.set(*target);
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(data);
        }
    }
);
