//! Inbound HTTP of Turnwise.
