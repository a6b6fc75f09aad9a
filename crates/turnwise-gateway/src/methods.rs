//! The methods that are counted and told of by name; clients may invent others.

use http::Method;

/// Their names.
pub(crate) const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Which of them it is.
pub(crate) fn known(method: &Method) -> Option<usize> {
    METHODS.iter().position(|known| *known == method.as_str())
}
