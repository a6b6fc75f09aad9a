//! The API keys of the configuration, with the rules they must keep. They are
//! read at the start, and again whenever they may have changed.

use super::layers::{ConfigError, KeyEntry, Layers, unreadable};
use super::limits::{KEYS_MAX, OPEN_KEY_BYTES_MIN};
use super::settings::nearest;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use turnwise_gateway::Scope;

/// The id under which `BROKER_API_KEY` appears.
const BROKER_KEY_ID: &str = "broker_api_key";
/// Where its text is set.
const BROKER_KEY: &str = "auth.broker_api_key";

/// An API key as the gateway checks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Its name.
    pub(crate) id: String,
    /// Of the key's text.
    pub(crate) sha256: [u8; 32],
    /// Empty: all.
    pub(crate) orgs: Vec<String>,
    /// Agents on the bus that it may be; empty: all.
    pub(crate) agents: Vec<String>,
    /// What it is for; empty: the conversations.
    pub(crate) scopes: Vec<Scope>,
    /// Its text is known and so short that it can be guessed.
    pub(crate) weak: bool,
}

/// The keys as the environment and a file have them that holds these bytes, or cannot be read for this reason.
/// Other settings are not looked at.
///
/// # Errors
/// Names what is wrong and the sentence that fixes it.
pub(crate) fn read_again(
    file: &Path,
    read: Result<&[u8], &str>,
    env: &BTreeMap<String, String>,
) -> Result<Vec<Key>, ConfigError> {
    let bytes = read.map_err(|why| unreadable(file, &why))?;
    from_layers(&Layers::with_file(file, bytes, env)?)
}

/// Refuses keys that can be guessed where others reach the port.
///
/// # Errors
/// Names the setting and the sentence that fixes it.
pub(crate) fn check_for_others(keys: &[Key]) -> Result<(), ConfigError> {
    if !keys.iter().any(|key| key.weak) {
        return Ok(());
    }
    Err(ConfigError {
        detail: format!(
            "BROKER_API_KEY has fewer than {OPEN_KEY_BYTES_MIN} bytes and can be guessed, \
             and the port can be reached from other machines"
        ),
        hint: "take the key that `turnwise keys new` prints, or listen on 127.0.0.1".into(),
    })
}

pub(super) fn from_layers(layers: &Layers) -> Result<Vec<Key>, ConfigError> {
    let mut keys: Vec<Key> = Vec::new();
    let (text, _) = layers.get(BROKER_KEY);
    let text = text.trim();
    if !text.is_empty() {
        keys.push(Key {
            id: BROKER_KEY_ID.into(),
            sha256: Sha256::digest(text.as_bytes()).into(),
            orgs: Vec::new(),
            agents: Vec::new(),
            scopes: vec![Scope::Admin],
            weak: text.len() < OPEN_KEY_BYTES_MIN,
        });
    }
    for entry in &layers.keys {
        let key = from_entry(entry)?;
        if let Some(same) = keys.iter().find(|other| other.sha256 == key.sha256) {
            return Err(ConfigError {
                detail: format!("the keys {} and {} are the same key", same.id, key.id),
                hint: "remove one of the entries, or make another key with `turnwise keys new`".into(),
            });
        }
        keys.push(key);
    }
    if keys.len() > KEYS_MAX {
        return Err(ConfigError {
            detail: format!("{} API keys are configured, and at most {KEYS_MAX} are read", keys.len()),
            hint: "give one key several orgs".into(),
        });
    }
    Ok(keys)
}

fn from_entry(entry: &KeyEntry) -> Result<Key, ConfigError> {
    let sha256 = from_hex(&entry.sha256).ok_or_else(|| ConfigError {
        detail: format!("the sha256 of the key {} must be 64 hex digits", entry.id),
        hint: "`turnwise keys new` prints an entry to paste".into(),
    })?;
    if entry.orgs.iter().any(String::is_empty) {
        return Err(ConfigError {
            detail: format!("the key {} lists an org without a name", entry.id),
            hint: "name the org, or leave orgs out for all of them".into(),
        });
    }
    if entry.agents.iter().any(String::is_empty) {
        return Err(ConfigError {
            detail: format!("the key {} lists an agent without a name", entry.id),
            hint: "name the agent or a pattern such as bot-*, or leave agents out for all of them".into(),
        });
    }
    let scopes = entry.scopes.iter().map(|name| scope(name)).collect::<Result<_, _>>()?;
    let (orgs, agents) = (entry.orgs.clone(), entry.agents.clone());
    Ok(Key { id: entry.id.clone(), sha256, orgs, agents, scopes, weak: false })
}

/// The scope with this name; an unknown one is an error that names the nearest.
pub(crate) fn scope(name: &str) -> Result<Scope, ConfigError> {
    Scope::from_name(name).ok_or_else(|| {
        let names = || Scope::ALL.iter().map(|scope| scope.name());
        let all = names().collect::<Vec<_>>().join(", ");
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean {near}? There are {all}"),
            None => format!("there are {all}"),
        };
        ConfigError { detail: format!("unknown scope {name}"), hint }
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | (*digit as u8)))
        .collect();
    <[u8; 32]>::try_from(bytes).ok().filter(|_| digits.len() == 64)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where it is wrong")]
    use super::*;

    const SHA: &str = "abababababababababababababababababababababababababababababababab";

    /// The keys of one `[[auth.keys]]` entry with these lines, beside this `BROKER_API_KEY`.
    fn read(lines: &str, broker_key: &str) -> Result<Vec<Key>, ConfigError> {
        let text = format!("[[auth.keys]]\nid = 'a'\n{lines}\n");
        let env = BTreeMap::from([("BROKER_API_KEY".to_owned(), broker_key.to_owned())]);
        read_again(Path::new("t.toml"), Ok(text.as_bytes()), &env)
    }

    #[test]
    fn keys_come_from_both_places() {
        let keys = read(&format!("sha256 = '{SHA}'\norgs = ['o']\nscopes = ['metrics']"), " k\n").unwrap();
        let [broker, own] = keys.as_slice() else { panic!("two keys: {keys:?}") };
        assert_eq!(broker.sha256, <[u8; 32]>::from(Sha256::digest(b"k")));
        assert_eq!((broker.scopes.as_slice(), broker.weak), (&[Scope::Admin][..], true));
        assert_eq!((own.sha256, own.scopes.as_slice()), ([0xab; 32], &[Scope::Metrics][..]));
        assert_eq!((own.orgs.as_slice(), own.weak), (&["o".to_owned()][..], false));
    }

    #[test]
    fn a_short_key_is_not_for_a_port_that_others_reach() {
        let own = format!("sha256 = '{SHA}'");
        assert!(check_for_others(&read(&own, "fifteen-letters").unwrap()).is_err());
        assert!(check_for_others(&read(&own, "sixteen-letters!").unwrap()).is_ok());
        assert!(check_for_others(&read(&own, "").unwrap()).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said() {
        let check = |lines: &str, broker_key: &str, says: &str| {
            let error = read(lines, broker_key).unwrap_err();
            assert!(format!("{} {}", error.detail, error.hint).contains(says), "{lines}: {error:?}");
        };
        check("sha256 = 'zz'", "", "64 hex digits");
        check(
            &format!("sha256 = '{SHA}'\nscopes = ['conversation:read']"),
            "",
            "did you mean conversations:read?",
        );
        check(&format!("sha256 = '{SHA}'\nscopes = ['everything else']"), "", "there are conversations,");
        check(&format!("sha256 = '{SHA}'\norgs = ['']"), "", "without a name");
        check(&format!("sha256 = '{SHA}'\nagents = ['']"), "", "without a name");
        let same = Sha256::digest(b"k").iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        check(&format!("sha256 = '{same}'"), "k", "are the same key");
    }
}
