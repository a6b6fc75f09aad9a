//! An agent that answers at once and notes when it was called.

use super::AgentThread;
use crate::failure::Failure;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

type Noted = Arc<Mutex<Option<Instant>>>;

/// The agent, on a thread of its own.
pub(crate) struct NotingAgent {
    pub(crate) url: String,
    thread: AgentThread,
    noted: Noted,
}

impl NotingAgent {
    pub(crate) fn start() -> Result<NotingAgent, Failure> {
        let noted = Noted::default();
        let notes = Arc::clone(&noted);
        let thread = AgentThread::answering(move |request| answer(request, Arc::clone(&notes)))?;
        Ok(NotingAgent { url: thread.url.clone(), thread, noted })
    }

    /// The next call is the first again.
    pub(crate) fn forget(&self) {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// When the first call since came in.
    pub(crate) fn first_call(&self) -> Option<Instant> {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(self) {
        self.thread.stop();
    }
}

async fn answer(request: Request<Incoming>, noted: Noted) -> Result<Response<Full<Bytes>>, hyper::Error> {
    noted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    request.into_body().collect().await?;
    const ANSWER: &str = r#"{"responses":["ok"],"response_language":"en","voice_audio_base64":null}"#;
    let mut response = Response::new(Full::from(ANSWER));
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}
