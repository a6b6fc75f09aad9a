//! Reading a request's body within limits of size, time and memory.

use crate::app::App;
use crate::error::Failure;
use crate::limits::{BODY_IDLE_MAX, SMALL_BODY_BYTES_MAX};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use tokio::sync::SemaphorePermit;
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

/// Reads a whole body: refused by its announced length before anything is
/// read, by count when it is chunked.
pub(crate) async fn read(app: &App, mut body: Body) -> Result<Read<'_>, Failure> {
    let bytes_max = app.config.body_bytes_max;
    let announced = http_body::Body::size_hint(&body).exact();
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let announced = announced.and_then(|bytes| usize::try_from(bytes).ok());
    let mut share = match announced {
        Some(bytes) if bytes > SMALL_BODY_BYTES_MAX => Some(share(app, bytes)?),
        _ => None,
    };
    let first = next(&mut body).await?.unwrap_or_default();
    if http_body::Body::is_end_stream(&body) && first.len() <= bytes_max {
        return Ok(Read { bytes: first, _share: share });
    }
    let mut whole = BytesMut::with_capacity(announced.unwrap_or(first.len() * 2).min(SMALL_BODY_BYTES_MAX));
    whole.extend_from_slice(&first);
    while let Some(data) = next(&mut body).await? {
        if whole.len() + data.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        whole.extend_from_slice(&data);
        if share.is_none() && whole.len() > SMALL_BODY_BYTES_MAX {
            share = Some(self::share(app, bytes_max)?);
        }
    }
    if whole.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    Ok(Read { bytes: whole.freeze(), _share: share })
}

/// The next piece of data; trailers are passed over.
async fn next(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    loop {
        let frame = match timeout(BODY_IDLE_MAX, body.frame()).await {
            Err(_) => return Err(Failure::new(Code::RequestTimeout, "The body did not arrive in time")),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Failure::new(Code::BadRequest, "The body broke off")),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

fn share(app: &App, bytes: usize) -> Result<SemaphorePermit<'_>, Failure> {
    let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
    app.large_bodies
        .try_acquire_many(units)
        .map_err(|_| Failure::new(Code::Overloaded, "Too many large bodies at once"))
}

fn too_large(bytes_max: usize) -> Failure {
    Failure::new(Code::BodyTooLarge, format!("A body has at most {bytes_max} bytes"))
}
