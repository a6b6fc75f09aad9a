//! The head of a request, as it stands on the wire.

use turnwise_gateway::fuzz_head;

/// However it is cut, it is read alike; what goes on is read by the library
/// behind as it was read here.
pub(crate) fn request_head(input: &[u8]) {
    fuzz_head(input);
}
