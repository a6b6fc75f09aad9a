//! `turnwise serve`: the server, and the lines that say it is ready.

use super::version::VERSION;
use super::{Context, Outcome, StopSignals, print, runtime};
use crate::config::{self, Config, StoreKind};
use crate::failure::{Exit, Failure};
use crate::node::{self, Node};
use crate::otel::Exporter;
use crate::rlimits;
use crate::telemetry;
use clap::Args;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;
use turnwise_mock::FakeAgent;

/// After a second signal: the shell's code for Ctrl-C.
const EXIT_AT_ONCE: i32 = 130;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Run a fake agent in this process and send turns to it
    #[arg(long)]
    mock_agent: bool,
    /// Folder of the embedded store
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// What this process does, of gateway, dispatch and worker; all of it unless nodes share a store
    #[arg(long, value_name = "ROLES")]
    roles: Option<String>,
    /// embedded or memory
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Address to listen on
    #[arg(long)]
    host: Option<String>,
    /// Port to listen on; 0 takes a free one
    #[arg(long)]
    port: Option<u16>,
    /// Listen beyond loopback without any API key
    #[arg(long)]
    insecure_no_auth: bool,
    /// ERROR, WARN, INFO, DEBUG, TRACE or OFF
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Stop when stdin closes: a parent process ended
    #[arg(long, hide = true)]
    end_with_stdin: bool,
    /// A deliberate fault, to see the tests find it
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, value_name = "NAME")]
    mutant: Option<String>,
}

impl ServeArgs {
    fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags = Vec::new();
        let mut set = |key, text: Option<String>| flags.extend(text.map(|text| (key, text)));
        set("store.data_dir", self.data_dir.as_ref().map(|path| path.to_string_lossy().into_owned()));
        set("store.url", self.store.clone());
        set("node.roles", self.roles.clone());
        set("http.host", self.host.clone());
        set("http.port", self.port.map(|port| port.to_string()));
        set("auth.insecure_no_auth", self.insecure_no_auth.then(|| "true".into()));
        set("log.level", self.log_level.clone());
        flags
    }
}

pub(crate) fn run(context: &Context, arguments: &ServeArgs) -> Outcome {
    let config = Config::load(context.config.as_deref(), &config::environment(), &arguments.flags())?;
    telemetry::start(&config, context.json)?;
    rlimits::raise();
    rlimits::no_core_dumps();
    #[cfg(debug_assertions)]
    super::mutant::set(arguments.mutant.as_deref())?;
    let runtime = runtime(config.threads)?;
    let outcome = runtime.block_on(serve(context, arguments, config));
    // Everything was waited for; what is left hangs on a disk that does not answer.
    runtime.shutdown_background();
    outcome
}

async fn serve(context: &Context, arguments: &ServeArgs, mut config: Config) -> Outcome {
    let exporter = config.otlp_endpoint.as_deref().map(Exporter::start).transpose()?;
    let listener = listen(&config).await?;
    let address = listener.local_addr()?;
    let agent = match arguments.mock_agent {
        true => Some(start_mock(&mut config).await?),
        false => None,
    };
    let mut signals = StopSignals::catch()?;
    let mut node = Node::start(&config, listener, exporter.as_ref().map(Exporter::spans)).await?;
    announce(context, &config, address, arguments.mock_agent);
    tokio::select! {
        () = signals.next() => {}
        () = stdin_closed(), if arguments.end_with_stdin => {}
        () = node.failed() => {}
    }
    if !context.json {
        eprintln!("stopping; once more to stop at once");
    }
    let stop = async {
        let stopped = node.stop().await;
        if let Some(exporter) = exporter {
            exporter.stop().await;
        }
        stopped
    };
    tokio::select! {
        stopped = stop => stopped?,
        () = signals.next() => std::process::exit(EXIT_AT_ONCE),
    }
    if let Some(agent) = agent {
        agent.stop().await;
    }
    Ok(())
}

async fn start_mock(config: &mut Config) -> Result<FakeAgent, Failure> {
    let agent = FakeAgent::start(SocketAddr::from(([127, 0, 0, 1], 0)), super::agent::pleasant()).await?;
    config.agent_base_url = Some(agent.base_url());
    Ok(agent)
}

/// Binds the listener: refuses to be open to the network without a key, and
/// takes the next free port if the default one is taken.
async fn listen(config: &Config) -> Result<TcpListener, Failure> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((config.host.as_str(), config.port))
        .await
        .map_err(|error| {
            Failure::new(Exit::Usage, "HOST is no address", format!("{}: {error}", config.host))
        })?
        .collect();
    if !node::is_loopback(&addresses) && config.keys.is_empty() {
        if !config.insecure_no_auth {
            return Err(Failure::new(
                Exit::Usage,
                "refused to listen without a key",
                format!("{} can be reached from other machines, and no API key is configured", config.host),
            )
            .hint("set BROKER_API_KEY, or add a key from `turnwise keys new`, or listen on 127.0.0.1, or accept it with --insecure-no-auth"));
        }
        eprintln!(
            "WARNING: listening on {} without any API key: everybody who reaches it can read and write everything",
            config.host
        );
    }
    if !node::is_loopback(&addresses) {
        config::keys::check_for_others(&config.keys)?;
    }
    let last = match config.port_is_set {
        true => config.port,
        false => config.port.saturating_add(config::PORT_SHIFT_MAX),
    };
    let mut refused = None;
    for port in config.port..=last {
        let tried: Vec<SocketAddr> =
            addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect();
        match TcpListener::bind(tried.as_slice()).await {
            Ok(listener) => {
                if port != config.port {
                    eprintln!("port {} is taken, using {port}", config.port);
                }
                return Ok(listener);
            }
            Err(error) => refused = Some(error),
        }
    }
    let why = refused.map(|error| error.to_string()).unwrap_or_default();
    Err(Failure::new(
        Exit::Failure,
        "the port cannot be used",
        format!("{}:{}: {why}", config.host, config.port),
    )
    .hint("choose another with --port or PORT; 0 takes a free one"))
}

fn announce(context: &Context, config: &Config, address: SocketAddr, mock: bool) {
    let url = format!("http://{address}");
    let store = match &config.store {
        StoreKind::Embedded => format!("embedded, {}", config.data_dir.display()),
        StoreKind::Memory => "memory: nothing is kept when this process ends".into(),
        StoreKind::Redis(url) | StoreKind::Postgres(url) => url.place(),
    };
    let agent = match (&config.agent_base_url, mock) {
        (Some(url), true) => format!("fake, {url}"),
        (Some(url), false) => url.clone(),
        (None, _) => "none: turns are accepted and kept; WORKER_BASE_URL names one, `turnwise serve --mock-agent` brings one".into(),
    };
    if context.json {
        print::json(&json!({
            "ready": true, "version": VERSION, "url": url, "port": address.port(), "store": store,
            "keys": config.keys.len(), "agent": config.agent_base_url, "mock_agent": mock,
            "pid": std::process::id(),
        }));
        return;
    }
    let keys = match config.keys.len() {
        0 if config.insecure_no_auth => "none: OPEN to everybody who reaches this port".to_owned(),
        0 => "none: open to this machine only (`turnwise keys new` makes one)".to_owned(),
        1 => "1 configured; send it as X-API-Key".to_owned(),
        n => format!("{n} configured; send one as X-API-Key"),
    };
    let url_flag = if address.port() == 8000 { String::new() } else { format!(" --url {url}") };
    let key_flag = if config.keys.is_empty() { "" } else { " --key $BROKER_API_KEY" };
    print::line(&format!("turnwise {VERSION}  {url}"));
    print::line(&format!("  store  {store}"));
    print::line(&format!("  key    {keys}"));
    print::line(&format!("  agent  {agent}"));
    print::line(&format!("  try    turnwise send{url_flag}{key_flag} --user alice \"hello\""));
}

/// Returns when there is nothing more to read. The thread that reads ends with the process.
async fn stdin_closed() {
    let (closed, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = closed.send(());
    });
    let _ = wait.await;
}
