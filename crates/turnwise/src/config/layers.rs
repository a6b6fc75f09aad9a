//! Where a value comes from: flag, then environment, then TOML file, then
//! default. Knows the table of settings, not what the values mean.

use super::settings::{self, Form, KEY_FIELDS, KEYS_TABLE, OTHER_ENV, SETTINGS};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Read when no other file is named.
pub(crate) const FILE_DEFAULT: &str = "turnwise.toml";
/// Every variable with this beginning must be known.
const ENV_PREFIX: &str = "TURNWISE_";

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    Flag,
    /// An environment variable.
    Env(&'static str),
    /// The TOML file.
    File(PathBuf),
    /// Nobody.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("flag"),
            Source::Env(name) => write!(f, "environment {name}"),
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

/// A wrong configuration: what, where, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// What is wrong.
    pub(crate) detail: String,
    /// How to fix it.
    pub(crate) hint: String,
}

/// One entry of `[[auth.keys]]` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyEntry {
    /// Its name in logs and answers.
    pub(crate) id: String,
    /// Hex digits.
    pub(crate) sha256: String,
    /// Empty: all.
    pub(crate) orgs: Vec<String>,
    /// Empty: all.
    pub(crate) agents: Vec<String>,
    /// What else it may do.
    pub(crate) scopes: Vec<String>,
}

/// What is set, and by whom.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    values: BTreeMap<&'static str, (String, Source)>,
    /// The entries of `[[auth.keys]]`.
    pub(crate) keys: Vec<KeyEntry>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
}

impl Layers {
    /// Puts the layers over each other. `flags` are pairs of TOML key and text;
    /// an empty environment variable counts as unset.
    pub(crate) fn load(
        file: Option<&Path>,
        env: &BTreeMap<String, String>,
        flags: &[(&'static str, String)],
    ) -> Result<Layers, ConfigError> {
        let mut layers = Layers::default();
        let named = file
            .map(Path::to_path_buf)
            .or_else(|| env.get("TURNWISE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from));
        let path = match named {
            Some(path) => Some(path),
            None => Some(PathBuf::from(FILE_DEFAULT)).filter(|path| path.exists()),
        };
        if let Some(path) = path {
            layers.read_file(&path)?;
            layers.file = Some(path);
        }
        layers.read_env(env)?;
        for (key, text) in flags {
            layers.values.insert(key, (text.clone(), Source::Flag));
        }
        Ok(layers)
    }

    /// The layers with these bytes for the file's, and without flags.
    pub(crate) fn with_file(
        path: &Path,
        bytes: &[u8],
        env: &BTreeMap<String, String>,
    ) -> Result<Layers, ConfigError> {
        let mut layers = Layers { file: Some(path.to_path_buf()), ..Layers::default() };
        layers.read_text(path, std::str::from_utf8(bytes).map_err(|error| unreadable(path, &error))?)?;
        layers.read_env(env)?;
        Ok(layers)
    }

    /// The text of a setting and who set it.
    pub(crate) fn get(&self, key: &'static str) -> (String, Source) {
        self.values.get(key).cloned().unwrap_or_else(|| {
            let default = settings::by_key(key).map_or("", |setting| setting.default);
            (default.to_owned(), Source::Default)
        })
    }

    fn read_env(&mut self, env: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        for (name, text) in env {
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.env == name) {
                if !text.is_empty() {
                    self.values.insert(setting.key, (text.clone(), Source::Env(setting.env)));
                }
            } else if name.starts_with(ENV_PREFIX) && !OTHER_ENV.iter().any(|(known, _)| known == name) {
                let known = SETTINGS.iter().map(|setting| setting.env);
                let known = known.chain(OTHER_ENV.iter().map(|(name, _)| *name));
                return Err(unknown("environment variable", name, known, "the environment"));
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        self.read_text(path, &text)
    }

    fn read_text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError {
            detail: format!(
                "{} is not TOML: {}{}",
                path.display(),
                error.message(),
                place(text, error.span())
            ),
            hint: "`turnwise config reference` shows the form".into(),
        })?;
        self.read_table(path, "", &table)
    }

    fn read_table(&mut self, path: &Path, prefix: &str, table: &toml::Table) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if key == KEYS_TABLE {
                self.keys = key_entries(path, value)?;
            } else if let Some(setting) = settings::by_key(&key) {
                let text = text_of(setting.form, value).ok_or_else(|| ConfigError {
                    detail: format!("{key} in {} must be {}", path.display(), form_words(setting.form)),
                    hint: format!("for example: {}", example(setting)),
                })?;
                self.values.insert(setting.key, (text, Source::File(path.to_path_buf())));
            } else if let toml::Value::Table(inner) = value {
                self.read_table(path, &key, inner)?;
            } else {
                let known = SETTINGS.iter().map(|setting| setting.key).chain([KEYS_TABLE]);
                return Err(unknown("key", &key, known, &path.display().to_string()));
            }
        }
        Ok(())
    }
}

/// The file cannot be read, and why.
pub(super) fn unreadable(path: &Path, why: &dyn fmt::Display) -> ConfigError {
    ConfigError {
        detail: format!("the configuration file {} cannot be read: {why}", path.display()),
        hint: "name another with --config or TURNWISE_CONFIG".into(),
    }
}

/// Line and column of a place. The line itself is not quoted: it may hold a secret.
fn place(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else { return String::new() };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(" (line {line}, column {column})")
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>, place: &str) -> ConfigError {
    let hint = match settings::nearest(name, known) {
        Some(near) => format!("did you mean {near}?"),
        None => "`turnwise config reference` lists all".into(),
    };
    ConfigError { detail: format!("unknown {what} {name} in {place}"), hint }
}

fn form_words(form: Form) -> &'static str {
    match form {
        Form::Text => "a text",
        Form::Number => "a whole number",
        Form::Seconds => "a number of seconds",
        Form::Switch => "true or false",
        Form::List => "a list of texts",
    }
}

fn text_of(form: Form, value: &toml::Value) -> Option<String> {
    match (form, value) {
        (Form::Text, toml::Value::String(text)) => Some(text.clone()),
        (Form::Number | Form::Seconds, toml::Value::Integer(number)) => Some(number.to_string()),
        (Form::Seconds, toml::Value::Float(number)) => Some(number.to_string()),
        (Form::Switch, toml::Value::Boolean(on)) => Some(on.to_string()),
        (Form::List, toml::Value::Array(items)) => texts(items).map(|items| items.join(",")),
        _ => None,
    }
}

fn texts(items: &[toml::Value]) -> Option<Vec<String>> {
    items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The setting as a line of the TOML file, dotted key included.
pub(crate) fn example(setting: &settings::Setting) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let value = match setting.form {
        Form::Text => quoted(setting.default),
        Form::Number | Form::Seconds | Form::Switch => setting.default.to_owned(),
        Form::List => {
            let items: Vec<String> =
                setting.default.split(',').filter(|item| !item.is_empty()).map(quoted).collect();
            format!("[{}]", items.join(", "))
        }
    };
    format!("{} = {value}", setting.key)
}

fn key_entries(path: &Path, value: &toml::Value) -> Result<Vec<KeyEntry>, ConfigError> {
    let wrong = |detail: &str| ConfigError {
        detail: format!("{KEYS_TABLE} in {}: {detail}", path.display()),
        hint: "`turnwise keys new` prints an entry to paste".into(),
    };
    let entries = value.as_array().ok_or_else(|| wrong("must be written as [[auth.keys]]"))?;
    let mut keys = Vec::new();
    for entry in entries {
        let table = entry.as_table().ok_or_else(|| wrong("must be written as [[auth.keys]]"))?;
        let mut key = KeyEntry::default();
        for (name, value) in table {
            let list = || {
                value
                    .as_array()
                    .and_then(|items| texts(items))
                    .ok_or_else(|| wrong("orgs, agents and scopes are lists of texts"))
            };
            let text = || value.as_str().map(str::to_owned).ok_or_else(|| wrong("id and sha256 are texts"));
            match name.as_str() {
                "id" => key.id = text()?,
                "sha256" => key.sha256 = text()?,
                "orgs" => key.orgs = list()?,
                "agents" => key.agents = list()?,
                "scopes" => key.scopes = list()?,
                _ => {
                    let place = format!("[[{KEYS_TABLE}]] of {}", path.display());
                    return Err(unknown("key", name, KEY_FIELDS.iter().copied(), &place));
                }
            }
        }
        if key.id.is_empty() || key.sha256.is_empty() {
            return Err(wrong("every entry needs id and sha256"));
        }
        if keys.iter().any(|other: &KeyEntry| other.id == key.id) {
            return Err(wrong(&format!("the id {} is there twice", key.id)));
        }
        keys.push(key);
    }
    Ok(keys)
}
