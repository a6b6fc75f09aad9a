//! Which deliberate fault of this crate is on: none, unless the feature
//! `mutants` is compiled in and the test suite asks for one.

#[cfg(feature = "mutants")]
pub use turnwise_core::machine::mutants::set;
pub use turnwise_core::machine::mutants::{Mutant, is_on};
