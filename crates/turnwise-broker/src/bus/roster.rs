//! Which agents an organisation has: where they are connected, which
//! workspaces and topics they belong to, and since when they are gone. A fold
//! over the events of one topic. Every node folds the same, whatever the order
//! in which some of them come: what is newer wins, and who has left never comes
//! back under the same name. Knows no store.

use crate::limits::{AGENT_TOPICS_MAX, AGENT_WORKSPACES_MAX};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use turnwise_core::{Event, Name, TopicName, TopicPattern};

/// Kinds of events. On disk: never reused.
pub(super) const UP: &str = "bus.up";
pub(super) const DOWN: &str = "bus.down";
pub(super) const KNOWN: &str = "bus.known";
pub(super) const TOPICS: &str = "bus.topics";
pub(super) const STATE: &str = "bus.state";

/// A connection has come.
#[derive(Serialize, Deserialize)]
pub(super) struct UpRecord {
    pub(super) agent: String,
    pub(super) link: String,
    pub(super) place: Place,
}

/// Where a connection is.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: String,
    /// Since when.
    pub(super) at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) workspace: Option<String>,
    /// It gets what other connections of its agent get.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) all: bool,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) topics: BTreeSet<String>,
}

/// A connection has gone.
#[derive(Serialize, Deserialize)]
pub(super) struct DownRecord {
    pub(super) agent: String,
    pub(super) link: String,
    pub(super) at: i64,
}

/// An agent that was never here has an inbox.
#[derive(Serialize, Deserialize)]
pub(super) struct KnownRecord {
    pub(super) agent: String,
    pub(super) at: i64,
}

/// What a connection subscribes to.
#[derive(Serialize, Deserialize)]
pub(super) struct TopicsRecord {
    pub(super) agent: String,
    pub(super) link: String,
    pub(super) add: Vec<String>,
    pub(super) remove: Vec<String>,
    pub(super) at: i64,
}

/// All of one agent, so that what came before can go.
#[derive(Serialize, Deserialize)]
pub(super) struct StateRecord {
    pub(super) agent: String,
    pub(super) state: Agent,
}

/// One agent.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Agent {
    /// Its connections.
    #[serde(default)]
    pub(super) links: BTreeMap<String, Place>,
    /// Its workspaces, and when it was last seen there.
    #[serde(default)]
    pub(super) workspaces: BTreeMap<String, i64>,
    /// What it subscribed to or no longer does, and when.
    #[serde(default)]
    pub(super) topics: BTreeMap<String, (i64, bool)>,
    /// When its last connection was last there.
    #[serde(default)]
    pub(super) seen_at: Option<i64>,
    /// When anything was last heard of it.
    #[serde(default)]
    pub(super) known_at: i64,
}

impl Agent {
    fn merge(&mut self, other: Agent, gone: &HashMap<String, i64>) {
        for (link, place) in other.links {
            if !gone.contains_key(&link) {
                self.links.entry(link).or_insert(place);
            }
        }
        for (workspace, at) in other.workspaces {
            self.is_member(workspace, at);
        }
        for (topic, (at, on)) in other.topics {
            self.subscribes(topic, at, on);
        }
        self.seen_at = self.seen_at.max(other.seen_at);
        self.known_at = self.known_at.max(other.known_at);
    }

    fn is_member(&mut self, workspace: String, at: i64) {
        let seen = self.workspaces.entry(workspace).or_insert(at);
        *seen = at.max(*seen);
        forget_oldest(&mut self.workspaces, AGENT_WORKSPACES_MAX, |at| *at);
    }

    fn subscribes(&mut self, topic: String, at: i64, on: bool) {
        let now = self.topics.entry(topic).or_insert((at, on));
        if at >= now.0 {
            *now = (at, on);
        }
        forget_oldest(&mut self.topics, AGENT_TOPICS_MAX * 2, |(at, on)| (*on, *at));
    }
}

fn forget_oldest<V, K: Ord>(map: &mut BTreeMap<String, V>, most: usize, age: impl Fn(&V) -> K) {
    while map.len() > most {
        let Some(oldest) = map.iter().min_by_key(|(_, value)| age(value)).map(|(name, _)| name.clone())
        else {
            return;
        };
        map.remove(&oldest);
    }
}

/// The nodes whose connections an event brings.
pub(super) fn nodes_in(event: &Event) -> Vec<String> {
    match event.event_type.as_str() {
        UP => {
            let up: Option<UpRecord> = serde_json::from_slice(&event.data).ok();
            up.map(|up| up.place.node).into_iter().collect()
        }
        STATE => {
            let all: Option<StateRecord> = serde_json::from_slice(&event.data).ok();
            all.into_iter().flat_map(|all| all.state.links.into_values()).map(|place| place.node).collect()
        }
        _ => Vec::new(),
    }
}

/// The agents of one organisation.
#[derive(Debug, Default)]
pub(super) struct Roster {
    agents: BTreeMap<String, Agent>,
    /// Connections that have left, and when: what was written before that and is read after it is void.
    gone: HashMap<String, i64>,
}

impl Roster {
    /// Takes in one event; the agent that it is about. What a newer version has written is passed over.
    pub(super) fn fold(&mut self, event: &Event) -> Option<String> {
        let data = &event.data;
        match event.event_type.as_str() {
            UP => {
                let UpRecord { agent, link, place } = serde_json::from_slice(data).ok()?;
                let state = self.agents.entry(agent.clone()).or_default();
                state.known_at = state.known_at.max(place.at);
                if let Some(workspace) = &place.workspace {
                    state.is_member(workspace.clone(), place.at);
                }
                if !self.gone.contains_key(&link) {
                    state.links.insert(link, place);
                }
                Some(agent)
            }
            DOWN => {
                let DownRecord { agent, link, at } = serde_json::from_slice(data).ok()?;
                let state = self.agents.entry(agent.clone()).or_default();
                state.seen_at = state.seen_at.max(Some(at));
                state.known_at = state.known_at.max(at);
                if let Some(Place { workspace: Some(workspace), .. }) = state.links.remove(&link) {
                    state.is_member(workspace, at);
                }
                self.gone.insert(link, at);
                Some(agent)
            }
            KNOWN => {
                let KnownRecord { agent, at } = serde_json::from_slice(data).ok()?;
                let state = self.agents.entry(agent.clone()).or_default();
                state.known_at = state.known_at.max(at);
                Some(agent)
            }
            TOPICS => {
                let TopicsRecord { agent, link, add, remove, at } = serde_json::from_slice(data).ok()?;
                let state = self.agents.entry(agent.clone()).or_default();
                if let Some(place) = state.links.get_mut(&link) {
                    place.topics.retain(|topic| !remove.contains(topic));
                    place.topics.extend(add.iter().cloned());
                }
                for topic in add {
                    state.subscribes(topic, at, true);
                }
                for topic in remove {
                    // Another connection may still want it.
                    let is_wanted = state.links.values().any(|place| place.topics.contains(&topic));
                    state.subscribes(topic, at, is_wanted);
                }
                Some(agent)
            }
            STATE => {
                let StateRecord { agent, state } = serde_json::from_slice(data).ok()?;
                self.agents.entry(agent.clone()).or_default().merge(state, &self.gone);
                Some(agent)
            }
            _ => None,
        }
    }

    pub(super) fn agent(&self, agent: &str) -> Option<&Agent> {
        self.agents.get(agent)
    }

    pub(super) fn agents(&self) -> &BTreeMap<String, Agent> {
        &self.agents
    }

    /// How many there are without those.
    pub(super) fn known(&self, since: i64) -> usize {
        let keeps = |agent: &&Agent| !agent.links.is_empty() || agent.known_at >= since;
        self.agents.values().filter(keeps).count()
    }

    /// Everything again, without who was last heard of before this time.
    pub(super) fn states(&self, since: i64) -> Vec<StateRecord> {
        let keeps = |agent: &&Agent| !agent.links.is_empty() || agent.known_at >= since;
        let kept = self.agents.iter().filter(|(_, agent)| keeps(agent));
        kept.map(|(agent, state)| StateRecord { agent: agent.clone(), state: state.clone() }).collect()
    }

    /// Forgets who left before this time, and agents not heard of since.
    pub(super) fn forget_before(&mut self, links: i64, agents: i64) {
        self.gone.retain(|_, at| *at >= links);
        self.agents.retain(|_, agent| !agent.links.is_empty() || agent.known_at >= agents);
    }
}

/// Whether one of these patterns means this topic.
pub(super) fn matches<'p>(patterns: impl IntoIterator<Item = &'p String>, topic: &TopicName) -> bool {
    patterns.into_iter().any(|pattern| match Name::new(topic.org(), topic.kind(), pattern) {
        Ok(pattern) => TopicPattern(pattern).matches(topic),
        Err(_) => false,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;
    use bytes::Bytes;
    use turnwise_core::{Offset, Timestamp};

    fn event<T: Serialize>(event_type: &str, record: &T) -> Event {
        Event {
            offset: Offset(1),
            event_type: event_type.to_owned(),
            data: Bytes::from(serde_json::to_vec(record).unwrap()),
            appended_at: Timestamp(1),
        }
    }

    fn up(agent: &str, link: &str, at: i64) -> Event {
        let place =
            Place { node: "n".into(), at, workspace: Some("w".into()), all: false, topics: BTreeSet::new() };
        event(UP, &UpRecord { agent: agent.into(), link: link.into(), place })
    }

    fn down(agent: &str, link: &str, at: i64) -> Event {
        event(DOWN, &DownRecord { agent: agent.into(), link: link.into(), at })
    }

    fn topics(link: &str, add: &[&str], remove: &[&str], at: i64) -> Event {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        event(
            TOPICS,
            &TopicsRecord { agent: "a".into(), link: link.into(), add: all(add), remove: all(remove), at },
        )
    }

    #[test]
    fn a_state_written_beside_other_news_brings_nobody_back() {
        let mut writer = Roster::default();
        for event in [up("a", "1", 1), up("a", "2", 2)] {
            writer.fold(&event);
        }
        let states: Vec<Event> = writer.states(0).iter().map(|state| event(STATE, state)).collect();
        // One leaves and another comes before the states are written; a new reader sees only what follows.
        let mut reader = Roster::default();
        for event in [down("a", "1", 3), up("a", "3", 4)].iter().chain(&states) {
            reader.fold(event);
        }
        let links: Vec<&String> = reader.agent("a").unwrap().links.keys().collect();
        assert_eq!(links, ["2", "3"]);
        assert_eq!(reader.agent("a").unwrap().seen_at, Some(3));
        assert_eq!(reader.agent("a").unwrap().workspaces["w"], 4);
    }

    #[test]
    fn a_topic_stays_while_one_connection_wants_it_and_when_it_closes() {
        let mut roster = Roster::default();
        let on = |roster: &Roster| roster.agent("a").unwrap().topics["t.*"].1;
        for event in
            [up("a", "1", 1), up("a", "2", 2), topics("1", &["t.*"], &[], 3), topics("2", &["t.*"], &[], 4)]
        {
            roster.fold(&event);
        }
        roster.fold(&topics("1", &[], &["t.*"], 5));
        assert!(on(&roster), "the other one still wants it");
        roster.fold(&down("a", "2", 6));
        assert!(on(&roster), "closing is not unsubscribing");
        roster.fold(&topics("1", &[], &["t.*"], 7));
        assert!(!on(&roster));
    }

    #[test]
    fn what_one_agent_belongs_to_is_bounded() {
        let mut roster = Roster::default();
        for number in 0..i64::try_from(AGENT_TOPICS_MAX).unwrap() * 3 {
            roster.fold(&topics("1", &[&format!("t{number}")], &[], number));
        }
        assert_eq!(roster.agent("a").unwrap().topics.len(), AGENT_TOPICS_MAX * 2);
    }
}
