//! The limits of the HTTP side that an operator may set.

use super::{ConfigError, Reader, limits};
use std::time::Duration;
use turnwise_gateway::Rate;

/// Times and counts of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpLimits {
    pub(crate) head: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) body_idle: Duration,
    pub(crate) body: Duration,
    pub(crate) write_stall: Duration,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address_max: usize,
    pub(crate) streams_max: usize,
    pub(crate) streams_per_key_max: usize,
    pub(crate) ws_frame_bytes_max: usize,
    pub(crate) ws_frame_rate: Option<Rate>,
}

impl HttpLimits {
    pub(super) fn read(read: &Reader<'_>) -> Result<HttpLimits, ConfigError> {
        let seconds = |key| read.seconds(key, limits::HTTP_TIME);
        Ok(HttpLimits {
            head: seconds("http.head_seconds")?,
            keep_alive: seconds("http.keep_alive_seconds")?,
            body_idle: seconds("http.body_idle_seconds")?,
            body: seconds("http.body_seconds")?,
            write_stall: seconds("http.write_stall_seconds")?,
            connections_max: read.number("http.connections_max", limits::CONNECTIONS)?,
            connections_per_address_max: read
                .number("http.connections_per_address_max", limits::CONNECTIONS_PER_ADDRESS)?,
            streams_max: read.number("http.streams_max", limits::STREAMS)?,
            streams_per_key_max: read.number("http.streams_per_key_max", limits::STREAMS)?,
            ws_frame_bytes_max: read.number("ws.frame_bytes_max", limits::BODY_BYTES)?,
            ws_frame_rate: read.rate("ws.frames_per_key_per_second", "ws.frames_per_key_burst")?,
        })
    }
}
