//! Event streams: their bytes, and the route that serves them.

pub(crate) mod encoder;
pub(crate) mod live;
pub(crate) mod stream;
pub(crate) mod tail;
