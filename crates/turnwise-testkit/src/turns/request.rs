//! Reading one HTTP request from a pipe, just as much as the fake agents need.

use tokio::io::{AsyncRead, AsyncReadExt};

/// A request is never longer.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// What an agent is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// The path.
    pub(super) path: String,
    /// `Idempotency-Key`.
    pub(super) id: String,
    /// `X-Turnwise-Attempt`.
    pub(super) attempt: u32,
    /// The submission's number.
    pub(super) submission: u64,
    /// The conversation's name.
    pub(super) conversation: String,
}

/// Reads the next request; none when the caller has left.
pub(super) async fn read(pipe: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Some(request) = parse(&bytes) {
            return Some(request);
        }
        if bytes.len() > REQUEST_BYTES_MAX || pipe.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// The body of a submission: a number and the name of its conversation.
#[must_use]
pub fn body(submission: u64, conversation: &str) -> String {
    format!(r#"{{"turn":"{submission}|{conversation}"}}"#)
}

fn parse(bytes: &[u8]) -> Option<Request> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut request = Request { path, ..Request::default() };
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => value.clone_into(&mut request.id),
            "x-turnwise-attempt" => request.attempt = value.parse().ok()?,
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    if body.len() < length {
        return None;
    }
    if let Some((number, conversation)) = body.split('"').nth(3).and_then(|turn| turn.split_once('|')) {
        request.submission = number.parse().ok()?;
        conversation.clone_into(&mut request.conversation);
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_once_it_is_whole() {
        let body = body(7, "a/b");
        let text = format!(
            "POST /x HTTP/1.1\r\nIdempotency-Key: k\r\nx-turnwise-attempt: 2\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let request = Request {
            path: "/x".into(),
            id: "k".into(),
            attempt: 2,
            submission: 7,
            conversation: "a/b".into(),
        };
        assert_eq!(parse(text.as_bytes()), Some(request));
        assert_eq!(text.as_bytes().split_last().map(|(_, most)| parse(most)), Some(None));
    }
}
