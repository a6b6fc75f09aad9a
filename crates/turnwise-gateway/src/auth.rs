//! The keys that are let in: in a header, compared by digest in constant time.
//! They can be exchanged while the server runs; what a key that is gone had
//! open is told so.

use crate::config::ApiKey;
use crate::error::Failure;
use crate::held::Waiting;
use crate::rate::Meter;
use crate::scope::{Access, Scope};
use crate::ticket::TicketDigest;
use http::header::{AUTHORIZATION, HeaderName};
use http::{HeaderMap, Uri};
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio_util::sync::CancellationToken;
use turnwise_api::Code;
use turnwise_broker::OrgScope;
use turnwise_metrics::Gauge;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Names under which keys are sent in query strings by mistake.
const KEY_PARAMETERS: [&str; 7] =
    ["api_key", "apikey", "api-key", "x-api-key", "key", "access_token", "authorization"];

/// A key in use.
#[derive(Debug)]
pub(crate) struct Holder {
    key: ApiKey,
    /// Cancelled when the key is taken away or may do something else.
    revoked: CancellationToken,
    /// How often it asks.
    pub(crate) meter: Meter,
    /// Tickets that are out; written under the lock of their table.
    pub(crate) tickets: AtomicUsize,
    /// Its long answers that wait for their readers.
    pub(crate) answers: Waiting,
    /// Its open streams.
    pub(crate) streams: Gauge,
    /// Its WebSocket connections.
    pub(crate) sockets: Gauge,
    /// How often it sends frames.
    pub(crate) frames: Meter,
}

impl Holder {
    fn new(key: ApiKey) -> Arc<Holder> {
        Arc::new(Holder {
            key,
            revoked: CancellationToken::new(),
            meter: Meter::default(),
            tickets: AtomicUsize::new(0),
            answers: Waiting::default(),
            streams: Gauge::default(),
            sockets: Gauge::default(),
            frames: Meter::default(),
        })
    }

    /// It may no longer do what it did.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.is_cancelled()
    }

    /// Whoever comes while no key is configured.
    fn anyone() -> Arc<Holder> {
        let scopes = vec![Scope::Admin];
        Holder::new(ApiKey {
            id: String::new(),
            sha256: [0; 32],
            orgs: Vec::new(),
            agents: Vec::new(),
            scopes,
        })
    }
}

/// Whoever asks, and what it may see.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    holder: Arc<Holder>,
    /// Only this organisation, by a ticket of the holder's.
    ticket: Option<(TicketDigest, Arc<str>)>,
}

impl Caller {
    /// Whether objects of this organisation exist for the caller.
    pub(crate) fn sees(&self, org: &str) -> bool {
        let orgs = &self.holder.key.orgs;
        match &self.ticket {
            Some((_, own)) => **own == *org,
            None => orgs.is_empty() || orgs.iter().any(|own| own == org),
        }
    }

    /// The same for the broker.
    pub(crate) fn scope(&self) -> OrgScope {
        let orgs = &self.holder.key.orgs;
        match &self.ticket {
            Some((_, org)) => OrgScope::These(vec![org.as_ref().to_owned()]),
            None if orgs.is_empty() => OrgScope::All,
            None => OrgScope::These(orgs.clone()),
        }
    }

    /// The same, narrowed to an organisation if one is named. As everywhere, what belongs to others looks like what
    /// does not exist.
    pub(crate) fn scope_in(&self, org: Option<&str>) -> OrgScope {
        match org {
            None => self.scope(),
            Some(org) if self.sees(org) => OrgScope::These(vec![org.to_owned()]),
            Some(_) => OrgScope::These(Vec::new()),
        }
    }

    /// Whether it may be this agent on the bus. The organisation is asked about apart.
    pub(crate) fn may_be(&self, agent: &str) -> bool {
        let agents = &self.holder.key.agents;
        agents.is_empty() || agents.iter().any(|pattern| fits(pattern.as_bytes(), agent.as_bytes()))
    }

    /// Refuses to be an agent that the key is not for; whether it exists makes no difference.
    pub(crate) fn must_be(&self, agent: &str) -> Result<(), Failure> {
        if self.may_be(agent) {
            return Ok(());
        }
        Err(Failure::new(Code::AgentForbidden, "The API key is not for this agent"))
    }

    /// Who stands for it.
    pub(crate) fn holder(&self) -> &Arc<Holder> {
        &self.holder
    }

    /// The ticket it came with.
    pub(crate) fn ticket(&self) -> Option<&TicketDigest> {
        self.ticket.as_ref().map(|(digest, _)| digest)
    }

    fn with_key(holder: &Arc<Holder>) -> Caller {
        Caller { holder: Arc::clone(holder), ticket: None }
    }

    /// Somebody with a ticket that this holder has asked for.
    pub(crate) fn with_ticket(holder: Arc<Holder>, digest: TicketDigest, org: Arc<str>) -> Caller {
        Caller { holder, ticket: Some((digest, org)) }
    }

    /// Refuses what the caller's key is not for.
    pub(crate) fn require(&self, access: Access) -> Result<(), Failure> {
        if access.is_granted_by(&self.holder.key.scopes) {
            return Ok(());
        }
        let needed = access.scope().map_or("", Scope::name);
        Err(Failure::new(Code::ScopeMissing, format!("This API key lacks the scope `{needed}`")))
    }

    /// Cancelled when the caller may no longer do what it does.
    pub(crate) fn revoked(&self) -> CancellationToken {
        self.holder.revoked.clone()
    }

    /// One that may do nothing, to be told so.
    pub(crate) fn nobody() -> Caller {
        let key = ApiKey {
            id: String::new(),
            sha256: [0; 32],
            orgs: vec![String::new()],
            agents: Vec::new(),
            scopes: Vec::new(),
        };
        Caller::with_key(&Holder::new(key))
    }

    /// One that may do everything.
    #[cfg(test)]
    pub(crate) fn anyone() -> Caller {
        Caller::with_key(&Holder::anyone())
    }
}

/// The keys that are let in; a clone is the same ring.
#[derive(Clone)]
pub struct KeyRing(Arc<RwLock<Held>>);

/// What came of an exchange of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchanged {
    /// They are other ones now.
    Changed,
    /// They were the same.
    Same,
    /// Nothing was changed: without keys a closed server would be open to everybody.
    WouldOpen,
}

struct Held {
    holders: Vec<Arc<Holder>>,
    /// Only while there are no keys.
    anyone: Option<Arc<Holder>>,
}

impl KeyRing {
    pub(crate) fn new(keys: Vec<ApiKey>) -> KeyRing {
        let anyone = keys.is_empty().then(Holder::anyone);
        let holders = keys.into_iter().map(Holder::new).collect();
        KeyRing(Arc::new(RwLock::new(Held { holders, anyone })))
    }

    /// Lets these in and no others, from now on. What the others have open
    /// ends; a key that is the same as before is not disturbed.
    pub fn exchange(&self, keys: Vec<ApiKey>) -> Exchanged {
        let mut held = self.0.write();
        match (keys.is_empty(), held.anyone.is_some()) {
            (true, true) => return Exchanged::Same,
            (true, false) => return Exchanged::WouldOpen,
            (false, _) => {}
        }
        let mut before = std::mem::take(&mut held.holders);
        let mut changed = false;
        for key in keys {
            let same = before.iter().position(|holder| holder.key == key);
            let holder = match same {
                Some(index) => before.swap_remove(index),
                None => {
                    changed = true;
                    Holder::new(key)
                }
            };
            held.holders.push(holder);
        }
        for gone in before.into_iter().chain(held.anyone.take()) {
            changed = true;
            gone.revoked.cancel();
        }
        if changed { Exchanged::Changed } else { Exchanged::Same }
    }

    /// No keys: everyone is let in.
    pub(crate) fn is_open(&self) -> bool {
        self.0.read().anyone.is_some()
    }

    /// Who asks, if it shows a key that may do this.
    pub(crate) fn caller(&self, headers: &HeaderMap, access: Access) -> Result<Caller, Failure> {
        let held = self.0.read();
        if let Some(anyone) = &held.anyone {
            return Ok(Caller::with_key(anyone));
        }
        let Some(shown) = shown_key(headers) else {
            return Err(Failure::new(Code::MissingKey, "Missing X-API-Key header"));
        };
        let digest: [u8; 32] = Sha256::digest(shown).into();
        let Some(holder) = select(&held.holders, |holder| digest.ct_eq(&holder.key.sha256)) else {
            return Err(Failure::new(Code::InvalidKey, "Invalid API key"));
        };
        let caller = Caller::with_key(holder);
        caller.require(access).map(|()| caller)
    }
}

/// Whether a text fits a pattern in which `*` stands for any text, also none. Takes at most as many steps as both are
/// long, multiplied.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut left) = (pattern, text);
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (rest.split_first(), left.split_first()) {
            (Some((b'*', behind)), _) => {
                again = Some((behind, left));
                rest = behind;
            }
            (Some((wanted, behind)), Some((found, next))) if wanted == found => (rest, left) = (behind, next),
            (None, None) => return true,
            // The last star takes one more.
            _ => match again.and_then(|(behind, from)| Some((behind, from.split_first()?.1))) {
                Some((behind, from)) => {
                    again = Some((behind, from));
                    (rest, left) = (behind, from);
                }
                None => return false,
            },
        }
    }
}

/// Asks about every item, whatever is equal, so that time tells nothing.
fn select<T>(items: &[T], mut equal: impl FnMut(&T) -> Choice) -> Option<&T> {
    let mut found = u64::MAX;
    for (index, item) in (0_u64..).zip(items) {
        found.conditional_assign(&index, equal(item));
    }
    items.get(usize::try_from(found).ok()?)
}

/// Whether a key was sent at all.
pub(crate) fn shows_key(headers: &HeaderMap) -> bool {
    shown_key(headers).is_some()
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

    fn key(id: &str) -> ApiKey {
        let sha256 = Sha256::digest(format!("secret-{id}")).into();
        ApiKey {
            id: id.to_owned(),
            sha256,
            orgs: vec![id.to_owned()],
            agents: Vec::new(),
            scopes: Vec::new(),
        }
    }

    fn ask(keys: &KeyRing, name: &'static str, value: &'static str) -> Result<Caller, Code> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        keys.caller(&headers, Access::Write).map_err(|failure| failure.code())
    }

    fn check(name: &'static str, value: &'static str, expected: Result<&str, Code>) {
        let keys = KeyRing::new(vec![key("a"), key("b")]);
        match (ask(&keys, name, value), expected) {
            (Ok(caller), Ok(org)) => assert!(caller.sees(org) && !caller.sees("other")),
            (Err(code), Err(expected)) => assert_eq!(code, expected, "{name}: {value}"),
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

    #[test]
    fn every_key_is_compared_whichever_is_shown() {
        let items = [10_u8, 20, 30, 40];
        for shown in [10, 20, 40, 99] {
            let mut compared = 0;
            let found = select(&items, |item| {
                compared += 1;
                item.ct_eq(&shown)
            });
            assert_eq!(compared, items.len(), "{shown}");
            assert_eq!(found, items.iter().find(|item| **item == shown));
        }
    }

    #[test]
    fn an_exchange_ends_what_is_gone_and_leaves_what_stays() {
        let keys = KeyRing::new(vec![key("a"), key("b"), key("c")]);
        let callers = ["secret-a", "secret-b", "secret-c"].map(|it| ask(&keys, "x-api-key", it));
        let [Ok(a), Ok(b), Ok(c)] = callers else { panic!("all three are let in") };
        let narrower = ApiKey { scopes: vec![Scope::ConversationsRead], ..key("c") };
        let next = vec![key("d"), key("b"), narrower];
        assert_eq!(keys.exchange(next.clone()), Exchanged::Changed);
        assert_eq!(keys.exchange(next), Exchanged::Same);
        assert!(a.revoked().is_cancelled() && c.revoked().is_cancelled());
        assert!(!b.revoked().is_cancelled());
        assert_eq!(ask(&keys, "x-api-key", "secret-a").err(), Some(Code::InvalidKey));
        assert_eq!(ask(&keys, "x-api-key", "secret-c").err(), Some(Code::ScopeMissing));
        assert!(ask(&keys, "x-api-key", "secret-d").is_ok());
    }

    #[test]
    fn a_closed_server_is_never_opened_and_an_open_one_can_be_closed() {
        let keys = KeyRing::new(Vec::new());
        let Ok(anyone) = ask(&keys, "x-other", "x") else { panic!("it is open") };
        assert_eq!(keys.exchange(Vec::new()), Exchanged::Same);
        assert!(keys.is_open());
        assert_eq!(keys.exchange(vec![key("a")]), Exchanged::Changed);
        assert!(!keys.is_open() && anyone.revoked().is_cancelled());
        assert_eq!(keys.exchange(Vec::new()), Exchanged::WouldOpen);
        assert!(!keys.is_open());
        assert!(ask(&keys, "x-api-key", "secret-a").is_ok());
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, fitting, others) in [
            ("bot", vec!["bot"], vec!["", "bo", "bots"]),
            ("bot-*", vec!["bot-", "bot-1", "bot-*"], vec!["bot", "a-bot-1"]),
            ("*:eu", vec![":eu", "a:eu:eu"], vec!["a:eu:us"]),
            ("a*b*c", vec!["abc", "a-b-b-c-c"], vec!["ab", "acb"]),
            ("*", vec!["", "x", "é"], vec![]),
        ] {
            for text in fitting {
                assert!(fits(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
            for text in others {
                assert!(!fits(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
        }
    }
}
