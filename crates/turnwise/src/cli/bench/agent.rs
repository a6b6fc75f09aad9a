//! Agents for the measurements, each on a thread of its own.

use crate::cli::runtime;
use crate::failure::{Exit, Failure};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use turnwise_mock::{AgentConfig, FakeAgent, accept};

/// An agent on a thread of its own, so that it does not share one with the clients.
pub(super) struct AgentThread {
    pub(super) url: String,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

impl AgentThread {
    pub(super) fn fake() -> Result<AgentThread, Failure> {
        AgentThread::with(AgentConfig { markers: false, journal_calls_max: 0, ..AgentConfig::default() })
    }

    pub(super) fn with(config: AgentConfig) -> Result<AgentThread, Failure> {
        AgentThread::start(move |ready, stop| async move {
            if let Ok(agent) = FakeAgent::start(SocketAddr::from(([127, 0, 0, 1], 0)), config).await {
                let _ = ready.send(agent.base_url());
                agent.run(stop).await;
            }
        })
    }

    /// One that answers every request so.
    pub(super) fn answering<A, F, B>(answer: A) -> Result<AgentThread, Failure>
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Response<B>, hyper::Error>> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        AgentThread::start(move |ready, stop| async move {
            let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else { return };
            if let Ok(address) = listener.local_addr() {
                let _ = ready.send(format!("http://{address}"));
                accept(listener, stop, move |socket| {
                    let service = service_fn(answer.clone());
                    async move {
                        let _ = socket.set_nodelay(true);
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
                    }
                })
                .await;
            }
        })
    }

    fn start<F: Future<Output = ()>>(
        serve: impl FnOnce(std::sync::mpsc::Sender<String>, CancellationToken) -> F + Send + 'static,
    ) -> Result<AgentThread, Failure> {
        let (ready, url) = std::sync::mpsc::channel();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let thread = std::thread::spawn(move || {
            if let Ok(runtime) = runtime(1) {
                runtime.block_on(serve(ready, token));
            }
        });
        let url = url.recv_timeout(Duration::from_secs(5)).map_err(|error| {
            Failure::new(Exit::Failure, "the fake agent did not start", error.to_string())
        })?;
        Ok(AgentThread { url, stop, thread })
    }

    pub(super) fn stop(self) {
        self.stop.cancel();
        let _ = self.thread.join();
    }
}
