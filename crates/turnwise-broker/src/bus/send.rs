//! Sending: who gets it, how, and what of it is stored in which order. First
//! that it was sent and to whom, then the message itself: whoever gets no
//! answer repeats it under its key, and nothing comes twice.

use super::BusRefused;
use super::message::{BusMessageId, BusMode, BusSend, BusTo};
use super::receipt::{self, Part, Story, Told, keep_until};
use super::record::{
    self, ADDRESSED, Addressed, AddressedRecord, Envelope, Happened, LIVE, LiveRecord, SENT, SentRecord,
    receipt_topic,
};
use super::room::{Room, append_all, presence};
use super::roster::{KNOWN, KnownRecord, matches};
use super::view::{BusSent, BusState};
use crate::broker::Broker;
use crate::conversation::push_bytes;
use crate::error::BrokerError;
use crate::limits::{
    ADDRESSED_PAGE, AGENT_KEPT, AGENTS_PER_ORG_MAX, BUS_ATTEMPTS_USUAL, BUS_TTL_USUAL, INBOX_MESSAGES_MAX,
    QUEUE_DEDUP_WINDOW,
};
use crate::orgs::nonce_for;
use crate::submit::maybe_stored;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use turnwise_core::limits::BATCH_ITEMS_MAX;
use turnwise_core::{Dedup, Enqueued, Kind, Name, NewEvent, NewMessage, Priority, StoreError, Timestamp};

/// Inboxes asked at a time how much they hold.
const INBOXES_ASKED: usize = 32;
const FULL: &str = "the inbox is full";
const OFFLINE: &str = "the agent is offline";

/// One recipient.
#[derive(Clone)]
pub(super) struct Recipient {
    agent: String,
    is_online: bool,
    offline_since: Option<Timestamp>,
    is_known: bool,
}

/// What is sent, as it is stored.
pub(super) struct Dispatch {
    pub(super) envelope: Envelope,
    pub(super) content: Bytes,
    /// Of all that the sender says, if it gave a key.
    hash: Option<[u8; 16]>,
    pub(super) awaits_until: Option<Timestamp>,
}

/// To whom, and how.
#[derive(Default)]
struct Audience {
    live: Vec<Recipient>,
    inboxes: Vec<Recipient>,
    bounced: Vec<(String, &'static str)>,
}

impl Broker {
    /// Sends a message, durable when it returns where it is to be. Only agents of the same org get it. The answer
    /// counts the recipients that it really has.
    ///
    /// # Errors
    /// When the store does not answer, when the bus refuses it, or when a request is not known that it answers. After
    /// [`StoreError::Unknown`] a repeat with the same key is safe.
    pub async fn bus_send(&self, org: &str, send: BusSend) -> Result<BusSent, BrokerError> {
        let room = self.bus_room_of(org).await?;
        self.send_bus(&room, send, None).await
    }

    pub(super) async fn send_bus(
        &self,
        room: &Room,
        mut send: BusSend,
        awaits_until: Option<Timestamp>,
    ) -> Result<BusSent, BrokerError> {
        let id = self.id_of(room, &send);
        let is_answer = match &send.to {
            BusTo::Requester => true,
            BusTo::Agent(_) => send.in_reply_to.is_some(),
            BusTo::Topic(_) | BusTo::Workspace(_) => false,
        };
        if is_answer {
            match self.answer(room, &id, &send).await? {
                Ok(sent) => return Ok(sent),
                Err(requester) => send.to = BusTo::Agent(requester),
            }
        }
        let dispatch = self.dispatch(room, id, &send, awaits_until);
        let story = match dispatch.hash {
            Some(_) => self.sent_before(room, &dispatch).await?,
            None => None,
        };
        let is_repeat = story.is_some();
        let audience = match story {
            Some(story) => audience_again(story),
            None => self.audience(room, &send),
        };
        let audience = self.with_room(room, audience).await?;
        let is_direct = matches!(send.to, BusTo::Agent(_));
        if is_direct && audience.bounced.iter().any(|(_, why)| *why == FULL) {
            return Err(BusRefused::InboxFull { messages_max: INBOX_MESSAGES_MAX }.into());
        }
        self.note_sent(room, &dispatch, &audience).await?;
        self.tell_live(room, &dispatch, &audience.live).await?;
        let is_one_step = audience.live.is_empty() && audience.inboxes.len() <= BATCH_ITEMS_MAX;
        let put = self.put_into_inboxes(room, &dispatch, &audience.inboxes).await;
        let repeats = put.map_err(|error| if is_one_step { error } else { maybe_stored(error) })?;
        let counts = &self.0.bus.counts;
        counts.sent.one();
        counts.queued.add(audience.inboxes.len() as u64);
        counts.bounced.add(audience.bounced.len() as u64);
        let queued = audience.inboxes.len() as u64;
        let is_repeat = is_repeat && (audience.inboxes.is_empty() || repeats > 0);
        Ok(BusSent {
            message_id: dispatch.envelope.id,
            is_repeat,
            recipients: audience.live.len() as u64 + queued,
            queued,
            bounced: audience.bounced.len() as u64,
            state: if is_direct { direct_state(&audience) } else { None },
        })
    }

    fn id_of(&self, room: &Room, send: &BusSend) -> BusMessageId {
        match &send.dedup_key {
            Some(key) => BusMessageId::of_key(&room.org, &send.from, key),
            None => BusMessageId::drawn((self.0.nonce)(), (self.0.nonce)()),
        }
    }

    pub(super) fn dispatch(
        &self,
        room: &Room,
        id: BusMessageId,
        send: &BusSend,
        awaits_until: Option<Timestamp>,
    ) -> Dispatch {
        let now = self.now();
        let is_kept = !matches!(send.mode, BusMode::Pubsub);
        let expires_at =
            (is_kept || send.ttl.is_some()).then(|| now.after(send.ttl.unwrap_or(BUS_TTL_USUAL)));
        let (to, workspace, topic) = match &send.to {
            BusTo::Agent(agent) => (Some(agent.clone()), None, None),
            BusTo::Workspace(workspace) => (None, Some(workspace.clone()), None),
            BusTo::Topic(topic) => (None, None, Some(topic.clone())),
            BusTo::Requester => (None, None, None),
        };
        let envelope = Envelope {
            id,
            from: send.from.clone(),
            to,
            workspace,
            topic,
            kind: send.message_type,
            mode: send.mode,
            priority: send.priority.unwrap_or(Priority::default().0),
            correlation: send.correlation_id.clone(),
            in_reply_to: send.in_reply_to.clone(),
            metadata: send.metadata.as_deref().and_then(record::raw),
            sent_at: now.0,
            expires_at: expires_at.map(|at| at.0),
            max_attempts: send.max_attempts.unwrap_or(BUS_ATTEMPTS_USUAL).max(1),
        };
        let hash = send.dedup_key.as_ref().map(|_| content_hash(&room.org, send));
        Dispatch { envelope, content: send.content.clone(), hash, awaits_until }
    }

    /// What was stored of the same message before.
    async fn sent_before(&self, room: &Room, dispatch: &Dispatch) -> Result<Option<Story>, BrokerError> {
        let mut story = Story::default();
        story.read_on(self, &room.org, &dispatch.envelope.id).await?;
        Ok(story.sent.is_some().then_some(story))
    }

    /// Who gets it, as the agents are now.
    fn audience(&self, room: &Room, send: &BusSend) -> Audience {
        let (all, is_direct) = match &send.to {
            BusTo::Agent(agent) => (vec![self.recipient(room, agent)], true),
            BusTo::Workspace(workspace) => (self.members(room, workspace, &send.exclude), false),
            BusTo::Topic(topic) => (self.subscribers(room, topic, &send.exclude), false),
            BusTo::Requester => (Vec::new(), true),
        };
        let mut audience = Audience::default();
        for recipient in all {
            match (send.mode, recipient.is_online) {
                (BusMode::Pubsub | BusMode::Both, true) => audience.live.push(recipient),
                (BusMode::Queue, _) | (BusMode::Both, false) => audience.inboxes.push(recipient),
                (BusMode::Pubsub, false) if is_direct => audience.bounced.push((recipient.agent, OFFLINE)),
                (BusMode::Pubsub, false) => {}
            }
        }
        audience
    }

    fn recipient(&self, room: &Room, agent: &str) -> Recipient {
        room.with_agent(agent, |known| {
            let present = presence(self, known);
            Recipient {
                agent: agent.to_owned(),
                is_online: present.is_online,
                offline_since: present.since.filter(|_| !present.is_online),
                is_known: known.is_some(),
            }
        })
    }

    /// The agents that were in a workspace within a month.
    fn members(&self, room: &Room, workspace: &str, exclude: &[String]) -> Vec<Recipient> {
        let kept = i64::try_from(AGENT_KEPT.as_micros()).unwrap_or(i64::MAX);
        let since = self.now().0.saturating_sub(kept);
        let members: Vec<String> = room.with_agents(|agents| {
            let is_member = agents.iter().filter(|(agent, state)| {
                let is_here = state.links.values().any(|place| place.workspace.as_deref() == Some(workspace));
                let was_here = state.workspaces.get(workspace).is_some_and(|at| *at >= since);
                (is_here || was_here) && !exclude.contains(agent)
            });
            is_member.map(|(agent, _)| agent.clone()).collect()
        });
        members.iter().map(|agent| self.recipient(room, agent)).collect()
    }

    /// The agents that subscribe to a topic; online are those with a connection that does.
    fn subscribers(&self, room: &Room, topic: &str, exclude: &[String]) -> Vec<Recipient> {
        let Ok(topic) = Name::new(&room.org, Kind::Public, topic) else { return Vec::new() };
        let now = self.now();
        let found: Vec<(String, bool)> = room.with_agents(|agents| {
            let of = |agent: &String, state: &super::roster::Agent| {
                let lives = |node: &str| self.0.bus.nodes.lives(node, now);
                let here = state.links.values().filter(|place| lives(&place.node));
                let is_online = here.map(|place| &place.topics).any(|topics| matches(topics, &topic));
                let kept = state.topics.iter().filter(|(_, (_, on))| *on).map(|(pattern, _)| pattern);
                let gets = is_online || matches(kept, &topic);
                (gets && !exclude.contains(agent)).then(|| (agent.clone(), is_online))
            };
            agents.iter().filter_map(|(agent, state)| of(agent, state)).collect()
        });
        let with =
            |(agent, is_online): (String, bool)| Recipient { is_online, ..self.recipient(room, &agent) };
        found.into_iter().map(with).collect()
    }

    /// Takes out those whose inbox is full, and makes room for an agent that was never heard of.
    async fn with_room(&self, room: &Room, mut audience: Audience) -> Result<Audience, BrokerError> {
        let inboxes = std::mem::take(&mut audience.inboxes);
        let asked = stream::iter(inboxes).map(|recipient| async move {
            let depth = self.0.store.depth(&record::inbox(&room.org, &recipient.agent)?).await?;
            let held = depth.ready + depth.scheduled + depth.leased + depth.dead;
            Ok::<_, StoreError>((recipient, held < INBOX_MESSAGES_MAX))
        });
        let asked: Vec<(Recipient, bool)> = asked.buffered(INBOXES_ASKED).try_collect().await?;
        for (recipient, has_room) in asked {
            match has_room {
                true => audience.inboxes.push(recipient),
                false => audience.bounced.push((recipient.agent, FULL)),
            }
        }
        let unknown: Vec<&Recipient> = audience.inboxes.iter().filter(|one| !one.is_known).collect();
        if !unknown.is_empty() {
            if room.agents_known(self) + unknown.len() > AGENTS_PER_ORG_MAX {
                return Err(BusRefused::AgentsFull { agents_max: AGENTS_PER_ORG_MAX }.into());
            }
            let at = self.now().0;
            let known = |one: &&Recipient| room.note(KNOWN, &KnownRecord { agent: one.agent.clone(), at });
            room.write(self, unknown.iter().map(known).collect()).await?;
        }
        Ok(audience)
    }
}

/// The same recipients as before, whoever is online now.
fn audience_again(story: Story) -> Audience {
    let mut audience = Audience::default();
    for (agent, part) in story.recipients {
        let Part { is_live, .. } = part;
        match part.state() {
            BusState::Bounced { .. } => audience.bounced.push((agent, OFFLINE)),
            BusState::Pending
            | BusState::Queued { .. }
            | BusState::Delivered
            | BusState::Acked
            | BusState::Failed { .. }
            | BusState::Expired => {
                let recipient = Recipient { agent, is_online: is_live, offline_since: None, is_known: true };
                if is_live { &mut audience.live } else { &mut audience.inboxes }.push(recipient);
            }
        }
    }
    audience
}

fn direct_state(audience: &Audience) -> Option<BusState> {
    if let Some((_, why)) = audience.bounced.first() {
        return Some(BusState::Bounced { reason: (*why).to_owned() });
    }
    if !audience.live.is_empty() {
        return Some(BusState::Delivered);
    }
    let recipient = audience.inboxes.first()?;
    Some(match recipient.is_online {
        true => BusState::Pending,
        false => BusState::Queued { offline_since: recipient.offline_since },
    })
}

/// Storing.
impl Broker {
    /// That it was sent, and to whom. A key that was used for something else is found out here, before anything else
    /// is stored.
    pub(super) async fn note_sent(
        &self,
        room: &Room,
        dispatch: &Dispatch,
        audience: &(impl Audienced + ?Sized),
    ) -> Result<(), BrokerError> {
        let envelope = &dispatch.envelope;
        let topic = receipt_topic(&room.org, &envelope.id)?;
        let now = self.now();
        let awaited = dispatch.awaits_until;
        let until = keep_until(now, envelope.expires_at.map(Timestamp).max(awaited));
        let sent = SentRecord {
            from: envelope.from.clone(),
            to: envelope.to.clone(),
            workspace: envelope.workspace.clone(),
            topic: envelope.topic.clone(),
            correlation: envelope.correlation.clone(),
            expires_at: envelope.expires_at,
            awaits_until: awaited.map(|at| at.0),
        };
        let keyed = |event: NewEvent, part: usize, content_hash| NewEvent {
            dedup: dispatch.hash.map(|_| Dedup {
                key: Bytes::from(format!("{part}")),
                window: QUEUE_DEDUP_WINDOW,
                content_hash,
            }),
            ..event
        };
        let first = record::event(topic.clone(), SENT, &sent, Some(until));
        let mut events = vec![keyed(first, 0, dispatch.hash.unwrap_or_default())];
        let addressed = audience.addressed();
        for (part, agents) in (1..).zip(addressed.chunks(ADDRESSED_PAGE)) {
            let record = AddressedRecord { agents: agents.to_vec() };
            // Whoever repeats it means those of the first time.
            let event = record::event(topic.clone(), ADDRESSED, &record, Some(until));
            events.push(keyed(event, part, [0; 16]));
        }
        for (agent, happened) in audience.known_already() {
            let told =
                Told { id: envelope.id.clone(), to: envelope.from.clone(), agent, expires_at: Some(until) };
            let part = events.len();
            events.push(keyed(told.kept(room, now, happened)?, part, [0; 16]));
        }
        let conflict = || BusRefused::DedupConflict(envelope.id.clone());
        match append_all(self, events).await {
            // Its sizes were checked, so nothing else can be wrong with it.
            Err(StoreError::Invalid(_)) if dispatch.hash.is_some() => Err(conflict().into()),
            answer => Ok(answer?),
        }
    }

    async fn tell_live(&self, room: &Room, dispatch: &Dispatch, to: &[Recipient]) -> Result<(), BrokerError> {
        let Some(content) = record::raw(&dispatch.content).filter(|_| !to.is_empty()) else { return Ok(()) };
        let mut events = Vec::new();
        for (part, page) in to.chunks(ADDRESSED_PAGE).enumerate() {
            let record = LiveRecord {
                to: page.iter().map(|recipient| recipient.agent.clone()).collect(),
                envelope: dispatch.envelope.clone(),
                content: content.clone(),
            };
            let dedup = dispatch.hash.map(|content_hash| Dedup {
                key: Bytes::from(format!("{}:{part}", dispatch.envelope.id)),
                window: QUEUE_DEDUP_WINDOW,
                content_hash,
            });
            events.push(NewEvent { dedup, ..room.tell(LIVE, &record) });
        }
        append_all(self, events).await?;
        room.changed.notify_one();
        Ok(())
    }

    /// How many of them held it already.
    async fn put_into_inboxes(
        &self,
        room: &Room,
        dispatch: &Dispatch,
        to: &[Recipient],
    ) -> Result<usize, BrokerError> {
        let mut repeats = 0;
        for page in to.chunks(BATCH_ITEMS_MAX) {
            let batch: Result<Vec<NewMessage>, StoreError> =
                page.iter().map(|recipient| self.inbox_message(room, dispatch, &recipient.agent)).collect();
            for answer in self.0.store.enqueue(batch?).await? {
                match answer? {
                    Enqueued::New { .. } => {}
                    Enqueued::Duplicate(_) => repeats += 1,
                    Enqueued::DedupConflict(_) => {
                        return Err(BusRefused::DedupConflict(dispatch.envelope.id.clone()).into());
                    }
                    Enqueued::LaneFull => {
                        return Err(StoreError::Corrupt("a lane without a limit was full".to_owned()).into());
                    }
                }
            }
        }
        for recipient in to {
            self.0.work.bells.ring(&record::inbox(&room.org, &recipient.agent)?);
        }
        if repeats == 0 {
            self.note_queued(room, dispatch, to).await;
        }
        Ok(repeats)
    }

    fn inbox_message(&self, room: &Room, dispatch: &Dispatch, agent: &str) -> Result<NewMessage, StoreError> {
        let envelope = &dispatch.envelope;
        let told = Told {
            id: envelope.id.clone(),
            to: envelope.from.clone(),
            agent: agent.to_owned(),
            expires_at: envelope.expires_at.map(Timestamp),
        };
        Ok(NewMessage {
            priority: Priority(envelope.priority),
            headers: envelope.headers(),
            expires_at: told.expires_at,
            max_attempts: envelope.max_attempts,
            dedup: dispatch.hash.map(|content_hash| Dedup {
                key: Bytes::copy_from_slice(envelope.id.as_str().as_bytes()),
                window: QUEUE_DEDUP_WINDOW,
                content_hash,
            }),
            at_end: receipt::at_end(room, self.now(), &told)?,
            nonce: nonce_for(&room.org, (self.0.nonce)()),
            ..NewMessage::new(record::inbox(&room.org, agent)?, dispatch.content.clone())
        })
    }

    /// That those wait who are offline; the others are about to get it.
    async fn note_queued(&self, room: &Room, dispatch: &Dispatch, to: &[Recipient]) {
        let envelope = &dispatch.envelope;
        let now = self.now();
        let event = |recipient: &Recipient| {
            let told = Told {
                id: envelope.id.clone(),
                to: envelope.from.clone(),
                agent: recipient.agent.clone(),
                expires_at: envelope.expires_at.map(Timestamp),
            };
            let offline_since = recipient.offline_since.map(|at| at.0);
            told.kept(room, now, Happened::Queued { offline_since })
        };
        let offline = to.iter().filter(|recipient| !recipient.is_online);
        let events: Result<Vec<NewEvent>, StoreError> = offline.map(event).collect();
        let noted = match events {
            Ok(events) => append_all(self, events).await,
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            tracing::debug!(%error, "that messages wait is not noted");
        }
    }
}

/// Who gets a message, for the note of it.
pub(super) trait Audienced {
    fn addressed(&self) -> Vec<Addressed>;
    /// What is known of some of them from the start.
    fn known_already(&self) -> Vec<(String, Happened)>;
}

impl Audienced for Audience {
    fn addressed(&self) -> Vec<Addressed> {
        let mut agents = BTreeSet::new();
        let live = self.live.iter().map(|one| (&one.agent, true));
        let inboxes = self.inboxes.iter().map(|one| (&one.agent, false));
        let all = live.chain(inboxes).filter(|(agent, _)| agents.insert((*agent).clone()));
        all.map(|(agent, live)| Addressed { agent: agent.clone(), live }).collect()
    }

    fn known_already(&self) -> Vec<(String, Happened)> {
        let live = self.live.iter().map(|one| (one.agent.clone(), Happened::Delivered));
        let bounced = self
            .bounced
            .iter()
            .map(|(agent, why)| (agent.clone(), Happened::Bounced { reason: (*why).to_owned() }));
        live.chain(bounced).collect()
    }
}

/// Of all that a sender says, as it says it. On disk: never change it.
fn content_hash(org: &str, send: &BusSend) -> [u8; 16] {
    let mut content = Vec::with_capacity(send.content.len() + 256);
    let to = match &send.to {
        BusTo::Agent(agent) => ("agent", agent.as_str()),
        BusTo::Topic(topic) => ("topic", topic.as_str()),
        BusTo::Workspace(workspace) => ("workspace", workspace.as_str()),
        BusTo::Requester => ("requester", ""),
    };
    let kind = serde_json::to_string(&(send.message_type, send.mode)).unwrap_or_default();
    let reply = send.in_reply_to.as_ref().map_or("", BusMessageId::as_str);
    let correlation = send.correlation_id.as_deref().unwrap_or_default();
    for part in [org, &send.from, to.0, to.1, &kind, reply, correlation] {
        push_bytes(&mut content, part.as_bytes());
    }
    push_bytes(&mut content, &send.content);
    push_bytes(&mut content, send.metadata.as_deref().unwrap_or_default());
    for agent in &send.exclude {
        push_bytes(&mut content, agent.as_bytes());
    }
    content.push(send.priority.unwrap_or(u8::MAX));
    content.extend_from_slice(&send.max_attempts.unwrap_or(0).to_be_bytes());
    content.extend_from_slice(&send.ttl.map_or(0, |ttl| ttl.as_micros()).to_be_bytes());
    let digest: [u8; 32] = Sha256::digest(&content).into();
    let mut hash = [0; 16];
    for (to, from) in hash.iter_mut().zip(digest) {
        *to = from;
    }
    hash
}
