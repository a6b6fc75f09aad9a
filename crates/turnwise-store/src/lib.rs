//! Storage engines of Turnwise.
