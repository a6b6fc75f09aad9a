//! Reading a request's body within limits of size, time and memory.

use crate::app::App;
use crate::error::Failure;
use crate::limits::{LARGE_BODY_STEP_BYTES, SMALL_BODY_BYTES_MAX};
use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use turnwise_api::Code;

/// Bytes of large bodies are counted in units of this many.
pub(crate) const UNIT_BYTES: usize = 1024;

/// A body, and its share of the memory for large ones.
pub(crate) struct Read<'a> {
    pub(crate) bytes: Bytes,
    _share: Option<SemaphorePermit<'a>>,
}

/// Refuses a body that is announced as something else than JSON. Nothing
/// announced is taken for JSON, as the original did.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), Failure> {
    require_plain(headers)?;
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let media_type = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let lower = media_type.to_ascii_lowercase();
    let is_json =
        lower == b"application/json" || (lower.starts_with(b"application/") && lower.ends_with(b"+json"));
    if is_json {
        return Ok(());
    }
    Err(Failure::new(Code::UnsupportedMediaType, "Content-Type must be application/json"))
}

/// Refuses a body that is packed.
pub(crate) fn require_plain(headers: &HeaderMap) -> Result<(), Failure> {
    let is_plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
        // Not unpacked: a body's limit holds for what comes over the wire.
        return Err(Failure::new(Code::UnsupportedMediaType, "The body must come without Content-Encoding"));
    }
    Ok(())
}

/// Reads a whole body: refused by its announced length before anything is
/// read, by count when it is chunked.
pub(crate) async fn read(app: &App, body: Body) -> Result<Read<'_>, Failure> {
    read_at_most(app, body, app.config.body_bytes_max).await
}

/// The same of a body that may be shorter only.
pub(crate) async fn read_at_most(app: &App, body: Body, bytes_max: usize) -> Result<Read<'_>, Failure> {
    let bytes_max = bytes_max.min(app.config.body_bytes_max);
    let announced = http_body::Body::size_hint(&body).exact();
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max).last());
    }
    let bytes_expected = announced.and_then(|bytes| usize::try_from(bytes).ok());
    match timeout(app.config.body_time_max, gather(app, body, bytes_expected, bytes_max)).await {
        Ok(read) => read.map_err(Failure::last),
        Err(_) => Err(too_slow().last()),
    }
}

async fn gather(
    app: &App,
    mut body: Body,
    bytes_expected: Option<usize>,
    bytes_max: usize,
) -> Result<Read<'_>, Failure> {
    let first = next(app, &mut body).await?.unwrap_or_default();
    if first.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    if http_body::Body::is_end_stream(&body) {
        return Ok(Read { bytes: first, _share: None });
    }
    let mut share = Share { pool: &app.large_bodies, permit: None };
    let mut whole = Vec::with_capacity(bytes_expected.unwrap_or(first.len() * 2).min(SMALL_BODY_BYTES_MAX));
    whole.extend_from_slice(&first);
    while let Some(data) = next(app, &mut body).await? {
        let bytes = whole.len() + data.len();
        if bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        if bytes > whole.capacity() {
            // Not the announced length at once: who announces much and sends
            // little would hold memory that others need.
            let room = match bytes {
                small if small <= SMALL_BODY_BYTES_MAX => SMALL_BODY_BYTES_MAX,
                large => (whole.len() * 2).max(large + LARGE_BODY_STEP_BYTES),
            };
            let room = room.min(bytes_expected.unwrap_or(bytes_max)).max(bytes);
            share.grow_to(room)?;
            whole.reserve_exact(room - whole.len());
        }
        whole.extend_from_slice(&data);
    }
    Ok(Read { bytes: Bytes::from(whole), _share: share.permit })
}

/// A body's part of the memory for large ones.
struct Share<'a> {
    pool: &'a Semaphore,
    permit: Option<SemaphorePermit<'a>>,
}

impl Share<'_> {
    fn grow_to(&mut self, bytes: usize) -> Result<(), Failure> {
        if bytes <= SMALL_BODY_BYTES_MAX {
            return Ok(());
        }
        let held = self.permit.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = u32::try_from(bytes.div_ceil(UNIT_BYTES).saturating_sub(held)).unwrap_or(u32::MAX);
        let more = self
            .pool
            .try_acquire_many(more)
            .map_err(|_| Failure::new(Code::Overloaded, "Too many large bodies at once"))?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

/// The next piece of data; trailers are passed over.
async fn next(app: &App, body: &mut Body) -> Result<Option<Bytes>, Failure> {
    loop {
        let frame = match timeout(app.config.body_idle_max, body.frame()).await {
            Err(_) => return Err(too_slow()),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => {
                return Err(Failure::new(
                    Code::BadRequest,
                    "The body broke off, or its chunks are malformed",
                ));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

fn too_slow() -> Failure {
    Failure::new(Code::RequestTimeout, "The body did not arrive in time")
}

fn too_large(bytes_max: usize) -> Failure {
    Failure::new(Code::BodyTooLarge, format!("A body has at most {bytes_max} bytes"))
}
