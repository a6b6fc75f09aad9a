//! Which deliberate fault of this crate is on: none, unless this is a debug build and the test suite asks for one.

#[cfg(debug_assertions)]
pub use turnwise_core::machine::mutants::set;
pub use turnwise_core::machine::mutants::{Mutant, is_on};
