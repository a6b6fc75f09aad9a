//! What stands between the socket and the HTTP library: it sees every byte
//! that comes in, and only what is beyond doubt goes on. Knows no routes.

pub(crate) mod charset;
pub(crate) mod chunks;
pub(crate) mod follow;
pub(crate) mod fuzz;
pub(crate) mod head;
pub(crate) mod refusal;
pub(crate) mod strict;
