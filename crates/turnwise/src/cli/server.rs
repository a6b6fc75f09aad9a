//! Which server a command talks to.

use crate::client::Server;
use crate::failure::Failure;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server
    #[arg(long, env = "TURNWISE_URL", default_value = "http://127.0.0.1:8000")]
    url: String,
    /// The API key
    #[arg(long, env = "TURNWISE_API_KEY", hide_env_values = true)]
    key: Option<String>,
}

impl ServerArgs {
    /// Checks the URL; an empty key is none.
    pub(crate) fn server(&self) -> Result<Server, Failure> {
        Server::new(&self.url, self.key.clone().filter(|key| !key.is_empty()))
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
