//! Conformance suite and fault tools, for tests only.
