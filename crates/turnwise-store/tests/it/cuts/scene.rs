//! A small world of its own organisation in a store, every operation on it, and all that can be asked of it. Two
//! scenes differ in nothing that is told here.

use std::fmt::Write as _;
use std::time::Duration;
use turnwise_core::{
    Claim, Dedup, Delivery, Effect, Enqueued, Epoch, Kind, MessageId, MessageInfo, Name, NewEvent,
    NewMessage, Offset, OrderingKey, Outcome, Position, Read, ReadFrom, Receipt, Result, Settlement, Stage,
    Store, StorePosition, Timestamp, TopicPattern,
};

pub(super) const LEASE: Duration = Duration::from_secs(60);
/// What time brings comes after this.
pub(super) const LATER: Duration = Duration::from_secs(3_600);
const WINDOW: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Every operation of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Enqueue,
    Room,
    Claim,
    Extend,
    Ack,
    Retry,
    Bury,
    Remove,
    Stop,
    Redrive,
    Append,
    AppendHeld,
    Trim,
    DropTopics,
    Advance,
    Get,
    Depth,
    Lane,
    List,
    Queues,
    Read,
    ReadMany,
    Topics,
    Cursor,
    /// Last: it moves the clock.
    Sweep,
}

impl Op {
    pub(super) const ALL: [Op; 25] = [
        Op::Enqueue,
        Op::Room,
        Op::Claim,
        Op::Extend,
        Op::Ack,
        Op::Retry,
        Op::Bury,
        Op::Remove,
        Op::Stop,
        Op::Redrive,
        Op::Append,
        Op::AppendHeld,
        Op::Trim,
        Op::DropTopics,
        Op::Advance,
        Op::Get,
        Op::Depth,
        Op::Lane,
        Op::List,
        Op::Queues,
        Op::Read,
        Op::ReadMany,
        Op::Topics,
        Op::Cursor,
        Op::Sweep,
    ];

    /// Whether it changes what can be told. What a sweep does, time has done anyway.
    pub(super) fn changes(self) -> bool {
        !matches!(
            self,
            Op::Room
                | Op::Get
                | Op::Depth
                | Op::Lane
                | Op::List
                | Op::Queues
                | Op::Read
                | Op::ReadMany
                | Op::Topics
                | Op::Cursor
                | Op::Sweep
        )
    }
}

/// What an operation answered: in words, and the messages it named.
pub(super) struct Told {
    text: String,
    ids: Vec<MessageId>,
}

impl Told {
    fn new(told: impl std::fmt::Debug) -> Told {
        Told { text: format!("{told:?}"), ids: Vec::new() }
    }
}

pub(super) struct Scene {
    org: String,
    epoch: Epoch,
    born: Timestamp,
    held: Receipt,
    waiting: MessageId,
    dead: MessageId,
}

fn name(org: &str, kind: Kind, name: &str) -> Name {
    Name::new(org, kind, name).unwrap()
}

fn dedup(key: &str) -> Option<Dedup> {
    Some(Dedup { key: key.to_owned().into(), window: WINDOW, content_hash: [7; 16] })
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

impl Scene {
    /// One key with a message that is held and one behind it, two heads to claim, one that goes with the time, a
    /// dead letter, a topic that is followed and one that is over.
    pub(super) async fn make(store: &dyn Store, number: usize, born: Timestamp) -> Scene {
        let mut scene = Scene {
            org: format!("org{number}"),
            epoch: store.epoch(),
            born,
            held: Receipt {
                queue: name("none", Kind::Turns, "jobs"),
                id: MessageId::new(0, 0),
                token: turnwise_core::LeaseToken(0),
            },
            waiting: MessageId::new(0, 0),
            dead: MessageId::new(0, 0),
        };
        let batch = vec![scene.message("d", "dead"), scene.message("h", "held")];
        store.enqueue(batch).await.unwrap();
        let held: Vec<Delivery> = store.claim(scene.claim(2)).await.unwrap();
        let outcome = Outcome::Dead { reason: "hopeless".into() };
        let bury = Settlement { receipt: held[0].receipt.clone(), outcome, effects: Vec::new() };
        store.settle(vec![bury]).await.unwrap().remove(0).unwrap();
        (scene.dead, scene.held) = (held[0].receipt.id, held[1].receipt.clone());
        let over = Effect::Publish(scene.event("ends", "fleeting"));
        let fleeting = NewMessage {
            expires_at: Some(born.after(LATER)),
            at_end: vec![over],
            ..scene.message("f", "fleeting")
        };
        let batch = vec![
            scene.message("h", "waiting"),
            scene.message("a", "first"),
            scene.message("b", "second"),
            fleeting,
        ];
        let Ok(Enqueued::New { id, .. }) = store.enqueue(batch).await.unwrap().remove(0) else { panic!() };
        scene.waiting = id;
        let mut events: Vec<NewEvent> = (1..=4).map(|n| scene.event("log", &format!("e{n}"))).collect();
        events.push(scene.event("old", "e"));
        store.append(events).await.unwrap();
        assert!(store.advance(&scene.topic("log"), "me", None, scene.at(2)).await.unwrap());
        scene
    }

    fn queue(&self) -> Name {
        name(&self.org, Kind::Turns, "jobs")
    }

    fn topic(&self, topic: &str) -> Name {
        name(&self.org, Kind::Reply, topic)
    }

    fn message(&self, key: &str, payload: &str) -> NewMessage {
        NewMessage {
            key: Some(OrderingKey(key.to_owned().into())),
            dedup: dedup(payload),
            nonce: 9,
            ..NewMessage::new(self.queue(), payload.to_owned())
        }
    }

    fn event(&self, topic: &str, data: &str) -> NewEvent {
        NewEvent {
            topic: self.topic(topic),
            event_type: "note".into(),
            data: data.to_owned().into(),
            dedup: dedup(data),
            keep_until: None,
        }
    }

    fn at(&self, offset: u64) -> Position {
        Position { epoch: self.epoch, offset: Offset(offset) }
    }

    fn claim(&self, limit: u32) -> Claim {
        Claim { queue: self.queue(), limit, lease: LEASE, durable: true }
    }

    fn everything(&self) -> TopicPattern {
        TopicPattern(self.topic(">"))
    }

    /// A message and an event, as effects.
    fn effects(&self) -> Vec<Effect> {
        vec![Effect::Publish(self.event("log", "over")), Effect::Enqueue(self.message("next", "next"))]
    }

    async fn settle(&self, store: &dyn Store, outcome: Outcome) -> Result<Told> {
        let settlement = Settlement { receipt: self.held.clone(), outcome, effects: self.effects() };
        Ok(Told::new(store.settle(vec![settlement]).await?))
    }

    /// Does it.
    pub(super) async fn run(&self, op: Op, store: &dyn Store) -> Result<Told> {
        let (queue, log) = (self.queue(), self.topic("log"));
        Ok(match op {
            Op::Enqueue => self.enqueue(store).await?,
            Op::Room => Told::new(store.enqueue(Vec::new()).await?),
            Op::Claim => claimed(&store.claim(self.claim(1)).await?),
            Op::Extend => self.relative(&store.extend(vec![self.held.clone()], 2 * LEASE).await?),
            Op::Ack => self.settle(store, Outcome::Ack).await?,
            Op::Retry => self.settle(store, Outcome::Retry { delay: LEASE, reason: "busy".into() }).await?,
            Op::Bury => self.settle(store, Outcome::Dead { reason: "no".into() }).await?,
            Op::Remove => Told::new(store.remove(&queue, vec![(self.waiting, self.effects())]).await?),
            Op::Stop => Told::new(store.request_stop(&queue, self.held.id).await?),
            Op::Redrive => Told::new(store.redrive(&queue, vec![self.dead]).await?),
            Op::Append => {
                let batch = vec![self.event("log", "e5"), self.event("new", "n1"), self.event("log", "e6")];
                self.offsets(store.append(batch).await?)
            }
            Op::AppendHeld => {
                let batch = vec![self.event("log", "h5"), self.event("log", "h6")];
                match store.append_held(&self.held, batch).await? {
                    Some(told) => self.offsets(told),
                    None => Told::new("lost"),
                }
            }
            Op::Trim => Told::new(store.trim(&log, Offset(3)).await?),
            Op::DropTopics => Told::new(store.drop_topics(vec![self.topic("old"), log]).await?),
            Op::Advance => Told::new(store.advance(&log, "me", Some(self.at(2)), self.at(4)).await?),
            Op::Get => infos(store.get(&queue, vec![self.held.id, self.dead]).await?.into_iter().flatten()),
            Op::Depth => Told::new(store.depth(&queue).await?.ready),
            Op::Lane => {
                let lane = store.lane(&queue, &OrderingKey("h".into()), Some(self.waiting)).await?;
                Told::new((lane.length, lane.place, lane.in_flight == Some(self.held.id)))
            }
            Op::List => infos(store.list(&queue, Stage::Ready, None, 100).await?.into_iter()),
            Op::Queues => {
                let names = store.queues(Some(name(&self.org, Kind::Public, "a")), 1).await?;
                Told::new(names.iter().map(|name| (name.org() == self.org, name.name())).collect::<Vec<_>>())
            }
            Op::Read => Told::new(self.read(store, "log").await?),
            Op::ReadMany => self.read_many(store).await?,
            Op::Topics => {
                let topics = store.topics(&self.everything(), None, 100).await?;
                let named = |info: turnwise_core::TopicInfo| {
                    (info.topic.name().to_owned(), info.first, info.last, info.bytes)
                };
                Told::new(topics.into_iter().map(named).collect::<Vec<_>>())
            }
            Op::Cursor => Told::new(store.cursor(&log, "me").await?.map(|at| at.offset)),
            Op::Sweep => {
                while store.sweep(1_000).await? > 0 {}
                Told::new("swept")
            }
        })
    }

    async fn enqueue(&self, store: &dyn Store) -> Result<Told> {
        let batch = vec![self.message("x", "x1"), self.message("h", "x2"), self.message("x", "x3")];
        let mut told = Told::new(());
        told.text.clear();
        for answer in store.enqueue(batch).await? {
            let (word, id) = match answer? {
                Enqueued::New { id, position, in_flight } => (format!("new {position} {in_flight}, "), id),
                Enqueued::Duplicate(id) => ("known, ".to_owned(), id),
                other => panic!("{other:?}"),
            };
            told.text.push_str(&word);
            told.ids.push(id);
        }
        Ok(told)
    }

    /// Times as they are told, from the scene's beginning on.
    fn relative(&self, told: &[turnwise_core::ItemResult<turnwise_core::Extended>]) -> Told {
        use turnwise_core::Extended::{LeaseLost, Stop, Until};
        let since = |answer: &turnwise_core::ItemResult<_>| match answer {
            Ok(Until(at)) => format!("until {:?}", at.since(self.born)),
            Ok(Stop(at)) => format!("stop {:?}", at.since(self.born)),
            Ok(LeaseLost) => "lost".to_owned(),
            Err(error) => error.to_string(),
        };
        Told::new(told.iter().map(since).collect::<Vec<_>>())
    }

    fn offsets(&self, told: Vec<turnwise_core::ItemResult<Position>>) -> Told {
        Told::new(told.into_iter().map(|at| at.map(|at| at.offset)).collect::<Vec<_>>())
    }

    async fn read(&self, store: &dyn Store, topic: &str) -> Result<Vec<String>> {
        Ok(match store.read(&self.topic(topic), ReadFrom::After(self.at(0)), 100).await? {
            Read::Gap { resume } => vec![format!("a gap up to {}", resume.offset.0)],
            Read::Events { events, .. } => {
                events.iter().map(|event| format!("{} {}", event.offset.0, text(&event.data))).collect()
            }
        })
    }

    async fn read_many(&self, store: &dyn Store) -> Result<Told> {
        let mut after = StorePosition { epoch: self.epoch, seq: 0 };
        let mut all = Vec::new();
        loop {
            let page = store.read_many(&[self.everything()], after, 100).await?;
            if page.events.is_empty() {
                return Ok(Told::new(all));
            }
            after = page.next;
            all.extend(
                page.events.iter().map(|(topic, event)| format!("{} {}", topic.name(), text(&event.data))),
            );
        }
    }

    /// An answer in words, the messages it names by what they say.
    pub(super) async fn words(&self, store: &dyn Store, told: Told) -> String {
        let mut words = told.text;
        for info in store.get(&self.queue(), told.ids).await.unwrap() {
            write!(words, " {}", info.map_or("nothing".into(), |info| text(&info.payload).to_owned()))
                .unwrap();
        }
        words
    }

    /// All that can be told.
    pub(super) async fn look(&self, store: &dyn Store) -> Vec<String> {
        let depth = store.depth(&self.queue()).await.unwrap();
        let mut all = vec![format!("{:?}", turnwise_core::Depth { oldest_waiting: None, ..depth })];
        for stage in [Stage::Scheduled, Stage::Ready, Stage::Leased, Stage::Dead] {
            for info in store.list(&self.queue(), stage, None, 100).await.unwrap() {
                all.push(self.line(&info));
            }
        }
        for topic in ["log", "new", "old", "ends"] {
            all.push(format!("{topic}: {:?}", self.read(store, topic).await.unwrap()));
        }
        for op in [Op::Lane, Op::Topics, Op::Cursor, Op::ReadMany] {
            all.push(format!("{op:?}: {}", self.run(op, store).await.unwrap().text));
        }
        all
    }

    fn line(&self, info: &MessageInfo) -> String {
        let since = |at: Option<Timestamp>| at.map(|at| at.since(self.born));
        format!(
            "{:?} {} attempt {} until {:?}, not before {:?}, {:?} {}",
            info.stage,
            text(&info.payload),
            info.attempt,
            since(info.lease_expires_at),
            since(info.not_before),
            info.reason,
            info.stop_requested
        )
    }
}

fn claimed(deliveries: &[Delivery]) -> Told {
    let told: Vec<_> = deliveries.iter().map(|one| (text(&one.payload).to_owned(), one.attempt)).collect();
    Told::new(told)
}

fn infos(all: impl Iterator<Item = MessageInfo>) -> Told {
    Told::new(all.map(|info| (text(&info.payload).to_owned(), info.stage)).collect::<Vec<_>>())
}
