//! Other programs while they run: a port, a folder, an end.

use anyhow::{Result, bail};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a server may take until it accepts connections.
const START_TRIES_MAX: u32 = 300;
/// Between two tries.
const START_PAUSE: Duration = Duration::from_millis(100);

/// A port that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A folder that goes away with its owner.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(port: u16) -> Result<Scratch> {
        let folder = std::env::temp_dir().join(format!("turnwise-xtask-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A child that ends with its owner.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it and waits until its port accepts.
    pub(crate) fn start(command: &mut Command, port: u16) -> Result<Running> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut running = Running(child);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for _ in 0..START_TRIES_MAX {
            if TcpStream::connect(address).is_ok() {
                return Ok(running);
            }
            if let Some(status) = running.0.try_wait()? {
                bail!("it ended with {status}");
            }
            std::thread::sleep(START_PAUSE);
        }
        bail!("it does not accept connections on port {port}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
