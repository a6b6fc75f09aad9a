//! What is measured: a server of ours, or nginx with nchan on the same machine.

use crate::cli::bench::socket::{UPGRADE, masked};
use crate::failure::{Exit, Failure};
use clap::ValueEnum;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// Debian's module for nginx.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
/// Looks for its port until then.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// How readers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Over {
    /// WebSocket
    Ws,
    /// Server-sent events
    Sse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Turnwise,
    Nchan,
}

/// A server that runs.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) server: Server,
    pub(super) address: SocketAddr,
    /// Its processes.
    pub(super) pids: Vec<u32>,
}

impl Target {
    /// What a reader says, and what shows that it was heard.
    pub(super) fn hello(&self, over: Over, after: Option<&str>) -> Vec<(Vec<u8>, &'static [u8])> {
        let host = self.address;
        let get = |path: &str, more: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n").into_bytes()
        };
        let resume = after.map_or_else(String::new, |place| format!("Last-Event-ID: {place}\r\n"));
        match (self.server, over) {
            (Server::Nchan, Over::Ws) => vec![(get("/ws/bench", UPGRADE), b"\r\n\r\n")],
            (Server::Nchan, Over::Sse) => {
                vec![(get("/sse/bench", "Accept: text/event-stream\r\n"), b"\r\n\r\n")]
            }
            (Server::Turnwise, Over::Ws) => {
                let after = after.map_or_else(String::new, |place| format!(r#","after":"{place}""#));
                let frame = format!(r#"{{"type":"subscribe","topics":["bench"]{after}}}"#);
                vec![
                    (get("/ws/connect?org_id=bench", UPGRADE), b"\"connected\""),
                    (masked(&frame), b"\"subscribed\""),
                    (Vec::new(), b"}"),
                ]
            }
            (Server::Turnwise, Over::Sse) => {
                let request = get("/api/v1/subscribe?org_id=bench&topics=bench", &resume);
                vec![(request, b"\nid: "), (Vec::new(), b"\n")]
            }
        }
    }

    /// The place that a reader of ours has from the beginning.
    pub(super) fn place(&self, over: Over, answer: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(answer);
        let (before, end) = match over {
            Over::Ws => ("\"place\":\"", '"'),
            Over::Sse => ("\nid: ", '\n'),
        };
        let from = text.rfind(before)? + before.len();
        let rest = text.get(from..)?;
        rest.split(end).next().map(str::to_owned).filter(|_| self.server == Server::Turnwise)
    }

    /// Where an event is published, and its body.
    pub(super) fn publish(&self, event: &str) -> (&'static str, String) {
        match self.server {
            Server::Nchan => ("/pub/bench", event.to_owned()),
            Server::Turnwise => {
                let body = format!(r#"{{"type":"bench","data":"{event}"}}"#);
                ("/api/v1/topics/bench/events?org_id=bench", body)
            }
        }
    }

    /// Processor time its threads have had, from the scheduler's count of each.
    pub(super) fn cpu(&self) -> Result<Duration, Failure> {
        let unknown =
            || Failure::new(Exit::Failure, "the server's processor time is unknown", "it needs /proc");
        let mut nanos = 0;
        for pid in &self.pids {
            for thread in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| unknown())? {
                // A thread may end between the two looks.
                let text = std::fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
                nanos += text.split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        if nanos == 0 { Err(unknown()) } else { Ok(Duration::from_nanos(nanos)) }
    }

    /// What its processes hold in memory, in MiB.
    pub(super) fn resident_mib(&self) -> f64 {
        let bytes: u64 = self.pids.iter().filter_map(|pid| crate::process::resident_bytes(*pid)).sum();
        bytes as f64 / (1024.0 * 1024.0)
    }
}

/// nginx with nchan in a folder of its own; ends when dropped.
pub(super) struct Nchan {
    _process: Child,
    pub(super) target: Target,
}

impl Nchan {
    /// Whether Debian's packages nginx and libnginx-mod-nchan are here.
    pub(super) fn is_installed() -> bool {
        Path::new(NCHAN).exists()
    }

    pub(super) async fn start(folder: &Path) -> Result<Nchan, Failure> {
        let failed = |why: String| Failure::new(Exit::Failure, "nginx did not start", why);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        drop(listener);
        std::fs::create_dir_all(folder)?;
        let here = folder.display();
        let config = format!(
            "load_module {NCHAN};\ndaemon off;\nmaster_process off;\nerror_log {here}/error.log warn;\n\
             pid {here}/nginx.pid;\nworker_rlimit_nofile 65536;\nevents {{ worker_connections 20000; }}\n\
             http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {here}/body;\n\
             proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi;\n\
             scgi_temp_path {here}/scgi; nchan_shared_memory_size 256M;\n\
             server {{ listen {address} backlog=4096;\n\
             location = /pub/bench {{ nchan_publisher; nchan_channel_id bench; nchan_message_buffer_length 64;\n\
             nchan_message_timeout 10s; }}\n\
             location = /ws/bench {{ nchan_subscriber websocket; nchan_channel_id bench;\n\
             nchan_subscriber_first_message newest; }}\n\
             location = /sse/bench {{ nchan_subscriber eventsource; nchan_channel_id bench;\n\
             nchan_subscriber_first_message newest; }} }} }}\n"
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, config)?;
        let process = Command::new("nginx")
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let pid = process.id().ok_or_else(|| failed("it ended at once".to_owned()))?;
        let up = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(STARTS_WITHIN, up).await.is_err() {
            let log = std::fs::read_to_string(folder.join("error.log")).unwrap_or_default();
            return Err(failed(log));
        }
        Ok(Nchan { _process: process, target: Target { server: Server::Nchan, address, pids: vec![pid] } })
    }
}
