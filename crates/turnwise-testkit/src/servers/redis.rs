//! A Redis server of a test's own, and a cluster.

use super::{Launch, Server, find, free_port, not_run};
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The program.
pub const PROGRAM: &str = "redis-server";

/// How the server keeps what it acknowledged, as the engine wants it.
const KEEPS: [&str; 6] =
    ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];

/// The program, or the words that it is not there.
#[must_use]
pub fn program() -> Option<PathBuf> {
    let found = find(PROGRAM, &[]);
    if found.is_none() {
        not_run(PROGRAM);
    }
    found
}

/// One server that keeps everything it acknowledged; `None` where Redis is not installed.
#[must_use]
pub fn start() -> Option<Server> {
    start_with(&[])
}

/// The same with more arguments, which win over the usual ones.
#[must_use]
pub fn start_with(extra: &[&str]) -> Option<Server> {
    Some(Server::start(launch(program()?, extra)))
}

/// The same with arguments that are asked for at each start.
#[must_use]
pub fn start_asking(extra: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Option<Server> {
    let plain = launch(program()?, &[]);
    let arguments = plain.arguments;
    let asking = move |port: u16, folder: &Path| {
        let mut all = arguments(port, folder);
        all.extend(extra().into_iter().map(OsString::from));
        all
    };
    Some(Server::start(Launch {
        name: plain.name,
        program: plain.program,
        arguments: Box::new(asking),
        ready: plain.ready,
        prepare: plain.prepare,
    }))
}

/// Its address as an engine takes it.
#[must_use]
pub fn url(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port())
}

/// A certificate for `localhost` that a server of [`start_encrypted`] shows, in its folder, and its key.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// One server that speaks TLS only, as `localhost`; `None` where Redis is not installed.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn start_encrypted() -> Option<Server> {
    let plain = launch(program()?, &["--tls-auth-clients", "no"]);
    let arguments = plain.arguments;
    let encrypted = move |port: u16, folder: &Path| {
        let mut all = arguments(port, folder);
        // Of two words on one setting the last one counts.
        all.extend(["--port", "0", "--tls-port"].map(OsString::from));
        all.push(port.to_string().into());
        let files =
            [("--tls-cert-file", CERTIFICATE), ("--tls-ca-cert-file", CERTIFICATE), ("--tls-key-file", KEY)];
        for (setting, file) in files {
            all.extend([setting.into(), folder.join(file).into()]);
        }
        all
    };
    let certify = |folder: &Path| {
        let (certificate, key) = certificate("localhost");
        std::fs::write(folder.join(CERTIFICATE), certificate).expect("its folder takes a file");
        std::fs::write(folder.join(KEY), key).expect("its folder takes a file");
    };
    Some(Server::start(Launch {
        name: plain.name,
        program: plain.program,
        arguments: Box::new(encrypted),
        ready: plain.ready,
        prepare: Some(Box::new(certify)),
    }))
}

/// A certificate for this name that vouches for itself, and its key, both in PEM.
///
/// # Panics
/// When the name cannot be one.
#[must_use]
pub fn certificate(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let named = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
    let certificate = named.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// The address of a server of [`start_encrypted`] as an engine takes it.
#[must_use]
pub fn encrypted_url(server: &Server) -> String {
    let trusted = server.folder().join(CERTIFICATE);
    format!("rediss://localhost:{}/0?sslrootcert={}", server.port(), trusted.display())
}

fn launch(program: PathBuf, extra: &[&str]) -> Launch {
    let extra: Vec<OsString> = extra.iter().map(OsString::from).collect();
    Launch {
        name: PROGRAM,
        program,
        arguments: Box::new(move |port, folder| {
            let mut arguments: Vec<OsString> = vec!["--port".into(), port.to_string().into()];
            arguments.extend(["--bind", "127.0.0.1", "--save", "", "--dir"].map(OsString::from));
            arguments.push(folder.into());
            arguments.extend(KEEPS.map(OsString::from));
            arguments.extend(extra.iter().cloned());
            arguments
        }),
        ready: "Ready to accept connections",
        prepare: None,
    }
}

/// Nodes of a cluster: as few as make one.
const NODES: usize = 3;
/// Slots of a cluster.
const SLOTS: usize = 16_384;
/// A node that does not answer counts as gone only after this long: longer than any test lets one hang.
const NODE_TIMEOUT_MS: &str = "60000";
/// A cluster that does not work by then has failed.
const CLUSTER_MAX: Duration = Duration::from_secs(60);
/// Between two looks at a cluster that does not work yet.
const LOOK: Duration = Duration::from_millis(50);

/// Three servers that share the slots.
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts three nodes and waits until they work together; `None` where Redis is not installed.
    ///
    /// # Panics
    /// When they do not.
    #[must_use]
    pub fn start() -> Option<Cluster> {
        let program = program()?;
        let node = || {
            let bus = free_port().to_string();
            let own = ["--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT_MS];
            let own = own.into_iter().chain(["--cluster-port", &bus]).collect::<Vec<_>>();
            (Server::start(launch(program.clone(), &own)), bus)
        };
        let nodes: Vec<(Server, String)> = (0..NODES).map(|_| node()).collect();
        for (at, (node, _)) in nodes.iter().enumerate() {
            let (first, last) = (at * SLOTS / NODES, (at + 1) * SLOTS / NODES - 1);
            told(node, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"), "+OK");
            for (other, bus) in nodes.iter().take(at) {
                told(node, &format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port()), "+OK");
            }
        }
        let cluster = Cluster { nodes: nodes.into_iter().map(|(node, _)| node).collect() };
        cluster.wait();
        Some(cluster)
    }

    /// Its address as an engine takes it.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis://{}", hosts.join(","))
    }

    /// Kills every node without warning and starts them again on what they left.
    pub fn crash(&self) {
        self.nodes.iter().for_each(Server::kill);
        self.nodes.iter().for_each(Server::restart);
        self.wait();
    }

    /// Stops every node in mid-step (`true`), or lets them go on.
    pub fn freeze(&self, frozen: bool) {
        self.nodes.iter().for_each(|node| node.freeze(frozen));
    }

    fn wait(&self) {
        for node in &self.nodes {
            told(node, "CLUSTER INFO", "cluster_state:ok");
            // Who was not met yet has no slots.
            told(node, "CLUSTER INFO", &format!("cluster_size:{NODES}"));
        }
    }
}

/// Asks a server until its answer holds these words.
fn told(server: &Server, command: &str, words: &str) {
    let looks = CLUSTER_MAX.as_millis() / LOOK.as_millis();
    let mut last = String::new();
    for _ in 0..looks {
        last = ask(server, command).unwrap_or_else(|error| error.to_string());
        if last.contains(words) {
            return;
        }
        std::thread::park_timeout(LOOK);
    }
    panic!("{command} answers {last:?}, not {words}");
}

/// One command; as much of its answer as comes at once, which is all of a short one.
fn ask(server: &Server, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port()))?;
    stream.set_read_timeout(Some(CLUSTER_MAX))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = [0; 4_096];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
}
