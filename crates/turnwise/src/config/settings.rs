//! Every setting on one page: its TOML key, its environment variable, its
//! default and what it does. The rest of the configuration reads this table.

/// What a setting's text must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Any text.
    Text,
    /// A whole number, zero or more.
    Number,
    /// A number of seconds, fractions allowed.
    Seconds,
    /// true or false.
    Switch,
    /// Texts; separated by commas in the environment.
    List,
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its key in the TOML file, dotted.
    pub(crate) key: &'static str,
    /// Its environment variable.
    pub(crate) env: &'static str,
    /// What it must look like.
    pub(crate) form: Form,
    /// Used when nobody says otherwise; empty means unset.
    pub(crate) default: &'static str,
    /// Never shown.
    pub(crate) secret: bool,
    /// One or two sentences.
    pub(crate) help: &'static str,
}

const fn setting(
    key: &'static str,
    env: &'static str,
    form: Form,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { key, env, form, default, secret: false, help }
}

const fn secret(key: &'static str, env: &'static str, help: &'static str) -> Setting {
    Setting { key, env, form: Form::Text, default: "", secret: true, help }
}

/// The settings in the order in which the reference lists them.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        "http.host",
        "HOST",
        Form::Text,
        "127.0.0.1",
        "Address to listen on. Anything but loopback needs an API key.",
    ),
    setting(
        "http.port",
        "PORT",
        Form::Number,
        "8000",
        "Port to listen on; 0 takes a free one. If it is taken and was not set by you, the next free one is used.",
    ),
    setting(
        "http.body_bytes_max",
        "TURNWISE_BODY_BYTES_MAX",
        Form::Number,
        "41943040",
        "Largest request body; more is answered with 413.",
    ),
    setting(
        "http.head_seconds",
        "TURNWISE_HTTP_HEAD",
        Form::Seconds,
        "10",
        "Time for the request line and the headers of a request to arrive; then 408.",
    ),
    setting(
        "http.body_idle_seconds",
        "TURNWISE_HTTP_BODY_IDLE",
        Form::Seconds,
        "30",
        "Longest pause inside a request body; then 408.",
    ),
    setting(
        "http.body_seconds",
        "TURNWISE_HTTP_BODY",
        Form::Seconds,
        "120",
        "Time for a whole request body to arrive; then 408.",
    ),
    setting(
        "http.keep_alive_seconds",
        "TURNWISE_HTTP_KEEP_ALIVE",
        Form::Seconds,
        "75",
        "How long a connection may wait for its next request before it is closed.",
    ),
    setting(
        "http.write_stall_seconds",
        "TURNWISE_HTTP_WRITE_STALL",
        Form::Seconds,
        "30",
        "Longest time that a client may take nothing of an answer or a stream before its connection is closed; a stream can be resumed.",
    ),
    setting(
        "http.connections_max",
        "TURNWISE_CONNECTIONS_MAX",
        Form::Number,
        "16384",
        "Connections served at once; more are answered with 503 and closed. Each takes a file descriptor: see `ulimit -n`.",
    ),
    setting(
        "http.connections_per_address_max",
        "TURNWISE_CONNECTIONS_PER_ADDRESS_MAX",
        Form::Number,
        "1024",
        "Of them, those from one address (IPv6: from one /64). 127.0.0.1 and ::1 are not counted. Raise it when a proxy on another machine stands in front.",
    ),
    setting(
        "http.streams_max",
        "TURNWISE_STREAMS_MAX",
        Form::Number,
        "12288",
        "Open event streams of turns and topics, and WebSocket connections; more are answered with 429, or closed with 1013. They take three quarters of the connections at most, so that other requests find one.",
    ),
    setting(
        "http.streams_per_key_max",
        "TURNWISE_STREAMS_PER_KEY_MAX",
        Form::Number,
        "12288",
        "Of them, those of one API key, tickets made with it included.",
    ),
    setting(
        "ws.frame_bytes_max",
        "TURNWISE_WS_FRAME_BYTES_MAX",
        Form::Number,
        "1064960",
        "Bytes of one message of a WebSocket client; a longer one closes the connection with 1009.",
    ),
    setting(
        "ws.frames_per_key_per_second",
        "TURNWISE_WS_FRAMES_PER_KEY",
        Form::Number,
        "0",
        "Messages a second that one API key may send over its WebSocket connections; more are answered with an error. 0: no limit.",
    ),
    setting(
        "ws.frames_per_key_burst",
        "TURNWISE_WS_FRAMES_PER_KEY_BURST",
        Form::Number,
        "0",
        "Messages that one API key may send over them at once after a pause. 0: as many as in a second.",
    ),
    setting(
        "cors.origins",
        "TURNWISE_CORS_ORIGINS",
        Form::List,
        "",
        "Origins of browser pages that may call the API.",
    ),
    secret(
        "auth.broker_api_key",
        "BROKER_API_KEY",
        "One API key that may do everything for every organisation. More keys with narrower rights: [[auth.keys]], see `turnwise keys new`. At least 16 bytes beyond loopback.",
    ),
    setting(
        "auth.insecure_no_auth",
        "TURNWISE_INSECURE_NO_AUTH",
        Form::Switch,
        "false",
        "Listen beyond loopback without any API key. Everybody who reaches the port can read and write everything.",
    ),
    setting(
        "rate.per_key_per_second",
        "TURNWISE_RATE_PER_KEY",
        Form::Number,
        "0",
        "Requests a second that one API key may make; more are answered with 429. 0: no limit.",
    ),
    setting(
        "rate.per_key_burst",
        "TURNWISE_RATE_PER_KEY_BURST",
        Form::Number,
        "0",
        "Requests that one API key may make at once after a pause. 0: as many as in a second.",
    ),
    setting(
        "rate.per_conversation_per_second",
        "TURNWISE_RATE_PER_CONVERSATION",
        Form::Number,
        "0",
        "Messages a second that one conversation takes; more are answered with 429. 0: no limit but conversation.depth_max.",
    ),
    setting(
        "rate.per_conversation_burst",
        "TURNWISE_RATE_PER_CONVERSATION_BURST",
        Form::Number,
        "0",
        "Messages that one conversation takes at once after a pause. 0: as many as in a second.",
    ),
    setting(
        "node.roles",
        "TURNWISE_ROLES",
        Form::List,
        "gateway, dispatch, worker",
        "What this process does: gateway (answers clients), dispatch (calls the agent and posts callbacks), worker \
         (housekeeping). Fewer than all of them need a store that nodes share.",
    ),
    setting(
        "store.url",
        "TURNWISE_STORE",
        Form::Text,
        "embedded",
        "Where messages are kept: embedded (a folder on this disk), memory (lost when the process ends), redis://[user:password@]host[:port][,host...][/database] (a Redis server; rediss:// encrypts, and ?sslrootcert=<file> names the certificates to trust) or postgres://[user:password@]host[:port]/database (PostgreSQL). The last two several nodes may share.",
    ),
    setting(
        "store.redis_url",
        "REDIS_URL",
        Form::Text,
        "",
        "A Redis server that keeps the messages, unless TURNWISE_STORE names a store.",
    ),
    setting(
        "store.durability",
        "TURNWISE_STORE_DURABILITY",
        Form::Text,
        "full",
        "full: a server that acknowledges what it has not written to disk is refused. relaxed: it is used, and a crash of it loses messages. For stores on a server.",
    ),
    setting(
        "store.namespace",
        "TURNWISE_STORE_NAMESPACE",
        Form::Text,
        "turnwise",
        "Keeps several systems on one server apart; in PostgreSQL the name of the schema. Nodes that work together have the same.",
    ),
    setting(
        "store.connections",
        "TURNWISE_STORE_CONNECTIONS",
        Form::Number,
        "4",
        "Connections of this node to the store's server. PostgreSQL takes one operation at a time on each: four times as many there.",
    ),
    setting(
        "store.timeout_seconds",
        "TURNWISE_STORE_TIMEOUT",
        Form::Seconds,
        "10",
        "The store's server answers within this time, or the operation has failed.",
    ),
    setting(
        "store.data_dir",
        "TURNWISE_DATA_DIR",
        Form::Text,
        "./turnwise-data",
        "Folder of the embedded store.",
    ),
    setting(
        "store.quick_repair",
        "TURNWISE_STORE_QUICK_REPAIR",
        Form::Switch,
        "false",
        "Let every commit of the embedded store save what the database needs to open without a repair after a crash. Costs a second sync and about two fifths of the rate; the start reads the whole file either way.",
    ),
    setting(
        "agent.base_url",
        "WORKER_BASE_URL",
        Form::Text,
        "",
        "The agent, http or https: turns go to {base}/api/v1/chat and {base}/api/v1/chat/stream. Unset: turns are accepted and kept.",
    ),
    secret("agent.api_key", "WORKER_API_KEY", "Sent to the agent as a Bearer token."),
    setting(
        "agent.ca_file",
        "TURNWISE_AGENT_CA_FILE",
        Form::Text,
        "",
        "PEM file of certificates to trust when the agent's address is https; without it those of the system.",
    ),
    setting(
        "agent.timeout_seconds",
        "WORKER_TIMEOUT",
        Form::Seconds,
        "60",
        "Longest wait for a plain answer; on a streamed answer the longest silence.",
    ),
    setting(
        "agent.concurrency",
        "TURNWISE_AGENT_CONCURRENCY",
        Form::Number,
        "64",
        "Turns that this process has at the agent at once.",
    ),
    setting(
        "agent.stream",
        "TURNWISE_AGENT_STREAM",
        Form::Text,
        "auto",
        "Which agent route is called: auto (streamed when somebody may read the stream), always or never.",
    ),
    secret(
        "callbacks.secret",
        "TURNWISE_CALLBACKS_SECRET",
        "Signs callbacks as of Standard Webhooks: whsec_ and 24 to 64 bytes in base64. Without it, or callbacks.unsigned, a callback_url is refused and callbacks that wait go on waiting.",
    ),
    secret(
        "callbacks.secret_previous",
        "TURNWISE_CALLBACKS_SECRET_PREVIOUS",
        "A second secret to sign with as well, while receivers change from one to the other.",
    ),
    setting(
        "callbacks.unsigned",
        "TURNWISE_CALLBACKS_UNSIGNED",
        Form::Switch,
        "false",
        "Send callbacks without a signature when there is no secret. Receivers cannot tell them from anybody else's.",
    ),
    setting(
        "callbacks.token_header",
        "TURNWISE_CALLBACKS_TOKEN_HEADER",
        Form::Text,
        "",
        "A header to send with every callback, beside the signature, such as X-Engine-Token.",
    ),
    secret("callbacks.token", "TURNWISE_CALLBACKS_TOKEN", "The value of that header."),
    setting(
        "callbacks.allow_private_hosts",
        "TURNWISE_CALLBACKS_ALLOW_PRIVATE_HOSTS",
        Form::List,
        "",
        "Hosts, without port, to which callbacks may go although they are private; also by http and on any port.",
    ),
    setting(
        "callbacks.ca_file",
        "TURNWISE_CALLBACKS_CA_FILE",
        Form::Text,
        "",
        "PEM file of certificates to trust in hosts of callbacks; without it those of the system.",
    ),
    setting(
        "callbacks.concurrency",
        "TURNWISE_CALLBACKS_CONCURRENCY",
        Form::Number,
        "32",
        "Callbacks that this process delivers at once.",
    ),
    setting(
        "callbacks.host_concurrency",
        "TURNWISE_CALLBACKS_HOST_CONCURRENCY",
        Form::Number,
        "16",
        "Of these, to one host and port. One that is slow gets two until it is quick again.",
    ),
    setting(
        "callbacks.timeout_seconds",
        "TURNWISE_CALLBACKS_TIMEOUT",
        Form::Seconds,
        "10",
        "Longest time for one try of a callback, from the look-up of its host to the end of the answer.",
    ),
    setting(
        "callbacks.max_attempts",
        "TURNWISE_CALLBACKS_MAX_ATTEMPTS",
        Form::Number,
        "12",
        "Tries of one callback; then it is a dead letter.",
    ),
    setting(
        "callbacks.kept_max",
        "TURNWISE_CALLBACKS_KEPT_MAX",
        Form::Number,
        "200000",
        "Callbacks that wait or are dead letters, kept at most: the oldest dead ones go first; while so many wait, a message with a callback_url is answered with 503. Each takes about 500 bytes of memory.",
    ),
    setting(
        "message.mode",
        "TURNWISE_MESSAGE_MODE",
        Form::Text,
        "sync",
        "What POST /api/v1/message does without a Prefer header: sync (answer in the response when the conversation is idle) or async.",
    ),
    setting(
        "conversation.depth_max",
        "TURNWISE_CONVERSATION_DEPTH_MAX",
        Form::Number,
        "50",
        "Turns one conversation may hold; more are answered with 429.",
    ),
    setting(
        "turn.lease_seconds",
        "TURNWISE_TURN_LEASE",
        Form::Seconds,
        "20",
        "How long a turn belongs to the process that runs it without a sign of life; renewed every third of it.",
    ),
    setting(
        "turn.max_attempts",
        "TURNWISE_TURN_MAX_ATTEMPTS",
        Form::Number,
        "3",
        "Calls to the agent for one turn when the process crashed or lost its lease in between.",
    ),
    setting(
        "turn.retry_after_seconds_max",
        "TURNWISE_RETRY_AFTER_MAX",
        Form::Seconds,
        "600",
        "Longest total wait for an agent that answers 429 or 503 with Retry-After.",
    ),
    setting(
        "turn.retention_seconds",
        "TURNWISE_RETENTION",
        Form::Seconds,
        "86400",
        "How long answers can be read again.",
    ),
    setting(
        "turn.retained_turns_max",
        "TURNWISE_RETAINED_TURNS_MAX",
        Form::Number,
        "1000000",
        "Ended turns kept at most; the oldest go first.",
    ),
    setting(
        "turn.retained_bytes_max",
        "TURNWISE_RETAINED_BYTES_MAX",
        Form::Number,
        "17179869184",
        "Bytes of the answers of ended turns kept at most, looked at once a minute; the oldest go first.",
    ),
    setting(
        "turn.waiting_max",
        "TURNWISE_TURNS_WAITING_MAX",
        Form::Number,
        "1000000",
        "Turns that wait or run at once, over all conversations; more are answered with 503. A waiting turn takes about 400 bytes of memory.",
    ),
    setting(
        "turn.waiting_per_org_max",
        "TURNWISE_TURNS_WAITING_PER_ORG_MAX",
        Form::Number,
        "500000",
        "Turns of one organisation that wait or run at once; more are answered with 429, and others find room.",
    ),
    setting(
        "drain.seconds",
        "TURNWISE_DRAIN",
        Form::Seconds,
        "10",
        "Time a stopping process gives to turns at the agent; what is not over then is handed back to the queue.",
    ),
    setting(
        "drain.linger_seconds",
        "TURNWISE_DRAIN_LINGER",
        Form::Seconds,
        "0",
        "Time a stopping process goes on answering 503 even with nothing left to finish, so that load balancers see it; at most drain.seconds.",
    ),
    setting(
        "runtime.threads",
        "TURNWISE_RUNTIME_THREADS",
        Form::Number,
        "1",
        "Threads that serve requests. One is the fastest on small machines; the store has a thread of its own.",
    ),
    setting(
        "log.level",
        "LOG_LEVEL",
        Form::Text,
        "INFO",
        "ERROR, WARN, INFO, DEBUG, TRACE or OFF, or a list such as info,turnwise_dispatch=debug.",
    ),
    setting("log.format", "TURNWISE_LOG_FORMAT", Form::Text, "text", "Lines on stderr: text or json."),
    setting(
        "telemetry.otlp_endpoint",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        Form::Text,
        "",
        "OpenTelemetry collector that gets spans, such as http://localhost:4318; they are posted as JSON below it to /v1/traces. Needs a build with `--features otel`.",
    ),
];

/// Variables that are read outside the table: by commands that are clients, or to find the file itself.
pub(crate) const OTHER_ENV: &[(&str, &str)] = &[
    ("TURNWISE_CONFIG", "Path of the TOML file; without it ./turnwise.toml is read if it exists."),
    ("TURNWISE_URL", "For client commands such as `turnwise send`: the server."),
    ("TURNWISE_API_KEY", "For client commands such as `turnwise send`: the API key."),
];

/// The table of API keys in the TOML file, and what one entry may hold.
pub(crate) const KEYS_TABLE: &str = "auth.keys";
/// Fields of one `[[auth.keys]]` entry.
pub(crate) const KEY_FIELDS: &[&str] = &["id", "sha256", "orgs", "agents", "scopes"];

/// The setting with this TOML key.
pub(crate) fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The candidate that is closest to `word`, if any is close enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let worst = (word.chars().count() / 2).clamp(2, 8);
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= worst)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, without regard to case.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.to_lowercase().chars().enumerate() {
        let mut before = i;
        let mut last = i + 1;
        let mut next = vec![last];
        for (b, above) in right.iter().zip(row.iter().skip(1)) {
            last = (last + 1).min(above + 1).min(before + usize::from(a != *b));
            before = *above;
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_with_the_typo_undone() {
        let keys = || SETTINGS.iter().map(|setting| setting.key);
        assert_eq!(nearest("htpp.port", keys()), Some("http.port"));
        assert_eq!(nearest("agent.baseurl", keys()), Some("agent.base_url"));
        assert_eq!(nearest("zzzzzzzzzzzzzz", keys()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn keys_and_variables_are_unique() {
        for (i, setting) in SETTINGS.iter().enumerate() {
            for other in SETTINGS.iter().skip(i + 1) {
                assert_ne!(setting.key, other.key);
                assert_ne!(setting.env, other.env);
            }
        }
    }
}
