//! `turnwise keys new`: makes an API key. The key is printed once; only its
//! hash goes into the configuration.

use super::{Context, Outcome, print};
use crate::config::{keys, to_hex};
use crate::failure::{Exit, Failure};
use clap::Subcommand;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Random bytes of a key: 256 bits.
const KEY_BYTES: usize = 32;
/// Makes a leaked key easy to find in a text.
const KEY_PREFIX: &str = "turnwise_sk_";
/// Random bytes of an id that nobody chose.
const ID_BYTES: usize = 4;

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key: prints it once, and the lines for the TOML file
    New {
        /// Its name in logs
        #[arg(long)]
        id: Option<String>,
        /// An organisation it is good for; repeat for more [default: all]
        #[arg(long = "org", value_name = "ORG")]
        orgs: Vec<String>,
        /// An agent on the bus that it may be, such as bot-*; repeat for more [default: all]
        #[arg(long = "agent", value_name = "AGENT")]
        agents: Vec<String>,
        /// What it may do: conversations, conversations:read, callbacks, topics, topics:read, queues, queues:read,
        /// bus, bus:read, metrics or admin; repeat for more [default: conversations]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
    },
}

pub(crate) fn run(context: &Context, command: KeysCommand) -> Outcome {
    let KeysCommand::New { id, orgs, agents, scopes } = command;
    for name in &scopes {
        keys::scope(name)?;
    }
    let id = match id {
        Some(id) => id,
        None => format!("key-{}", to_hex(&random::<ID_BYTES>()?)),
    };
    let key = format!("{KEY_PREFIX}{}", to_hex(&random::<KEY_BYTES>()?));
    let sha256 = to_hex(&Sha256::digest(key.as_bytes()));
    let lines = format!(
        "[[auth.keys]]\nid = {}\nsha256 = \"{sha256}\"\norgs = {}\nagents = {}\nscopes = {}",
        toml::Value::String(id.clone()),
        toml_list(&orgs),
        toml_list(&agents),
        toml_list(&scopes),
    );
    if context.json {
        print::json(&json!({
            "key": key, "id": id, "sha256": sha256, "orgs": orgs, "agents": agents, "scopes": scopes, "toml": lines,
        }));
    } else {
        eprintln!("The key, shown this once:");
        print::line(&key);
        eprintln!("\nFor turnwise.toml (an empty list of orgs or agents means all):");
        print::line(&lines);
    }
    Ok(())
}

fn toml_list(items: &[String]) -> toml::Value {
    toml::Value::Array(items.iter().cloned().map(toml::Value::String).collect())
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Exit::Failure, "no random numbers", format!("the system gave none: {error}"))
    })?;
    Ok(bytes)
}
