//! The bytes and what they get.

/// What the node does.
pub(super) enum Expect {
    /// One problem with this status, then the end.
    Refused(u16),
    /// This status, and the next request is answered, too.
    Answered(u16),
    /// This status, then the end: the connection has served its purpose.
    Last(u16),
}

pub(super) struct Row {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) expect: Expect,
}

fn row(name: impl Into<String>, bytes: impl Into<Vec<u8>>, expect: Expect) -> Row {
    Row { name: name.into(), bytes: bytes.into(), expect }
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = request_lines();
    rows.extend(fields());
    rows.extend(hosts());
    rows.extend(framing());
    rows.extend(chunks());
    rows.extend(sizes());
    rows.extend(other_protocols());
    rows.extend(well_formed());
    rows
}

/// Request lines and what each gets.
const REQUEST_LINES: [(&[u8], u16); 33] = [
    (b"GET /livez", 400),
    (b"GET  /livez HTTP/1.1", 400),
    (b"GET /livez  HTTP/1.1", 400),
    (b"GET /livez HTTP/1.1 ", 400),
    (b" GET /livez HTTP/1.1", 400),
    (b"GET\t/livez HTTP/1.1", 400),
    (b"GET\t/livez\tHTTP/1.1", 400),
    (b"GET /livez\x0bHTTP/1.1", 400),
    (b"GET /livez HTTP/1.1\0", 400),
    (b"GET /livez http/1.1", 400),
    (b"GET /livez HTTP/1.", 400),
    (b"GET /livez HTTP/11", 400),
    (b"GET /livez HTTP/1.10", 400),
    (b"GET /livez HTTP/1,1", 400),
    (b"GET /livez HTTPS/1.1", 400),
    (b"GET /livez HTTP/1.2", 505),
    (b"GET /livez HTTP/0.9", 505),
    (b"GET /livez HTTP/2.0", 505),
    (b"GET /livez HTTP/3.0", 505),
    (b"G\x80T /livez HTTP/1.1", 400),
    (b"G(T /livez HTTP/1.1", 400),
    (b"\"GET\" /livez HTTP/1.1", 400),
    (b"G\0T /livez HTTP/1.1", 400),
    (b"REFUSED /0 HTTP/1.1", 400),
    (b"GET livez HTTP/1.1", 400),
    (b"GET * HTTP/1.1", 400),
    (b"OPTIONS * HTTP/1.1", 400),
    (b"GET /liv\x00ez HTTP/1.1", 400),
    (b"GET /liv\xc3\xa9ez HTTP/1.1", 400),
    (b"GET /livez#part HTTP/1.1", 400),
    (b"GET /liv\\ez HTTP/1.1", 400),
    (b"GET /<livez> HTTP/1.1", 400),
    (b"GET /liv\x7fez HTTP/1.1", 400),
];

fn request_lines() -> Vec<Row> {
    let mut rows = Vec::new();
    for (line, status) in REQUEST_LINES {
        let name = format!("request line {:?}", String::from_utf8_lossy(line));
        rows.push(row(name, [line, b"\r\nHost: localhost\r\n\r\n"].concat(), Expect::Refused(status)));
    }
    let long_method = format!("{} / HTTP/1.1\r\nHost: localhost\r\n\r\n", "M".repeat(33));
    rows.push(row("a method of 33 bytes", long_method, Expect::Refused(400)));
    rows.push(row(
        "an empty line after an empty line",
        "\r\n\r\nGET /livez HTTP/1.1\r\n",
        Expect::Refused(400),
    ));
    rows.push(row(
        "a bare LF first",
        "\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        Expect::Refused(400),
    ));
    rows.push(row(
        "a bare CR first",
        "\rGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        Expect::Refused(400),
    ));
    rows.push(row(
        "bare LF in place of CR LF",
        "GET /livez HTTP/1.1\nHost: localhost\n\n",
        Expect::Refused(400),
    ));
    rows.push(row(
        "a bare LF after the request line",
        "GET /livez HTTP/1.1\nHost: localhost\r\n\r\n",
        Expect::Refused(400),
    ));
    rows.push(row(
        "a bare LF as the last empty line",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\n",
        Expect::Refused(400),
    ));
    rows.push(row("CR CR LF", "GET /livez HTTP/1.1\r\r\nHost: localhost\r\n\r\n", Expect::Refused(400)));
    rows
}

fn fields() -> Vec<Row> {
    let bad: [&[u8]; 21] = [
        b"X-A: a\nX-B: b",
        b"X-A: a\n\r\nX-B: b",
        b"X-A: a\rX-B: b",
        b"X-A: a\r\n folded",
        b"X-A: a\r\n\tfolded",
        b"X-A:\r\n folded",
        b" X-A: a",
        b"X-A : a",
        b"X-A\t: a",
        b"X A: a",
        b": a",
        b"X-A",
        b"X-A a",
        b"X-\0A: a",
        b"X-A: a\0b",
        b"X-A: a\x01b",
        b"X-A: a\x7fb",
        b"X-A: a\x0bb",
        b"X-\xc3\xa9: a",
        b"X-(A): a",
        b"X-A[]: a",
    ];
    bad.iter()
        .map(|field| {
            let name = format!("field {:?}", String::from_utf8_lossy(field));
            let head = [b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", *field, b"\r\n\r\n"].concat();
            row(name, head, Expect::Refused(400))
        })
        .collect()
}

fn hosts() -> Vec<Row> {
    let bad: [(&str, &str); 18] = [
        ("/livez", ""),
        ("/livez", "Host: localhost\r\nHost: localhost\r\n"),
        ("/livez", "Host: localhost\r\nhost: other\r\n"),
        ("/livez", "Host:\r\n"),
        ("/livez", "Host: \r\n"),
        ("/livez", "Host: local host\r\n"),
        ("/livez", "Host: localhost, other\r\n"),
        ("/livez", "Host: user@localhost\r\n"),
        ("/livez", "Host: localhost/x\r\n"),
        ("/livez", "Host: localhost:\r\n"),
        ("/livez", "Host: localhost:x\r\n"),
        ("/livez", "Host: localhost:80:80\r\n"),
        ("/livez", "Host: localhost:65536\r\n"),
        ("/livez", "Host: [::1\r\n"),
        ("http://localhost/livez", "Host: other\r\n"),
        ("http://localhost/livez", ""),
        ("http://user@localhost/livez", "Host: localhost\r\n"),
        ("ftp://localhost/livez", "Host: localhost\r\n"),
    ];
    bad.iter()
        .map(|(target, hosts)| {
            let head = format!("GET {target} HTTP/1.1\r\n{hosts}\r\n");
            row(format!("{target} with {hosts:?}"), head, Expect::Refused(400))
        })
        .collect()
}

fn framing() -> Vec<Row> {
    let bad = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: 5,6",
        "Content-Length: +2",
        "Content-Length: -2",
        "Content-Length: 0x2",
        "Content-Length: 2.0",
        "Content-Length: 2 3",
        "Content-Length: two",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: \u{0661}",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: CHUNKED",
        "Transfer-Encoding: Chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: chunked ",
        "Transfer-Encoding: chunked\t",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\r\n , identity",
    ];
    let mut rows = Vec::new();
    for fields in bad {
        let head = format!("POST /api/v1/message HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n");
        rows.push(row(format!("framing {fields:?}"), head, Expect::Refused(400)));
    }
    let old = "POST /api/v1/message HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    rows.push(row("chunks in HTTP/1.0", old, Expect::Refused(400)));
    rows
}

fn chunks() -> Vec<Row> {
    let bad = [
        "10000000000000000\r\nx\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloxx\r\n0\r\n\r\n",
        "0\r\nX-A : b\r\n\r\n",
        "0\r\n X-A: b\r\n\r\n",
        "0\r\nX-A: b\n\r\n",
        "0\r\n\n",
        "0\n\r\n",
    ];
    let head = "POST /api/v1/message HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut rows = Vec::new();
    for body in bad {
        rows.push(row(format!("chunks {body:?}"), format!("{head}{body}"), Expect::Refused(400)));
    }
    let long = format!("{head}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(2_000));
    rows.push(row("a long extension of a chunk", long, Expect::Refused(400)));
    let many = format!("{head}0\r\n{}\r\n", "A: b\r\n".repeat(65));
    rows.push(row("65 trailers", many, Expect::Refused(400)));
    rows
}

fn sizes() -> Vec<Row> {
    let get =
        |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let long = "x".repeat(64 * 1024);
    vec![
        row("a request line of 64 KiB", get(&format!("/{long}"), ""), Expect::Refused(414)),
        row("a method of 64 KiB", format!("{long} / HTTP/1.1\r\nHost: a\r\n\r\n"), Expect::Refused(414)),
        row("a request line without an end", long.clone(), Expect::Refused(414)),
        row("200 headers", get("/livez", &"A: b\r\n".repeat(200)), Expect::Refused(431)),
        row("64 headers and Host", get("/livez", &"A: b\r\n".repeat(64)), Expect::Refused(431)),
        row("a value of 64 KiB", get("/livez", &format!("X-A: {long}\r\n")), Expect::Refused(431)),
        row("a name of 64 KiB", get("/livez", &format!("{long}: a\r\n")), Expect::Refused(431)),
        row(
            "32 KiB of headers",
            get("/livez", &format!("X-A: {}\r\n", "x".repeat(1_000)).repeat(33)),
            Expect::Refused(431),
        ),
    ]
}

fn other_protocols() -> Vec<Row> {
    vec![
        row("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Expect::Refused(505)),
        row("HTTP/0.9", "GET /livez\r\n", Expect::Refused(400)),
        row("a greeting of TLS", b"\x16\x03\x01\x02\x00\x01\x00".as_slice(), Expect::Refused(400)),
        row("SSH", "SSH-2.0-OpenSSH_9.2\r\n", Expect::Refused(400)),
        row("a PROXY line", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Expect::Refused(400)),
        row("an answer", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Expect::Refused(400)),
        row("CONNECT", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n", Expect::Refused(400)),
        row("CONNECT to a path", "CONNECT /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", Expect::Refused(400)),
    ]
}

fn well_formed() -> Vec<Row> {
    let good = [
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /livez HTTP/1.1\r\nhOST:localhost:8000   \r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
        "GET http://LOCALHOST/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET http://localhost:1/livez?a=b HTTP/1.1\r\nHost: localhost:1\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A:\r\nX-B: \r\nX-C: \t a \u{e9} b \t\r\n\r\n",
        "GET /livez?a={b}|c[d]&e=%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 00005\r\n\r\nhello",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\ntransfer-encoding:chunked\r\n\r\n0\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET /livez HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
    ];
    let mut rows: Vec<Row> =
        good.iter().map(|wire| row(format!("well-formed {wire:?}"), *wire, Expect::Answered(200))).collect();
    let full = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(63));
    rows.push(row("64 headers", full, Expect::Answered(200)));
    let unknown = "BREW /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    rows.push(row("a method of no route", unknown, Expect::Answered(405)));
    let old = "GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n";
    rows.push(row("HTTP/1.0", old, Expect::Last(200)));
    let close = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    rows.push(row("the last one", close, Expect::Last(200)));
    rows
}
