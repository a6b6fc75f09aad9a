//! The configuration for people: what is set and by whom, the reference of all
//! settings, and `.env.example`. Secrets never leave this file unmasked.

use super::Config;
use super::layers::example;
use super::settings::{OTHER_ENV, SETTINGS};
use serde::Serialize;

/// Shown in place of a secret that is set.
const MASK: &str = "********";

/// One setting as it is.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// TOML key.
    pub(crate) key: &'static str,
    /// Environment variable.
    pub(crate) env: &'static str,
    /// Its text; masked if it is a secret.
    pub(crate) value: String,
    /// Who set it.
    pub(crate) source: String,
}

/// Every setting as it is.
pub(crate) fn rows(config: &Config) -> Vec<Row> {
    let mut rows: Vec<Row> = config
        .shown
        .iter()
        .map(|(setting, text, source)| Row {
            key: setting.key,
            env: setting.env,
            value: if setting.secret && !text.is_empty() { MASK.into() } else { without_password(text) },
            source: source.to_string(),
        })
        .collect();
    for key in &config.keys {
        rows.push(Row { key: "auth.keys", env: "", value: key.id.clone(), source: "a key's id".into() });
    }
    rows
}

/// A URL without the user and password it may hold.
pub(super) fn without_password(text: &str) -> String {
    match text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, host))) => format!("{scheme}://{MASK}@{host}"),
        None => text.to_owned(),
    }
}

/// One setting as it may be.
#[derive(Debug, Serialize)]
pub(crate) struct Described {
    /// TOML key; empty for what only the environment sets.
    pub(crate) key: &'static str,
    /// Environment variable.
    pub(crate) env: &'static str,
    /// Used when nobody says otherwise.
    pub(crate) default: &'static str,
    /// Never shown.
    pub(crate) secret: bool,
    /// What it does.
    pub(crate) help: &'static str,
}

/// Every setting as it may be.
pub(crate) fn reference() -> Vec<Described> {
    let settings = SETTINGS.iter().map(|setting| Described {
        key: setting.key,
        env: setting.env,
        default: setting.default,
        secret: setting.secret,
        help: setting.help,
    });
    let others =
        OTHER_ENV.iter().map(|(env, help)| Described { key: "", env, default: "", secret: false, help });
    settings.chain(others).collect()
}

/// The text `turnwise config init` writes: every setting with its default, commented out.
pub(crate) fn toml_example() -> String {
    let mut text = String::from(
        "# Settings of Turnwise. Each line shows a default; take the # away to change it.\n\
         # A flag wins over the environment, the environment over this file.\n\
         # `turnwise config check` reads it, `turnwise config show` says who set what.\n",
    );
    for setting in SETTINGS {
        text.push_str(&format!("\n# {}\n", setting.help));
        let unset = if setting.default.is_empty() { " (not set)" } else { "" };
        text.push_str(&format!("# Environment: {}{unset}\n#{}\n", setting.env, example(setting)));
    }
    text.push_str(
        "\n# One entry for each API key, made by `turnwise keys new`.\n\
         #[[auth.keys]]\n#id = \"\"\n#sha256 = \"\"\n#orgs = []\n#agents = []\n#scopes = []\n",
    );
    text
}

/// The text of `.env.example`.
pub(crate) fn env_example() -> String {
    let mut text = String::from(
        "# Every setting of Turnwise with its default. Printed by `turnwise config reference --env`.\n\
         # Use it with: set -a; . ./.env; set +a; turnwise serve\n\
         # The same settings in TOML: `turnwise config reference`. A flag wins over the environment,\n\
         # the environment over the file.\n",
    );
    for described in reference() {
        text.push_str(&format!("\n# {}\n", described.help));
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == described.key) {
            text.push_str(&format!("# TOML: {}\n", example(setting)));
        }
        text.push_str(&format!("#{}={}\n", described.env, described.default));
    }
    text
}
