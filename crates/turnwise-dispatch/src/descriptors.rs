//! Telling a want of file descriptors, which is ours, from what other hosts do.

use std::io;

use rustix::io::Errno;

/// This process, or the whole system, has no file descriptor left. Whom the call was for has nothing to do with it,
/// and nothing was sent.
pub(crate) fn is_short_of_descriptors(error: &(dyn std::error::Error + 'static)) -> bool {
    let errno = |error: &(dyn std::error::Error + 'static)| error.downcast_ref::<io::Error>()?.raw_os_error();
    let short = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(errno)
        .any(|errno| short.contains(&errno))
}
