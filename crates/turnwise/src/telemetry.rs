//! Log lines on stderr: level and form from the configuration. Knows nothing
//! of what is logged; message texts and secrets are kept out where lines are written.

use crate::config::{Config, ConfigError};
use tracing_subscriber::EnvFilter;

/// Starts logging for the rest of the process. A second call changes nothing.
///
/// # Errors
/// When the level is none.
pub(crate) fn start(config: &Config, as_json: bool) -> Result<(), ConfigError> {
    let filter = filter(&config.log_level)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if as_json || config.log_json {
        lines.json().flatten_event(true).with_ansi(false).try_init()
    } else {
        lines.with_ansi(false).with_target(false).try_init()
    };
    drop(started);
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, ConfigError> {
    // The original's names, as Python's logging has them.
    let level = match level.to_ascii_uppercase().as_str() {
        "WARNING" => "warn",
        "CRITICAL" | "FATAL" => "error",
        "NOTSET" => "trace",
        _ => level,
    };
    // What the libraries below say at these levels may quote what passes through them.
    let own_only = |level: &str| format!("info,turnwise={level}");
    let level = match level.to_ascii_lowercase().as_str() {
        "debug" => own_only("debug"),
        "trace" => own_only("trace"),
        _ => level.to_owned(),
    };
    EnvFilter::builder().parse(level).map_err(|_| ConfigError {
        detail: "LOG_LEVEL is not a level".into(),
        hint: "use ERROR, WARN, INFO, DEBUG, TRACE or OFF".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_both_worlds_are_known() {
        for level in ["INFO", "debug", "WARNING", "CRITICAL", "info,turnwise_dispatch=debug", "OFF"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        assert!(filter("a=b=c").is_err());
    }
}
