//! Wire types of Turnwise.
