//! The configuration file. Its reader is part of the program, which is no
//! library, so it is compiled a second time here.

#[path = "../../crates/turnwise/src/config/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "only the reading is used here")]
mod read;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Seek, Write};

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> =
        RefCell::new(tempfile::NamedTempFile::new().expect("a file of our own"));
}

/// A file is taken, or refused with a sentence and a hint; secrets in it are never quoted.
pub(crate) fn config(input: &[u8]) {
    FILE.with_borrow_mut(|file| {
        file.as_file().set_len(0).expect("our own file");
        file.rewind().expect("our own file");
        file.write_all(input).expect("our own file");
        match read::Config::load(Some(file.path()), &BTreeMap::new(), &[]) {
            Ok(config) => {
                for row in read::rows(&config).iter().filter(|row| row.key.ends_with("api_key")) {
                    assert!(row.value.is_empty() || row.value == "********", "a secret is shown");
                }
            }
            Err(error) => assert!(!error.detail.is_empty() && !error.hint.is_empty(), "{error:?}"),
        }
    });
}
