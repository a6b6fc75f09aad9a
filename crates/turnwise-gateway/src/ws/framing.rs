//! The frames of the WebSocket protocol (RFC 6455, section 5), as a server
//! reads and writes them. Pure: bytes in, messages out. Knows no JSON.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a control frame's payload.
pub(crate) const CONTROL_BYTES_MAX: usize = 125;
/// Bytes of the longest head of a frame.
const HEAD_BYTES_MAX: usize = 14;

/// Why a connection ends. The numbers are on the wire: RFC 6455 section 7.4, and our own from 4400 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseCode {
    /// The node stops.
    GoingAway = 1001,
    /// The peer broke the protocol.
    Protocol = 1002,
    /// Binary messages mean nothing here.
    Unsupported = 1003,
    /// Text that is not UTF-8.
    NotUtf8 = 1007,
    /// A message longer than allowed.
    TooLong = 1009,
    /// A fault here, or of the store.
    Internal = 1011,
    /// As many connections as may be.
    Full = 1013,
    /// No valid ticket, or the key was taken away.
    Unauthorized = 4401,
    /// What was asked for on the handshake does not belong to the ticket.
    Forbidden = 4403,
    /// Nothing was heard of the client.
    Silent = 4408,
    /// The client reads too slowly.
    TooSlow = 4409,
}

impl CloseCode {
    /// The number, as it is sent.
    pub(crate) const fn number(self) -> u16 {
        self as u16
    }
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A whole message.
    Text(Bytes),
    /// To be answered with the same bytes.
    Ping(Bytes),
    /// A sign of life.
    Pong,
    /// It closes; with its reason, if it gave one.
    Close(Option<u16>),
}

/// Why what a client sends cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) code: CloseCode,
    /// What is wrong, in words.
    pub(crate) reason: &'static str,
}

const fn broken(code: CloseCode, reason: &'static str) -> Broken {
    Broken { code, reason }
}

/// Puts frames together to messages.
#[derive(Debug)]
pub(crate) struct Reader {
    message_bytes_max: usize,
    /// The head of a frame as far as it has come.
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    frame: Option<Frame>,
    /// A message of several frames has begun.
    is_begun: bool,
    message: BytesMut,
    /// Of the message, so many bytes are whole characters.
    checked: usize,
    control: BytesMut,
}

/// A frame whose head has come.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    is_final: bool,
    left: usize,
    mask: [u8; 4],
    /// Where in the mask the next byte is.
    at: usize,
}

impl Reader {
    pub(crate) fn new(message_bytes_max: usize) -> Reader {
        Reader {
            message_bytes_max,
            head: [0; HEAD_BYTES_MAX],
            head_bytes: 0,
            frame: None,
            is_begun: false,
            message: BytesMut::new(),
            checked: 0,
            control: BytesMut::new(),
        }
    }

    /// Bytes of a message that is not whole yet.
    pub(crate) fn held(&self) -> usize {
        self.message.len()
    }

    /// Takes bytes off the front of `bytes` until something is whole, or nothing is left.
    pub(crate) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Incoming>, Broken> {
        loop {
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.read_head(bytes)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            self.frame = None;
            let taken = frame.left.min(bytes.len());
            let (piece, rest) = bytes.split_at(taken);
            *bytes = rest;
            if let Some(unfinished) = self.take(frame, piece)? {
                self.frame = Some(unfinished);
                return Ok(None);
            }
            if let Some(incoming) = self.end(frame)? {
                return Ok(Some(incoming));
            }
        }
    }

    /// Takes the next bytes of a frame; answers the frame if it is not whole with them.
    fn take(&mut self, frame: Frame, piece: &[u8]) -> Result<Option<Frame>, Broken> {
        let is_control = frame.opcode >= CLOSE;
        let to = if is_control { &mut self.control } else { &mut self.message };
        let from = to.len();
        to.extend_from_slice(piece);
        unmask(to.get_mut(from..).unwrap_or_default(), frame.mask, frame.at);
        let left = frame.left - piece.len();
        if !is_control {
            self.check_text(frame.is_final && left == 0)?;
        }
        let at = (frame.at + piece.len()) % 4;
        Ok((left > 0).then_some(Frame { left, at, ..frame }))
    }

    /// Refuses a message as soon as it cannot become UTF-8 any more.
    fn check_text(&mut self, is_whole: bool) -> Result<(), Broken> {
        let not_utf8 = broken(CloseCode::NotUtf8, "the text is not UTF-8");
        match std::str::from_utf8(self.message.get(self.checked..).unwrap_or_default()) {
            Ok(_) => self.checked = self.message.len(),
            Err(error) if error.error_len().is_none() && !is_whole => self.checked += error.valid_up_to(),
            Err(_) => return Err(not_utf8),
        }
        Ok(())
    }

    /// What a whole frame amounts to.
    fn end(&mut self, frame: Frame) -> Result<Option<Incoming>, Broken> {
        match frame.opcode {
            PING => Ok(Some(Incoming::Ping(self.control.split().freeze()))),
            PONG => {
                self.control.clear();
                Ok(Some(Incoming::Pong))
            }
            CLOSE => {
                let payload = self.control.split();
                close_code(&payload).map(|code| Some(Incoming::Close(code)))
            }
            _ if frame.is_final => {
                (self.is_begun, self.checked) = (false, 0);
                Ok(Some(Incoming::Text(std::mem::take(&mut self.message).freeze())))
            }
            _ => {
                self.is_begun = true;
                Ok(None)
            }
        }
    }

    fn read_head(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, Broken> {
        loop {
            let head = self.head.get(..self.head_bytes).unwrap_or_default();
            let wanted = match head {
                [first, second, ..] => {
                    self.check_start(*first, *second)?;
                    head_bytes(*second)
                }
                _ => 2,
            };
            if self.head_bytes == wanted && wanted > 2 {
                let frame = self.whole_head();
                self.head_bytes = 0;
                return frame.map(Some);
            }
            let Some((byte, rest)) = bytes.split_first() else { return Ok(None) };
            *bytes = rest;
            if let Some(place) = self.head.get_mut(self.head_bytes) {
                *place = *byte;
            }
            self.head_bytes += 1;
        }
    }

    /// What the first two bytes of a frame tell.
    fn check_start(&self, first: u8, second: u8) -> Result<(), Broken> {
        let protocol = |reason| Err(broken(CloseCode::Protocol, reason));
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        let length = usize::from(second & 0x7f);
        if first & 0x70 != 0 {
            return protocol("a reserved bit is set: no extension was agreed on");
        }
        if second & 0x80 == 0 {
            return protocol("a frame of a client must be masked");
        }
        match opcode {
            CONTINUATION if !self.is_begun => protocol("there is no message to go on with"),
            TEXT | BINARY if self.is_begun => protocol("the message before is not at its end"),
            BINARY => Err(broken(CloseCode::Unsupported, "messages are text")),
            CONTINUATION | TEXT => Ok(()),
            CLOSE | PING | PONG if !is_final => protocol("a control frame cannot be in parts"),
            CLOSE | PING | PONG if length > CONTROL_BYTES_MAX => protocol("a control frame is too long"),
            CLOSE | PING | PONG => Ok(()),
            _ => protocol("an unknown opcode"),
        }
    }

    fn whole_head(&self) -> Result<Frame, Broken> {
        let [first, second, rest @ ..] = self.head;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n: u64, byte| n << 8 | u64::from(*byte));
        let (length, mask_at, least) = match second & 0x7f {
            126 => (number(rest.get(..2).unwrap_or_default()), 2, 126),
            127 => (number(rest.get(..8).unwrap_or_default()), 8, 1 << 16),
            short => (u64::from(short), 0, 0),
        };
        if length < least {
            return Err(broken(CloseCode::Protocol, "a length is not in its shortest form"));
        }
        if length >> 63 != 0 {
            return Err(broken(CloseCode::Protocol, "a length has its first bit set"));
        }
        let opcode = first & 0x0f;
        let left = usize::try_from(length).unwrap_or(usize::MAX);
        let held = if opcode < CLOSE { self.message.len() } else { 0 };
        if left
            > self
                .message_bytes_max
                .saturating_sub(held)
                .max(CONTROL_BYTES_MAX * usize::from(opcode >= CLOSE))
        {
            return Err(broken(CloseCode::TooLong, "the message is too long"));
        }
        let mut mask = [0; 4];
        for (to, from) in mask.iter_mut().zip(rest.iter().skip(mask_at)) {
            *to = *from;
        }
        Ok(Frame { opcode, is_final: first & 0x80 != 0, left, mask, at: 0 })
    }
}

/// Bytes of a head whose second byte is this, with the mask.
fn head_bytes(second: u8) -> usize {
    match second & 0x7f {
        126 => 8,
        127 => 14,
        _ => 6,
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], at: usize) {
    let mut turned = mask;
    turned.rotate_left(at % 4);
    let (chunks, rest) = bytes.as_chunks_mut::<4>();
    let word = u32::from_ne_bytes(turned);
    for chunk in chunks {
        *chunk = (u32::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    rest.iter_mut().zip(turned).for_each(|(byte, mask)| *byte ^= mask);
}

/// The reason of a close frame, if it is one that may be sent (RFC 6455, section 7.4, and IANA's registry).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Broken> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(broken(CloseCode::Protocol, "a close frame has half a code")),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(broken(CloseCode::Protocol, "a close code that may not be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(broken(CloseCode::NotUtf8, "the reason is not UTF-8"));
    }
    Ok(Some(code))
}

/// A text frame with what `write` puts into it.
pub(crate) fn text(payload: &[u8]) -> Bytes {
    frame(TEXT, payload)
}

/// A ping without content: an answer to it is a sign of life.
pub(crate) fn ping(out: &mut BytesMut) {
    put(out, PING, &[]);
}

/// The answer to a ping.
pub(crate) fn pong(payload: &[u8]) -> Bytes {
    frame(PONG, payload)
}

/// A close frame; its reason is cut to what fits.
pub(crate) fn close(code: u16, reason: &str) -> Bytes {
    let fits = (0..=CONTROL_BYTES_MAX - 2).rev().find_map(|end| reason.get(..end));
    let reason = if reason.len() > CONTROL_BYTES_MAX - 2 { fits.unwrap_or_default() } else { reason };
    let mut payload = BytesMut::with_capacity(CONTROL_BYTES_MAX);
    payload.put_u16(code);
    payload.put_slice(reason.as_bytes());
    frame(CLOSE, &payload)
}

/// The answer to a close frame without a code.
pub(crate) fn bare_close() -> Bytes {
    frame(CLOSE, &[])
}

/// Appends a text frame.
pub(crate) fn put_text(out: &mut BytesMut, payload: &[u8]) {
    put(out, TEXT, payload);
}

fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    put(&mut out, opcode, payload);
    out.freeze()
}

fn put(out: &mut BytesMut, opcode: u8, payload: &[u8]) {
    out.put_u8(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.put_u8(u8::try_from(length).unwrap_or(0)),
        length @ 126..=0xffff => {
            out.put_u8(126);
            out.put_u16(u16::try_from(length).unwrap_or(0));
        }
        length => {
            out.put_u8(127);
            out.put_u64(length as u64);
        }
    }
    out.put_slice(payload);
}
