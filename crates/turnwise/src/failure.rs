//! How a command fails: an exit code, and a message with title, detail, hint
//! and request id.

use crate::config::ConfigError;
use serde_json::json;

/// What the process answers to its caller. Scripts rely on the numbers: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did not work.
    Failure = 1,
    /// Wrong arguments or configuration.
    Usage = 2,
    /// No such thing.
    NotFound = 3,
    /// The key is missing or wrong.
    Auth = 4,
    /// Not possible in the present state.
    Conflict = 5,
    /// Nobody answers, or not in time.
    Unreachable = 6,
    /// A check found something wrong.
    Check = 7,
}

impl Exit {
    /// The code for an HTTP status that is an error.
    pub(crate) fn of_status(status: u16) -> Exit {
        match status {
            400 | 413 | 415 | 422 => Exit::Usage,
            401 | 403 => Exit::Auth,
            404 | 410 => Exit::NotFound,
            409 => Exit::Conflict,
            503 | 504 => Exit::Unreachable,
            _ => Exit::Failure,
        }
    }
}

/// Why a command failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// A few words.
    pub(crate) title: String,
    /// A sentence.
    pub(crate) detail: String,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// To look it up in the server's log.
    pub(crate) request_id: Option<String>,
}

impl Failure {
    /// A failure without hint.
    pub(crate) fn new(exit: Exit, title: impl Into<String>, detail: impl Into<String>) -> Failure {
        Failure { exit, title: title.into(), detail: detail.into(), hint: None, request_id: None }
    }

    /// The same with a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// What a server answered instead of what was asked, `application/problem+json` or not.
    pub(crate) fn of_answer(status: u16, body: &[u8]) -> Failure {
        let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| problem.get(name).and_then(|value| value.as_str()).map(str::to_owned);
        Failure {
            exit: Exit::of_status(status),
            title: text("title").unwrap_or_else(|| format!("the server answered {status}")),
            detail: text("detail").unwrap_or_default(),
            hint: text("hint"),
            request_id: text("request_id"),
        }
    }

    /// Writes it to stderr, as one line of JSON or for people.
    pub(crate) fn print(&self, as_json: bool) {
        if as_json {
            let line = json!({"error": {
                "title": self.title, "detail": self.detail, "hint": self.hint,
                "request_id": self.request_id, "exit_code": self.exit as u8,
            }});
            eprintln!("{line}");
            return;
        }
        eprintln!("error: {}", self.title);
        if !self.detail.is_empty() {
            eprintln!("  {}", self.detail);
        }
        if let Some(hint) = &self.hint {
            eprintln!("  hint: {hint}");
        }
        if let Some(id) = &self.request_id {
            eprintln!("  request id: {id}");
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::new(Exit::Usage, "the configuration is wrong", error.detail).hint(error.hint)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(Exit::Failure, "input or output failed", error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::new(Exit::Failure, "it did not work", format!("{error:#}"))
    }
}
