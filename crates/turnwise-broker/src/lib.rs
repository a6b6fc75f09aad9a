//! Conversations on top of the storage contract.
