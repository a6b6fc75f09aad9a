//! A table of frames, good and bad, each with what must come back (RFC 6455,
//! sections 5 to 8). Every case is sent in one piece and byte by byte.

use super::client::{CLOSE, Frame, PING, PONG, Socket, TEXT, connect, frame};
use crate::node::{Node, node};
use std::collections::BTreeSet;

const FIN: u8 = 0x80;
const BYTES_MAX: usize = 70_000;

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Back {
    /// An answer to `{"type":"ping"}` with this id.
    Answer(String),
    /// An `error` frame with this code.
    Error(&'static str),
    Pong(Vec<u8>),
    /// A close frame with this code, and the end.
    Close(u16),
    /// A close frame without a code, and the end.
    BareClose,
}

struct Case {
    name: String,
    bytes: Vec<u8>,
    back: Vec<Back>,
}

fn case(name: impl Into<String>, frames: &[Vec<u8>], back: &[Back]) -> Case {
    Case { name: name.into(), bytes: frames.concat(), back: back.to_vec() }
}

fn ask(id: &str) -> Vec<u8> {
    format!(r#"{{"type":"ping","id":"{id}"}}"#).into_bytes()
}

fn answer(id: &str) -> Back {
    Back::Answer(id.to_owned())
}

/// A question of just so many bytes.
fn ask_of(bytes: usize) -> Vec<u8> {
    let mut asked = ask("x");
    assert!(asked.len() <= bytes, "{bytes}");
    asked.resize(bytes, b' ');
    asked
}

/// A frame with its length written in so many bytes, whatever it is.
fn with_length(first: u8, length: u64, bytes: usize, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first, 0x80 | if bytes == 2 { 126 } else { 127 }];
    out.extend(&length.to_be_bytes()[8 - bytes..]);
    out.extend([0; 4]);
    out.extend(payload);
    out
}

fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first, u8::try_from(payload.len()).unwrap()];
    out.extend(payload);
    out
}

fn opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for opcode in 0..16_u8 {
        let back = match opcode {
            1 => vec![Back::Error("not_json")],
            2 => vec![Back::Close(1003)],
            8 => vec![Back::BareClose],
            9 => vec![Back::Pong(Vec::new())],
            10 => vec![],
            _ => vec![Back::Close(1002)],
        };
        cases.push(case(format!("opcode {opcode}, empty"), &[frame(FIN | opcode, b"")], &back));
        let back = match opcode {
            1 => vec![],
            2 => vec![Back::Close(1003)],
            _ => vec![Back::Close(1002)],
        };
        cases.push(case(format!("opcode {opcode}, not the last part"), &[frame(opcode, b"")], &back));
    }
    cases
}

fn bits_and_masks() -> Vec<Case> {
    let refused = [Back::Close(1002)];
    let mut cases = Vec::new();
    for bits in 1..8_u8 {
        cases.push(case(
            format!("reserved bits {bits} on text"),
            &[frame(FIN | bits << 4 | TEXT, &ask("a"))],
            &refused,
        ));
    }
    for bit in [0x40, 0x20, 0x10] {
        cases.push(case(format!("reserved bit {bit:x} on ping"), &[frame(FIN | bit | PING, b"")], &refused));
        let parts = [frame(TEXT, b"{"), frame(FIN | bit, b"}")];
        cases.push(case(format!("reserved bit {bit:x} on a later part"), &parts, &refused));
    }
    for (opcode, payload) in
        [(TEXT, ask("a")), (TEXT, vec![]), (PING, vec![1]), (PONG, vec![]), (CLOSE, vec![3, 232])]
    {
        cases.push(case(
            format!("opcode {opcode} without a mask"),
            &[unmasked(FIN | opcode, &payload)],
            &refused,
        ));
    }
    let zero = [vec![FIN | TEXT, 0x80 | 15, 0, 0, 0, 0], br#"{"type":"ping"}"#.to_vec()].concat();
    cases.push(case("a mask of zeros", &[zero], &[answer("")]));
    cases
}

fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for bytes in [24, 124, 125, 126, 127, 128, 65_535, 65_536, 65_537, BYTES_MAX] {
        cases.push(case(
            format!("text of {bytes} bytes"),
            &[frame(FIN | TEXT, &ask_of(bytes))],
            &[answer("x")],
        ));
    }
    let too_long = [Back::Close(1009)];
    cases.push(case(
        "one byte too long",
        &[with_length(FIN | TEXT, BYTES_MAX as u64 + 1, 8, b"")],
        &too_long,
    ));
    cases.push(case("longest there is", &[with_length(FIN | TEXT, (1 << 63) - 1, 8, b"")], &too_long));
    let parts = [frame(TEXT, &ask_of(BYTES_MAX)), frame(0, b" ")];
    cases.push(case("too long in parts", &parts, &too_long));
    let parts = [frame(TEXT, &ask_of(BYTES_MAX - 1)), frame(FIN, b" ")];
    cases.push(case("longest in parts", &parts, &[answer("x")]));
    let refused = [Back::Close(1002)];
    cases.push(case("first bit of a length", &[with_length(FIN | TEXT, 1 << 63, 8, b"")], &refused));
    for (length, bytes) in [(0, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65_535, 8)] {
        let long = with_length(FIN | TEXT, length, bytes, &vec![b' '; length as usize]);
        cases.push(case(format!("{length} written in {bytes} bytes"), &[long], &refused));
    }
    for bytes in [0, 1, 124, 125] {
        let payload = vec![0xff; bytes];
        cases.push(case(format!("ping of {bytes}"), &[frame(FIN | PING, &payload)], &[Back::Pong(payload)]));
    }
    for opcode in [PING, PONG, CLOSE] {
        for bytes in [126, 65_536] {
            let long = frame(FIN | opcode, &vec![0; bytes]);
            cases.push(case(format!("opcode {opcode} of {bytes}"), &[long], &refused));
        }
    }
    cases
}

/// A text in parts, cut at these places.
fn parts(text: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let ends = cuts.iter().copied().chain([text.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let pieces: Vec<&[u8]> = starts.zip(ends).map(|(from, to)| &text[from..to]).collect();
    let last = pieces.len() - 1;
    let opcode = |at: usize| if at == 0 { TEXT } else { 0 } | if at == last { FIN } else { 0 };
    pieces.iter().enumerate().map(|(at, piece)| frame(opcode(at), piece)).collect()
}

fn fragments() -> Vec<Case> {
    let text = ask("abc");
    let every: Vec<usize> = (1..text.len()).collect();
    let between = |middle: Vec<u8>| {
        let [first, last] = parts(&text, &[7]).try_into().unwrap();
        [first, middle, last]
    };
    let pong = |text: &[u8]| Back::Pong(text.to_vec());
    let refused = [Back::Close(1002)];
    vec![
        case("in two", &parts(&text, &[9]), &[answer("abc")]),
        case("in three", &parts(&text, &[3, 11]), &[answer("abc")]),
        case("in as many as there are bytes", &parts(&text, &every), &[answer("abc")]),
        case("empty first part", &parts(&text, &[0]), &[answer("abc")]),
        case("empty middle part", &parts(&text, &[4, 4]), &[answer("abc")]),
        case("empty last part", &parts(&text, &[text.len()]), &[answer("abc")]),
        case("all parts empty", &parts(b"", &[0, 0]), &[Back::Error("not_json")]),
        case("a ping between", &between(frame(FIN | PING, b"p")), &[pong(b"p"), answer("abc")]),
        case("a pong between", &between(frame(FIN | PONG, b"p")), &[answer("abc")]),
        case(
            "two pings between",
            &between([frame(FIN | PING, b"1"), frame(FIN | PING, b"2")].concat()),
            &[pong(b"1"), pong(b"2"), answer("abc")],
        ),
        case("a close between", &between(frame(FIN | CLOSE, &[3, 232])), &[Back::Close(1000)]),
        case("a text between", &between(frame(FIN | TEXT, &ask("z"))), &refused),
        case("a beginning between", &between(frame(TEXT, b"")), &refused),
        case("binary between", &between(frame(FIN | 2, b"")), &refused),
        case("a part of a ping between", &between(frame(PING, b"")), &refused),
        case("nothing to go on with", &[frame(0, b"x")], &refused),
        case("nothing to end", &[frame(FIN, b"x")], &refused),
        case(
            "going on after the end",
            &[frame(FIN | TEXT, &ask("a")), frame(FIN, b"x")],
            &[answer("a"), Back::Close(1002)],
        ),
        case(
            "two texts in parts",
            &[parts(&ask("a"), &[5]), parts(&ask("b"), &[6])].concat(),
            &[answer("a"), answer("b")],
        ),
        case(
            "ten texts at once",
            &(0..10).map(|n| frame(FIN | TEXT, &ask(&n.to_string()))).collect::<Vec<_>>(),
            &(0..10).map(|n| answer(&n.to_string())).collect::<Vec<_>>(),
        ),
        case(
            "a ping in the middle of binary",
            &[frame(2, b""), frame(FIN | PING, b"")],
            &[Back::Close(1003)],
        ),
    ]
}

fn utf8() -> Vec<Case> {
    let mut cases = Vec::new();
    for character in ["é", "€", "😀"] {
        let text = ask(character);
        let at = text.len() - 2 - character.len();
        for cut in 1..character.len() {
            cases.push(case(
                format!("{character} cut at {cut}"),
                &parts(&text, &[at + cut]),
                &[answer(character)],
            ));
            let [first, last] = parts(&text, &[at + cut]).try_into().unwrap();
            let whole = [first, frame(FIN | PING, b"\xff"), last];
            let back = [Back::Pong(vec![0xff]), answer(character)];
            cases.push(case(format!("{character} cut at {cut} with a ping between"), &whole, &back));
            let broken = frame(FIN | TEXT, &text[..at + cut]);
            cases.push(case(format!("{character} ends after {cut}"), &[broken], &[Back::Close(1007)]));
        }
    }
    let wrong: [&[u8]; 9] = [
        b"\x80",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xff",
        b"\xc3(",
    ];
    for bytes in wrong {
        let text = [b"\"".as_slice(), bytes, b"\""].concat();
        cases.push(case(format!("{bytes:x?}"), &[frame(FIN | TEXT, &text)], &[Back::Close(1007)]));
        // Known to be wrong before the rest of it comes.
        cases.push(case(format!("{bytes:x?} in a first part"), &[frame(TEXT, &text)], &[Back::Close(1007)]));
    }
    cases
}

fn closes() -> Vec<Case> {
    let close = |code: u16, reason: &[u8]| frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat());
    let mut cases = Vec::new();
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4409, 4999]) {
        cases.push(case(format!("close {code}"), &[close(code, b"done")], &[Back::Close(code)]));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        cases.push(case(format!("close {code}"), &[close(code, b"")], &[Back::Close(1002)]));
    }
    cases.extend([
        case("close with half a code", &[frame(FIN | CLOSE, &[3])], &[Back::Close(1002)]),
        case("close with the longest reason", &[close(1000, &[b'x'; 123])], &[Back::Close(1000)]),
        case("close with a reason that is too long", &[close(1000, &[b'x'; 124])], &[Back::Close(1002)]),
        case("close with a reason that is not UTF-8", &[close(1000, b"\xff")], &[Back::Close(1007)]),
        case(
            "close with a character cut off",
            &[close(1000, "x€".as_bytes().split_last().unwrap().1)],
            &[Back::Close(1007)],
        ),
        case("text behind a close", &[close(1000, b""), frame(FIN | TEXT, &ask("a"))], &[Back::Close(1000)]),
        case("a ping behind a close", &[close(1000, b""), frame(FIN | PING, b"")], &[Back::Close(1000)]),
        case("rubbish behind a close", &[close(1000, b""), vec![0xff; 100]], &[Back::Close(1000)]),
        case("a second close", &[close(1000, b""), close(1001, b"")], &[Back::Close(1000)]),
        case(
            "an answer, then a close",
            &[frame(FIN | TEXT, &ask("a")), close(1001, b"")],
            &[answer("a"), Back::Close(1001)],
        ),
        case("rubbish", &[vec![0xff; 100]], &[Back::Close(1002)]),
        case("another request", &[b"GET / HTTP/1.1\r\n\r\n".to_vec()], &[Back::Close(1002)]),
    ]);
    cases
}

fn told(frame: &Frame) -> Back {
    match frame.opcode {
        PONG => Back::Pong(frame.payload.clone()),
        CLOSE if frame.payload.is_empty() => Back::BareClose,
        CLOSE => Back::Close(frame.closed().0),
        _ => {
            let json = frame.json();
            match json["type"].as_str() {
                Some("pong") => Back::Answer(json["id"].as_str().unwrap_or_default().to_owned()),
                Some("error") if json["code"] == "not_json" => Back::Error("not_json"),
                other => panic!("{other:?}: {json}"),
            }
        }
    }
}

async fn check(node: &Node, case: &Case, by_byte: bool) {
    let name = &case.name;
    let mut socket: Socket = connect(node).await;
    if by_byte {
        for byte in &case.bytes {
            socket.try_bytes(&[*byte]).await;
        }
    } else {
        socket.try_bytes(&case.bytes).await;
    }
    let ends = matches!(case.back.last(), Some(Back::Close(_) | Back::BareClose));
    let mut expected = case.back.clone();
    if !ends {
        // Still open: it answers whatever comes next.
        socket.try_bytes(&frame(FIN | PING, b"end")).await;
        expected.push(Back::Pong(b"end".to_vec()));
    }
    for expected in &expected {
        let next =
            socket.frame().await.unwrap_or_else(|| panic!("{name}: {expected:?} must come before the end"));
        assert_eq!(told(&next), *expected, "{name}");
    }
    if ends {
        socket.try_bytes(&frame(FIN | CLOSE, &[3, 232])).await;
        assert_eq!(socket.frame().await, None, "{name}: nothing follows a close frame");
    }
}

#[tokio::test]
async fn every_frame_has_its_reaction() {
    let node = node(|config| config.ws_frame_bytes_max = BYTES_MAX).await;
    let cases: Vec<Case> = [opcodes(), bits_and_masks(), lengths(), fragments(), utf8(), closes()]
        .into_iter()
        .flatten()
        .collect();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert!(
        cases.len() > 150 && names.len() + 1 >= cases.len(),
        "{} cases, {} names",
        cases.len(),
        names.len()
    );
    for case in &cases {
        check(&node, case, false).await;
        if case.bytes.len() < 4_096 {
            check(&node, case, true).await;
        }
    }
    node.until(|counters| counters.connections() == 0).await;
    assert_eq!(node.counters.panics(), 0);
}
