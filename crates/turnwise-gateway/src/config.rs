//! What the inbound side can be told.

use crate::limits;
use crate::rate::Rate;
use crate::scope::Scope;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use turnwise_metrics::{Source, Spans};

/// A key a client may show. The key itself is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Names it in logs.
    pub id: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// Organisations it is for; empty means all.
    pub orgs: Vec<String>,
    /// Agents on the bus that it may be, `*` for any text; empty means all of its organisations.
    pub agents: Vec<String>,
    /// What it is for; empty means the conversations.
    pub scopes: Vec<Scope>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).field("orgs", &self.orgs).finish_non_exhaustive()
    }
}

/// Tells without waiting how the agent is: `None` if none is configured, else
/// whether it answered last.
pub type AgentStatus = Arc<dyn Fn() -> Option<bool> + Send + Sync>;

/// Tells without waiting how long the agent took to answer when it was last asked.
pub type AgentProbe = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// What a store says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// What it may lose of what it acknowledges; nothing if all is well.
    pub weakness: Option<String>,
    /// How often it came back without what it had acknowledged.
    pub losses: u64,
}

/// Tells without waiting what the store says about itself.
pub type StoreStatus = Arc<dyn Fn() -> StoreReport + Send + Sync>;

/// Settings of the inbound side.
#[derive(Clone)]
pub struct GatewayConfig {
    /// Keys that are let in; without any everyone is.
    pub keys: Vec<ApiKey>,
    /// How the agent is.
    pub agent: AgentStatus,
    /// How long it took to say so.
    pub agent_probe: AgentProbe,
    /// What the store says about itself.
    pub store: StoreStatus,
    /// Submissions that say nothing about it are answered at once, not when their turn has ended.
    pub async_default: bool,
    /// Time for the head of a request to arrive.
    pub head_time_max: Duration,
    /// Time between two requests on one connection.
    pub keep_alive_max: Duration,
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Time for a whole body to arrive.
    pub body_time_max: Duration,
    /// Longest pause inside a body.
    pub body_idle_max: Duration,
    /// Longest time without progress while something waits to be written to a client;
    /// then its connection is closed.
    pub write_stall_max: Duration,
    /// Whether clients are answered here, not only monitors.
    pub serves_conversations: bool,
    /// The listener is on loopback: without keys, only loopback names and known origins are served.
    pub loopback: bool,
    /// Origins of web pages that may ask besides the server's own, such as `https://chat.example.org`.
    pub cors_origins: Vec<String>,
    /// Connections served at once.
    pub connections_max: usize,
    /// Of them, those of one address; 127.0.0.1 and ::1 are not counted.
    pub connections_per_address_max: usize,
    /// Open event streams and WebSocket connections.
    pub streams_max: usize,
    /// Of them, those of one key.
    pub streams_per_key_max: usize,
    /// Bytes of one message of a WebSocket client.
    pub ws_frame_bytes_max: usize,
    /// How often one key may send a message over its WebSocket connections; none for no limit.
    pub ws_frame_rate: Option<Rate>,
    /// How often one key may ask; none for no limit.
    pub key_rate: Option<Rate>,
    /// How often one conversation takes a message; none for no limit.
    pub conversation_rate: Option<Rate>,
    /// Random bytes from which tickets are made; none: no tickets are given out.
    pub ticket_secret: Option<[u8; 32]>,
    /// Bytes of long answers that wait for their readers, all together.
    pub answers_bytes_max: usize,
    /// Who counts what besides broker and gateway, for `/metrics`.
    pub metrics: Vec<Arc<dyn Source>>,
    /// Who is told of requests as spans of traces.
    pub spans: Option<Arc<dyn Spans>>,
    /// Start of the request ids given out; differs between nodes and starts.
    pub request_id_seed: u64,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        GatewayConfig {
            keys: Vec::new(),
            agent: Arc::new(|| None),
            agent_probe: Arc::new(|| None),
            store: Arc::new(StoreReport::default),
            async_default: false,
            head_time_max: limits::HEAD_TIME_MAX,
            keep_alive_max: limits::KEEP_ALIVE_MAX,
            body_bytes_max: limits::BODY_BYTES_MAX,
            body_time_max: limits::BODY_TIME_MAX,
            body_idle_max: limits::BODY_IDLE_MAX,
            write_stall_max: limits::WRITE_STALL_MAX,
            serves_conversations: true,
            loopback: true,
            cors_origins: Vec::new(),
            connections_max: limits::CONNECTIONS_MAX,
            connections_per_address_max: limits::CONNECTIONS_PER_ADDRESS_MAX,
            streams_max: limits::STREAMS_MAX,
            streams_per_key_max: limits::STREAMS_MAX,
            ws_frame_bytes_max: limits::WS_FRAME_BYTES_MAX,
            ws_frame_rate: None,
            key_rate: None,
            conversation_rate: None,
            ticket_secret: None,
            answers_bytes_max: limits::LARGE_ANSWERS_BYTES_MAX,
            metrics: Vec::new(),
            spans: None,
            request_id_seed: 0,
        }
    }
}
