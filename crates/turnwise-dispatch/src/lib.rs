//! Outbound HTTP of Turnwise.
