//! Which parts of the program run in this process.

use super::layers::ConfigError;
use super::{Reader, StoreKind};

/// What a process does. All of it, unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roles {
    /// Answers clients. Without it only monitors are answered.
    pub(crate) gateway: bool,
    /// Calls the agent and posts callbacks.
    pub(crate) dispatch: bool,
    /// Keeps house.
    pub(crate) worker: bool,
}

impl Roles {
    /// Whether nothing is left to other processes.
    pub(crate) fn are_all(self) -> bool {
        self.gateway && self.dispatch && self.worker
    }
}

impl Reader<'_> {
    pub(super) fn roles(&self, store: &StoreKind) -> Result<Roles, ConfigError> {
        let names = self.list("node.roles");
        let has = |role: &str| names.iter().any(|name| name == role);
        let known = |name: &String| matches!(name.as_str(), "gateway" | "dispatch" | "worker");
        if names.is_empty() || !names.iter().all(known) {
            return Err(self.wrong("node.roles", "some of gateway, dispatch, worker"));
        }
        let roles = Roles { gateway: has("gateway"), dispatch: has("dispatch"), worker: has("worker") };
        if roles.are_all() || store.is_shared() {
            return Ok(roles);
        }
        let all =
            self.wrong("node.roles", "all of gateway, dispatch, worker: one process alone has this store");
        Err(ConfigError {
            hint: "set TURNWISE_STORE to a Redis or PostgreSQL that the nodes share, or leave TURNWISE_ROLES out".into(),
            ..all
        })
    }
}
