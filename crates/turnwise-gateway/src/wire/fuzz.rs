//! For fuzzing: what must hold for any bytes of a connection.

use super::follow::{Follower, Stop};
use http::{HeaderName, Method, Uri};

/// Reads these bytes as those of a connection, in pieces of several lengths.
/// Panics if the pieces change the outcome, or if something goes on that the
/// library behind would read differently or not at all.
#[doc(hidden)]
pub fn fuzz_head(bytes: &[u8]) {
    let whole = run(bytes, bytes.len().max(1));
    for length in [1, 2, 7, 64] {
        let pieces = run(bytes, length);
        assert_eq!(whole.heads, pieces.heads, "in pieces of {length}");
        match (whole.stop, pieces.stop) {
            (Some(Stop::Refused(_)), Some(Stop::Refused(_))) | (None, None) => {
                assert_eq!(whole.passed, pieces.passed, "in pieces of {length}");
            }
            (Some(Stop::Broken), Some(Stop::Broken)) => assert!(whole.passed <= pieces.passed),
            (left, right) => panic!("{left:?} at once, {right:?} in pieces of {length}"),
        }
    }
    for head in &whole.heads {
        agrees(head);
    }
}

#[derive(Default)]
struct Run {
    heads: Vec<Vec<u8>>,
    passed: usize,
    stop: Option<Stop>,
}

fn run(bytes: &[u8], length: usize) -> Run {
    let mut follower = Follower::new();
    let mut run = Run::default();
    let mut held = Vec::new();
    for piece in bytes.chunks(length) {
        held.extend_from_slice(piece);
        // One head at a time, so that each is seen.
        while run.stop.is_none() && !held.is_empty() {
            let at_head = follower.is_at_head();
            let (passed, stop) = follower.read_once(&held);
            let rest = held.split_off(passed);
            let gone = std::mem::replace(&mut held, rest);
            run.passed += passed;
            run.stop = stop;
            if passed == 0 {
                break;
            }
            if at_head {
                run.heads.push(gone);
            }
        }
    }
    run
}

/// The library takes every part of it.
fn agrees(head: &[u8]) {
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.trim_start_matches("\r\n").split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ');
    let method = request.next().unwrap_or_default();
    assert!(method.parse::<Method>().is_ok(), "method {method:?}");
    let target = request.next().unwrap_or_default();
    assert!(target.parse::<Uri>().is_ok(), "target {target:?}");
    for line in lines.take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default();
        assert!(name.parse::<HeaderName>().is_ok(), "name {name:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: &[&[u8]] = &[
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /x?y=%20 HTTP/1.1\r\n",
            b"GET http://a:1/{x}|y HTTP/1.0\r\n",
            b"Host: a\r\n",
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"\r\n",
            b"5\r\nhello\r\n",
            b"5;x=y\r\nhello\r\n",
            b"0\r\n\r\n",
            b"0\r\nX: y\r\n\r\n",
            b"hello",
            b"\n",
            b"\r",
            b" ",
            b"\t",
            b":",
            b"\0",
            b"\xff",
        ];
        let piece = prop::sample::select(PIECES);
        prop::collection::vec(prop_oneof![8 => piece.prop_map(<[u8]>::to_vec), 1 => any::<Vec<u8>>()], 0..12)
            .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_have_one_outcome_however_they_are_cut(bytes in pieces()) {
            fuzz_head(&bytes);
        }

        #[test]
        fn targets_that_go_on_are_targets_to_the_library(target in "[!-~]{1,40}", host in "[!-~]{1,12}") {
            fuzz_head(format!("GET /{target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
            fuzz_head(format!("GET http://{host}{target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        }
    }
}
