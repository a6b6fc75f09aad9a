//! An agent that answers at once and notes when it was called.

use super::AgentThread;
use crate::failure::Failure;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

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
        let thread = AgentThread::start(move |ready, stop| async move {
            let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else { return };
            if let Ok(address) = listener.local_addr() {
                let _ = ready.send(format!("http://{address}"));
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = serve(listener, notes) => {}
                }
            }
        })?;
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

async fn serve(listener: TcpListener, noted: Noted) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    connections.spawn(connection(socket, Arc::clone(&noted)));
                }
            }
        }
    }
}

async fn connection(socket: TcpStream, noted: Noted) {
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Arc::clone(&noted)));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
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
