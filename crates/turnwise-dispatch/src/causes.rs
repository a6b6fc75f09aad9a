//! What lies behind an error of a call.

use std::error::Error;
use std::io;

use rustix::io::Errno;

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

/// The innermost reason: refused, no such name, a certificate that is not trusted.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

/// This process, or the whole system, has no file descriptor left. Whom the call was for has nothing to do with it,
/// and nothing was sent.
pub(crate) fn is_short_of_descriptors(error: &(dyn Error + 'static)) -> bool {
    let errno = |error: &(dyn Error + 'static)| error.downcast_ref::<io::Error>()?.raw_os_error();
    let short = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    chain(error).filter_map(errno).any(|errno| short.contains(&errno))
}
