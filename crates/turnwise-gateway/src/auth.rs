//! Who is asking: keys in a header, compared by digest in constant time,
//! before anything of the body is read.

use crate::config::ApiKey;
use crate::error::Failure;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, Uri};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use turnwise_api::Code;
use turnwise_broker::OrgScope;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Names under which keys are sent in query strings by mistake.
const KEY_PARAMETERS: [&str; 7] =
    ["api_key", "apikey", "api-key", "x-api-key", "key", "access_token", "authorization"];
/// The scope of the conversation routes.
const CONVERSATIONS: &str = "conversations";

/// The keys that are let in.
pub(crate) struct Keys(Vec<ApiKey>);

/// Whoever asks, and what it may see.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// Empty means all.
    orgs: &'a [String],
}

impl Caller<'_> {
    /// Whether objects of this organisation exist for the caller.
    pub(crate) fn sees(&self, org: &str) -> bool {
        self.orgs.is_empty() || self.orgs.iter().any(|own| own == org)
    }

    /// The same for the broker.
    pub(crate) fn scope(&self) -> OrgScope {
        if self.orgs.is_empty() { OrgScope::All } else { OrgScope::These(self.orgs.to_vec()) }
    }
}

impl Keys {
    pub(crate) fn new(keys: Vec<ApiKey>) -> Keys {
        Keys(keys)
    }

    /// No keys: everyone is let in.
    pub(crate) fn are_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Who asks on a conversation route.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller<'_>, Failure> {
        if self.are_open() {
            return Ok(Caller { orgs: &[] });
        }
        let Some(shown) = shown_key(headers) else {
            return Err(Failure::new(Code::MissingKey, "Missing X-API-Key header"));
        };
        let Some(key) = self.find(shown) else {
            return Err(Failure::new(Code::InvalidKey, "Invalid API key"));
        };
        if !key.scopes.is_empty() && !key.scopes.iter().any(|scope| scope == CONVERSATIONS) {
            return Err(Failure::new(Code::ScopeMissing, "This key lacks the scope `conversations`"));
        }
        Ok(Caller { orgs: &key.orgs })
    }

    /// Compares with every key, whatever matches, so that time tells nothing.
    fn find(&self, shown: &[u8]) -> Option<&ApiKey> {
        let digest: [u8; 32] = Sha256::digest(shown).into();
        let mut found = u64::MAX;
        for (index, key) in (0_u64..).zip(&self.0) {
            let equal: Choice = digest.ct_eq(&key.sha256);
            found.conditional_assign(&index, equal);
        }
        self.0.get(usize::try_from(found).ok()?)
    }
}

/// The key in `X-API-Key`, or else in `Authorization: Bearer`; an empty one is none.
fn shown_key(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get(X_API_KEY) {
        return Some(key.as_bytes().trim_ascii()).filter(|key| !key.is_empty());
    }
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("bearer ".len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !key.is_empty()).then_some(key)
}

/// Refuses keys in the query string: they would end up in logs and histories.
pub(crate) fn refuse_key_in_query(uri: &Uri) -> Result<(), Failure> {
    let Some(query) = uri.query() else { return Ok(()) };
    for pair in query.split('&') {
        let name = pair.split('=').next().unwrap_or_default();
        if KEY_PARAMETERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
            return Err(Failure::new(Code::KeyInQuery, "Keys are not accepted in the query string"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn keys() -> Keys {
        let key = |id: &str, secret: &str| ApiKey {
            id: id.to_owned(),
            sha256: Sha256::digest(secret).into(),
            orgs: vec![id.to_owned()],
            scopes: Vec::new(),
        };
        Keys::new(vec![key("a", "secret-a"), key("b", "secret-b")])
    }

    fn check(name: &'static str, value: &'static str, expected: Result<&str, Code>) {
        let keys = keys();
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        let got = keys.caller(&headers);
        match (got, expected) {
            (Ok(caller), Ok(org)) => assert!(caller.sees(org) && !caller.sees("other")),
            (Err(failure), Err(code)) => assert_eq!(failure.code(), code, "{name}: {value}"),
            (got, expected) => panic!("{name}: {value}: {} for {expected:?}", got.is_ok()),
        }
    }

    #[test]
    fn keys_in_headers() {
        check("x-api-key", "secret-a", Ok("a"));
        check("x-api-key", "secret-b", Ok("b"));
        check("authorization", "Bearer secret-b", Ok("b"));
        check("authorization", "bearer  secret-a", Ok("a"));
        check("x-api-key", "secret-c", Err(Code::InvalidKey));
        check("x-api-key", "", Err(Code::MissingKey));
        check("authorization", "Bearer ", Err(Code::MissingKey));
        check("authorization", "Basic secret-a", Err(Code::MissingKey));
        check("authorization", "", Err(Code::MissingKey));
        check("x-other", "secret-a", Err(Code::MissingKey));
    }
}
