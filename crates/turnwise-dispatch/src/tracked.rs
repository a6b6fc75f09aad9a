//! Where an HTTP client's connections run.

use tokio_util::task::TaskTracker;

/// Runs the connections of a hyper client where somebody waits for them: in a tracker.
#[derive(Clone)]
pub struct Tracked(pub TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
