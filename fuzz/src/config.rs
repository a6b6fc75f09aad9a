//! The configuration file. Its reader is part of the program, which is no
//! library, so it is compiled a second time here.

#[path = "../../crates/turnwise/src/config/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "only the reading is used here")]
mod read;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::sync::LazyLock;

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> =
        RefCell::new(tempfile::NamedTempFile::new().expect("a file of our own"));
}

/// The keys whose values are secret.
static SECRETS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let settings = read::reference().into_iter().filter(|setting| setting.secret);
    settings.map(|setting| setting.key).collect()
});

/// What no row and no error may show when it is a secret.
const MARKER: &str = "vq4Marker7Zx";
/// How a line of a file may hold it: as it should be, of the wrong kind, not ended, not quoted, as part of a URL.
const FORMS: [fn(&str) -> String; 5] = [
    |key| format!("{key} = \"{MARKER}\"\n"),
    |key| format!("{key} = [\"{MARKER}\"]\n"),
    |key| format!("{key} = \"{MARKER}\n"),
    |key| format!("{key} = {MARKER}\n"),
    |key| format!("{key} = \"http://user:{MARKER}@host:1/ {MARKER}\"\n"),
];

/// A file is taken, or refused with a sentence and a hint; secrets in it are never quoted.
pub(crate) fn config(input: &[u8]) {
    if input.windows(MARKER.len()).any(|part| part == MARKER.as_bytes()) {
        return;
    }
    let which = input.iter().fold(input.len(), |sum, byte| sum + usize::from(*byte));
    take(input);
    take(&[planted(which).as_bytes(), input].concat());
}

/// A line that sets one of the secrets to the marker, in one of the forms.
fn planted(which: usize) -> String {
    let secret = SECRETS.get(which % SECRETS.len()).expect("there are secrets");
    let form = FORMS.get(which / SECRETS.len() % FORMS.len()).expect("there are forms");
    form(secret)
}

fn take(input: &[u8]) {
    FILE.with_borrow_mut(|file| {
        file.as_file().set_len(0).expect("our own file");
        file.rewind().expect("our own file");
        file.write_all(input).expect("our own file");
        let loaded = read::Config::load(Some(file.path()), &BTreeMap::new(), &[]);
        match loaded {
            Ok(config) => {
                for row in read::rows(&config) {
                    assert!(!row.value.contains(MARKER), "the marker is shown: {row:?}");
                    let is_secret = SECRETS.contains(&row.key);
                    let is_hidden = row.value.is_empty() || row.value == "********";
                    assert!(!is_secret || is_hidden, "a secret is shown: {row:?}");
                }
            }
            Err(error) => {
                assert!(!error.detail.is_empty() && !error.hint.is_empty(), "{error:?}");
                let shown = format!("{} {}", error.detail, error.hint);
                assert!(!shown.contains(MARKER), "the marker is shown: {shown}");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown_in_any_form() {
        assert!(SECRETS.len() > 3);
        for which in 0..SECRETS.len() * FORMS.len() {
            take(planted(which).as_bytes());
        }
    }
}
