//! The configuration: one `Config::load` for the whole program. Flag before
//! environment before TOML file before default; unknown names are errors.

mod callbacks;
mod http;
pub(crate) mod keys;
mod layers;
mod limits;
mod roles;
pub(crate) mod settings;
mod show;
mod store;

pub(crate) use callbacks::Callbacks;
pub(crate) use keys::Key;
pub(crate) use layers::{ConfigError, Source};
pub(crate) use roles::Roles;
pub(crate) use show::{env_example, reference, rows, toml_example};

use http::HttpLimits;
use layers::Layers;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub(crate) use store::{ServerStore, ServerUrl};
use turnwise_gateway::Rate;

/// Most ports that are tried when the default one is taken.
pub(crate) const PORT_SHIFT_MAX: u16 = 20;

/// Which engine keeps the messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    /// A folder on this disk.
    Embedded,
    /// Lost when the process ends.
    Memory,
    /// On a Redis server.
    Redis(ServerUrl),
    /// In a PostgreSQL database.
    Postgres(ServerUrl),
}

impl StoreKind {
    /// Whether several processes may have it at once.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            StoreKind::Embedded | StoreKind::Memory => false,
            StoreKind::Redis(_) | StoreKind::Postgres(_) => true,
        }
    }
}

/// Which agent route is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AgentStream {
    /// Streamed when somebody may read the stream.
    Auto,
    /// Always streamed.
    Always,
    /// Never streamed.
    Never,
}

/// Everything the program was told.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Set by somebody: never shifted.
    pub(crate) port_is_set: bool,
    pub(crate) body_bytes_max: usize,
    pub(crate) http: HttpLimits,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) keys: Vec<Key>,
    pub(crate) insecure_no_auth: bool,
    pub(crate) key_rate: Option<Rate>,
    pub(crate) conversation_rate: Option<Rate>,
    pub(crate) store: StoreKind,
    pub(crate) roles: Roles,
    pub(crate) server: ServerStore,
    pub(crate) data_dir: PathBuf,
    pub(crate) quick_repair: bool,
    pub(crate) agent_base_url: Option<String>,
    pub(crate) agent_api_key: Option<String>,
    pub(crate) agent_ca_file: Option<PathBuf>,
    pub(crate) agent_timeout: Duration,
    pub(crate) agent_concurrency: u32,
    pub(crate) agent_stream: AgentStream,
    pub(crate) callbacks: Callbacks,
    pub(crate) message_async: bool,
    pub(crate) depth_max: u32,
    pub(crate) turn_lease: Duration,
    pub(crate) turn_attempts_max: u32,
    pub(crate) retry_after_max: Duration,
    pub(crate) retention: Duration,
    pub(crate) retained_turns_max: u64,
    pub(crate) retained_bytes_max: u64,
    pub(crate) turns_waiting_max: u64,
    pub(crate) org_turns_waiting_max: u64,
    pub(crate) drain: Duration,
    pub(crate) drain_linger: Duration,
    pub(crate) threads: usize,
    pub(crate) log_level: String,
    pub(crate) log_json: bool,
    pub(crate) otlp_endpoint: Option<String>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// Text and origin of every setting, secrets included: only for [`rows`], which masks them.
    shown: Vec<(&'static settings::Setting, String, Source)>,
}

impl Config {
    /// Reads file, environment and flags; `flags` are pairs of TOML key and text.
    ///
    /// # Errors
    /// Names what is wrong and the sentence that fixes it.
    pub(crate) fn load(
        file: Option<&Path>,
        env: &BTreeMap<String, String>,
        flags: &[(&'static str, String)],
    ) -> Result<Config, ConfigError> {
        let layers = Layers::load(file, env, flags)?;
        let read = Reader { layers: &layers };
        let store = read.store()?;
        let config = Config {
            roles: read.roles(&store)?,
            store,
            host: read.text("http.host").unwrap_or_default(),
            port: read.number("http.port", limits::PORT)?,
            port_is_set: layers.get("http.port").1 != Source::Default,
            body_bytes_max: read.number("http.body_bytes_max", limits::BODY_BYTES)?,
            http: HttpLimits::read(&read)?,
            cors_origins: read.origins("cors.origins")?,
            keys: keys::from_layers(&layers)?,
            insecure_no_auth: read.switch("auth.insecure_no_auth")?,
            key_rate: read.rate("rate.per_key_per_second", "rate.per_key_burst")?,
            conversation_rate: read
                .rate("rate.per_conversation_per_second", "rate.per_conversation_burst")?,
            server: ServerStore::read(&read)?,
            data_dir: PathBuf::from(read.text("store.data_dir").unwrap_or_default()),
            quick_repair: read.switch("store.quick_repair")?,
            agent_base_url: read.agent_url()?,
            agent_api_key: read.text("agent.api_key"),
            agent_ca_file: read.text("agent.ca_file").map(PathBuf::from),
            agent_timeout: read.seconds("agent.timeout_seconds", limits::AGENT_TIMEOUT)?,
            agent_concurrency: read.number("agent.concurrency", limits::AGENT_CONCURRENCY)?,
            agent_stream: read.agent_stream()?,
            callbacks: read.callbacks()?,
            message_async: read.one_of("message.mode", &["sync", "async"])? == "async",
            depth_max: read.number("conversation.depth_max", limits::DEPTH)?,
            turn_lease: read.seconds("turn.lease_seconds", limits::LEASE)?,
            turn_attempts_max: read.number("turn.max_attempts", limits::ATTEMPTS)?,
            retry_after_max: read.seconds("turn.retry_after_seconds_max", limits::RETRY_AFTER)?,
            retention: read.seconds("turn.retention_seconds", limits::RETENTION)?,
            retained_turns_max: read.number("turn.retained_turns_max", limits::RETAINED_TURNS)?,
            retained_bytes_max: read.number("turn.retained_bytes_max", limits::RETAINED_TURNS)?,
            turns_waiting_max: read.number("turn.waiting_max", limits::RETAINED_TURNS)?,
            org_turns_waiting_max: read.number("turn.waiting_per_org_max", limits::RETAINED_TURNS)?,
            drain: read.seconds("drain.seconds", limits::DRAIN)?,
            drain_linger: read.seconds("drain.linger_seconds", limits::LINGER)?,
            threads: read.number("runtime.threads", limits::THREADS)?,
            log_level: read.text("log.level").unwrap_or_default(),
            log_json: read.one_of("log.format", &["text", "json"])? == "json",
            otlp_endpoint: read.text("telemetry.otlp_endpoint"),
            file: layers.file.clone(),
            shown: settings::SETTINGS
                .iter()
                .map(|setting| {
                    let (text, source) = layers.get(setting.key);
                    (setting, text, source)
                })
                .collect(),
        };
        Ok(config)
    }
}

/// Turns texts into values and says which setting is wrong.
struct Reader<'a> {
    layers: &'a Layers,
}

impl Reader<'_> {
    fn text(&self, key: &'static str) -> Option<String> {
        Some(self.layers.get(key).0).filter(|text| !text.is_empty())
    }

    fn wrong(&self, key: &'static str, must: &str) -> ConfigError {
        let (_, source) = self.layers.get(key);
        let env = settings::by_key(key).map_or("", |setting| setting.env);
        ConfigError {
            detail: format!("{key} (from: {source}) must be {must}"),
            hint: format!("set {env}, or {key} in the TOML file; `turnwise config reference` explains it"),
        }
    }

    fn number<N: TryFrom<u64>>(
        &self,
        key: &'static str,
        within: RangeInclusive<u64>,
    ) -> Result<N, ConfigError> {
        let must = || format!("a whole number from {} to {}", within.start(), within.end());
        let number: u64 = self.layers.get(key).0.parse().map_err(|_| self.wrong(key, &must()))?;
        if !within.contains(&number) {
            return Err(self.wrong(key, &must()));
        }
        N::try_from(number).map_err(|_| self.wrong(key, &must()))
    }

    fn rate(&self, per_second: &'static str, burst: &'static str) -> Result<Option<Rate>, ConfigError> {
        let per_second: u32 = self.number(per_second, limits::RATE)?;
        let burst: u32 = self.number(burst, limits::RATE)?;
        let burst = if burst == 0 { per_second } else { burst };
        Ok((per_second > 0).then_some(Rate { per_second, burst }))
    }

    fn seconds(&self, key: &'static str, within: RangeInclusive<Duration>) -> Result<Duration, ConfigError> {
        let (least, most) = (within.start().as_secs_f64(), within.end().as_secs_f64());
        let wrong = || self.wrong(key, &format!("a number of seconds from {least} to {most}"));
        let number: f64 = self.layers.get(key).0.parse().map_err(|_| wrong())?;
        let time = Duration::try_from_secs_f64(number).map_err(|_| wrong())?;
        within.contains(&time).then_some(time).ok_or_else(wrong)
    }

    fn switch(&self, key: &'static str) -> Result<bool, ConfigError> {
        match self.layers.get(key).0.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(self.wrong(key, "true or false")),
        }
    }

    fn list(&self, key: &'static str) -> Vec<String> {
        let text = self.layers.get(key).0;
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// What a browser sends as `Origin`: scheme and host, nothing after it.
    fn origins(&self, key: &'static str) -> Result<Vec<String>, ConfigError> {
        let origins = self.list(key);
        let is_origin = |text: &String| {
            let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
            host.is_some_and(|host| {
                !host.is_empty()
                    && !host.contains(['/', '*', '?', '#', '@', ' '])
                    && *host == host.to_lowercase()
            })
        };
        match origins.iter().all(is_origin) {
            true => Ok(origins),
            false => {
                Err(self.wrong(key, "origins such as https://chat.example.org, in lower case; there is no *"))
            }
        }
    }

    fn one_of(&self, key: &'static str, allowed: &[&'static str]) -> Result<&'static str, ConfigError> {
        let text = self.layers.get(key).0;
        let found = allowed.iter().find(|word| word.eq_ignore_ascii_case(&text));
        found.copied().ok_or_else(|| self.wrong(key, &allowed.join(" or ")))
    }

    fn agent_stream(&self) -> Result<AgentStream, ConfigError> {
        Ok(match self.one_of("agent.stream", &["auto", "always", "never"])? {
            "always" => AgentStream::Always,
            "never" => AgentStream::Never,
            _ => AgentStream::Auto,
        })
    }

    fn agent_url(&self) -> Result<Option<String>, ConfigError> {
        let Some(url) = self.text("agent.base_url") else { return Ok(None) };
        let checked = turnwise_dispatch::DispatchConfig {
            base_url: url.clone(),
            api_key: self.text("agent.api_key"),
            ..turnwise_dispatch::DispatchConfig::default()
        };
        checked.check().map_err(|error| ConfigError {
            detail: format!("agent.base_url (from: {}): {error}", self.layers.get("agent.base_url").1),
            hint: "set WORKER_BASE_URL, for example to http://localhost:8787".into(),
        })?;
        Ok(Some(url.trim_end_matches('/').to_owned()))
    }
}

/// Bytes as hex digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The process's environment as text; what is not UTF-8 is skipped.
pub(crate) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where it is wrong")]
    use super::*;

    fn load(toml: &str, env: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        std::fs::write(&path, toml).unwrap();
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let flags: Vec<_> = flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        Config::load(Some(&path), &env, &flags)
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        assert_eq!(load("", &[], &[]).unwrap().port, 8000);
        assert!(!load("", &[], &[]).unwrap().port_is_set);
        assert_eq!(load("[http]\nport = 1", &[], &[]).unwrap().port, 1);
        assert_eq!(load("[http]\nport = 1", &[("PORT", "2")], &[]).unwrap().port, 2);
        assert_eq!(load("[http]\nport = 1", &[("PORT", "2")], &[("http.port", "3")]).unwrap().port, 3);
        assert_eq!(load("[http]\nport = 1", &[("PORT", "")], &[]).unwrap().port, 1);
    }

    #[test]
    fn the_file_to_begin_with_is_right_in_every_line() {
        let text = toml_example();
        let settings = text.split("#[[auth.keys]]").next().unwrap();
        let is_setting = |line: &&str| !line.is_empty() && !line.starts_with(' ');
        let toml: Vec<&str> =
            settings.lines().filter_map(|line| line.strip_prefix('#')).filter(is_setting).collect();
        assert_eq!(toml.len(), settings::SETTINGS.len());
        let config = load(&toml.join("\n"), &[], &[]).unwrap();
        assert_eq!(config.port, load("", &[], &[]).unwrap().port);
    }

    #[test]
    fn a_typo_names_the_nearest_known_name() {
        assert!(load("[http]\nprot = 1", &[], &[]).unwrap_err().hint.contains("http.port"));
        let error = load("", &[("TURNWISE_DATADIR", "x")], &[]).unwrap_err();
        assert!(error.hint.contains("TURNWISE_DATA_DIR"), "{error:?}");
        let error = load("[[auth.keys]]\nid='a'\nsha265='b'", &[], &[]).unwrap_err();
        assert!(error.hint.contains("sha256"), "{error:?}");
    }

    #[test]
    fn a_wrong_value_names_its_setting_and_origin() {
        let error = load("", &[("WORKER_TIMEOUT", "soon")], &[]).unwrap_err();
        assert!(error.detail.contains("agent.timeout_seconds"), "{error:?}");
        assert!(error.detail.contains("environment WORKER_TIMEOUT"), "{error:?}");
        assert!(load("[http]\nport = 'x'", &[], &[]).is_err());
        assert!(load("", &[("PORT", "70000")], &[]).is_err());
        assert!(load("", &[("WORKER_TIMEOUT", "-1")], &[]).is_err());
        assert!(load("", &[("WORKER_BASE_URL", "localhost:1")], &[]).is_err());
    }

    #[test]
    fn a_broken_file_is_placed_and_not_quoted() {
        let error = load("[agent]\napi_key = 'hunter2' hunter2\n", &[], &[]).unwrap_err();
        assert!(error.detail.contains("(line 2, column "), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn redis_is_the_store_unless_another_one_is_named() {
        let redis = ("REDIS_URL", "redis://:secret@host");
        let config = load("", &[redis], &[]).unwrap();
        assert!(matches!(&config.store, StoreKind::Redis(url) if url.text() == redis.1), "{config:?}");
        assert!(!format!("{:?}", config.store).contains("secret"));
        let encrypted =
            load("", &[("TURNWISE_STORE", "rediss://:secret@host?sslrootcert=ca.pem")], &[]).unwrap();
        assert!(matches!(&encrypted.store, StoreKind::Redis(_)), "{encrypted:?}");
        assert!(!format!("{:?}", encrypted.store).contains("secret"));
        assert!(load("", &[("TURNWISE_STORE", "redis3://host")], &[]).is_err());
        assert!(load("", &[redis, ("TURNWISE_STORE_DURABILITY", "some")], &[]).is_err());
        assert_eq!(load("", &[redis, ("TURNWISE_STORE", "memory")], &[]).unwrap().store, StoreKind::Memory);
        let postgres = ("TURNWISE_STORE", "postgres://me:secret@host/chat");
        let config = load("", &[redis, postgres], &[]).unwrap();
        assert!(matches!(&config.store, StoreKind::Postgres(url) if url.text() == postgres.1), "{config:?}");
        assert!(!format!("{:?}", config.store).contains("secret"));
    }

    #[test]
    fn secrets_are_masked_wherever_settings_are_shown() {
        let config = load("", &[("BROKER_API_KEY", "hunter2"), ("WORKER_API_KEY", "hunter2")], &[]).unwrap();
        assert!(rows(&config).iter().all(|row| !row.value.contains("hunter2")));
    }
}
