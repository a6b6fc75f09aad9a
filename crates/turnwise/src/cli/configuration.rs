//! `turnwise config check|show|init|reference`.

use super::{Context, Outcome, print};
use crate::config::{self, Config};
use crate::failure::{Exit, Failure};
use clap::Subcommand;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read file and environment and say what is wrong
    Check,
    /// Every setting as it is, and who set it; secrets are masked
    Show,
    /// Write a file with every setting, commented out, to begin with
    Init {
        /// Which file; one that is there is left alone
        #[arg(long, value_name = "FILE", default_value = "turnwise.toml")]
        file: PathBuf,
    },
    /// Every setting as it may be
    Reference {
        /// As the text of .env.example
        #[arg(long)]
        env: bool,
    },
}

pub(crate) fn run(context: &Context, command: &ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check => check(context),
        ConfigCommand::Show => show(context),
        ConfigCommand::Init { file } => init(context, file),
        ConfigCommand::Reference { env } => {
            reference(context, *env);
            Ok(())
        }
    }
}

fn load(context: &Context) -> Result<Config, config::ConfigError> {
    Config::load(context.config.as_deref(), &config::environment(), &[])
}

fn check(context: &Context) -> Outcome {
    let config = load(context)?;
    let file = config.file.as_ref().map(|path| path.display().to_string());
    if context.json {
        print::json(&json!({ "ok": true, "file": file }));
    } else {
        print::line(&format!("ok ({})", file.as_deref().unwrap_or("no file, environment and defaults only")));
    }
    Ok(())
}

/// For this user alone: API keys of the agent may be written into it.
fn init(context: &Context, path: &Path) -> Outcome {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            let detail = format!("{} is there already and was left as it is", path.display());
            Failure::new(Exit::Conflict, "the file exists", detail).hint("choose another with --file")
        }
        _ => {
            Failure::new(Exit::Failure, "the file cannot be written", format!("{}: {error}", path.display()))
        }
    })?;
    file.write_all(config::toml_example().as_bytes())?;
    if context.json {
        print::json(&json!({ "file": path.display().to_string() }));
    } else {
        print::line(&format!("wrote {}; `turnwise serve` in this folder reads it", path.display()));
    }
    Ok(())
}

fn show(context: &Context) -> Outcome {
    let config = load(context)?;
    let rows = config::rows(&config);
    if context.json {
        print::json(&json!({ "settings": rows }));
        return Ok(());
    }
    for row in rows {
        let value = if row.value.is_empty() { "-" } else { &row.value };
        print::line(&format!("{:<30} {:<28} {}", row.key, value, row.source));
    }
    Ok(())
}

fn reference(context: &Context, as_env: bool) {
    if context.json {
        print::json(&json!({ "settings": config::reference() }));
        return;
    }
    if as_env {
        print::text(&config::env_example());
        return;
    }
    for row in config::reference() {
        let default = match (row.key, row.default) {
            ("", _) => "environment only".to_owned(),
            (_, "") => "not set".to_owned(),
            (_, default) => format!("default {default}"),
        };
        let name = if row.key.is_empty() { row.env } else { row.key };
        print::line(&format!("{name}  ({}; {default})\n    {}", row.env, row.help));
    }
    print::line(
        "[[auth.keys]]  (TOML only)\n    id, sha256, orgs, agents, scopes: one entry per API key, made by `turnwise keys new`.",
    );
}
