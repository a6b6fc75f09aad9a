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
        let mut roles = Roles { gateway: false, dispatch: false, worker: false };
        for name in self.list("node.roles") {
            match name.as_str() {
                "gateway" => roles.gateway = true,
                "dispatch" => roles.dispatch = true,
                "worker" => roles.worker = true,
                _ => return Err(self.wrong("node.roles", "some of gateway, dispatch, worker")),
            }
        }
        if !(roles.gateway || roles.dispatch || roles.worker) {
            return Err(self.wrong("node.roles", "some of gateway, dispatch, worker"));
        }
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
