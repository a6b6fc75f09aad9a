//! Connections to the fake agents for the dispatcher's HTTP client: pipes in
//! memory that stand still while their node is frozen and break when it dies.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready as await_ready};
use tokio::io::DuplexStream;
use turnwise_testkit::turns::{Agents, Weather};

/// Connects one node to the agents.
#[derive(Clone)]
pub(crate) struct Pipes {
    pub(crate) agents: Arc<Agents>,
    pub(crate) weather: Arc<Weather>,
}

impl tower::Service<http::Uri> for Pipes {
    type Response = Pipe;
    type Error = io::Error;
    type Future = Ready<io::Result<Pipe>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.weather.poll_awake(context).map(Ok)
    }

    fn call(&mut self, _address: http::Uri) -> Self::Future {
        let pipe = self.agents.connect().ok_or_else(|| io::ErrorKind::ConnectionRefused.into());
        ready(pipe.map(|pipe| Pipe { io: TokioIo::new(pipe), weather: Arc::clone(&self.weather) }))
    }
}

/// One connection.
pub(crate) struct Pipe {
    io: TokioIo<DuplexStream>,
    weather: Arc<Weather>,
}

impl Pipe {
    fn poll_way(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.weather.is_dead() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.weather.poll_awake(context).map(Ok)
    }
}

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        await_ready!(self.poll_way(context))?;
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl Write for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        await_ready!(self.poll_way(context))?;
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        await_ready!(self.poll_way(context))?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        await_ready!(self.poll_way(context))?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
