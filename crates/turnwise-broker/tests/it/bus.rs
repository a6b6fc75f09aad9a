//! The agents' bus at the broker's seam (clauses I1, I2, I4, I5), over a store
//! whose wake-ups are all lost.

use crate::bench::Bench;
use bytes::Bytes;
use std::future::pending;
use std::time::Duration;
use turnwise_broker::*;
use turnwise_core::{Kind, Name, QueueStore};

const ORG: &str = "acme";

fn direct(to: &str, content: &'static str) -> BusSend {
    BusSend::direct("boss", to, Bytes::from_static(content.as_bytes()))
}

impl Bench {
    async fn bus_send(&self, send: BusSend) -> BusSent {
        self.broker.bus_send(ORG, send).await.unwrap()
    }

    async fn connect(&self, agent: &str) -> AgentLink {
        self.connect_as(AgentHello::new(agent)).await
    }

    async fn connect_as(&self, hello: AgentHello) -> AgentLink {
        self.broker.connect_agent(ORG, hello).await.unwrap()
    }

    async fn state(&self, id: &BusMessageId, agent: &str) -> BusState {
        let view = self.broker.bus_receipt(ORG, id).await.unwrap().expect("a message that is known");
        let part = view.recipients.into_iter().find(|part| part.agent == agent);
        part.expect("a recipient").state
    }

    async fn take(&self, agent: &str) -> Vec<BusDelivery> {
        let (lease, wait) = (Duration::from_secs(30), Duration::ZERO);
        let claim = BusClaim { agent: agent.to_owned(), limit: 100, lease, wait };
        self.broker.claim_inbox(ORG, &claim, pending()).await.unwrap()
    }
}

/// The next message from the inbox; other news is passed over.
async fn message(link: &mut AgentLink) -> std::sync::Arc<BusDelivery> {
    loop {
        match link.next().await {
            BusEvent::Message(delivery) => return delivery,
            BusEvent::Closed(why) => panic!("closed: {why:?}"),
            BusEvent::Live(_) | BusEvent::Receipt(_) | BusEvent::Presence(_) => {}
        }
    }
}

async fn receipt(link: &mut AgentLink) -> BusReceipt {
    loop {
        if let BusEvent::Receipt(receipt) = link.next().await {
            return receipt;
        }
    }
}

async fn live(link: &mut AgentLink) -> String {
    loop {
        if let BusEvent::Live(message) = link.next().await {
            return String::from_utf8(message.content.to_vec()).unwrap();
        }
    }
}

fn text(delivery: &BusDelivery) -> &str {
    std::str::from_utf8(&delivery.message.content).unwrap()
}

async fn ack(link: &AgentLink, delivery: &BusDelivery) {
    let batch = vec![(delivery.message.id.clone(), BusOutcome::Ack)];
    assert_eq!(link.handle().settle(batch).await.unwrap(), [BusSettled::Done]);
}

#[tokio::test(start_paused = true)]
async fn i1_what_waits_comes_by_priority_then_place_and_acked_never_again() {
    let bench = Bench::new().await;
    for (content, priority) in [("1", 4), ("2", 9), ("3", 4), ("4", 0), ("5", 9)] {
        let sent = bench.bus_send(BusSend { priority: Some(priority), ..direct("ann", content) }).await;
        assert_eq!((sent.recipients, sent.queued), (1, 1));
        assert_eq!(sent.state, Some(BusState::Queued { offline_since: None }));
    }
    let mut link = bench.connect("ann").await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let delivery = message(&mut link).await;
        assert_eq!(delivery.attempt, 1);
        ack(&link, &delivery).await;
        seen.push(text(&delivery).to_owned());
    }
    assert_eq!(seen, ["2", "5", "1", "3", "4"]);
    link.close().await;
    assert!(bench.take("ann").await.is_empty());
    let depth = bench.store.depth(&Name::new(ORG, Kind::Inbox, "ann").unwrap()).await.unwrap();
    assert_eq!((depth.enqueued, depth.acked), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn i1_what_a_closed_connection_had_comes_again_at_once_with_the_next_attempt() {
    let bench = Bench::new().await;
    let mut first = bench.connect("ann").await;
    let taken = bench.bus_send(direct("ann", "1")).await;
    assert_eq!(text(&*message(&mut first).await), "1");
    bench.bus_send(direct("ann", "2")).await;
    first.close().await;
    let mut second = bench.connect("ann").await;
    let (one, two) = (message(&mut second).await, message(&mut second).await);
    assert_eq!((text(&one), one.attempt, text(&two), two.attempt), ("1", 2, "2", 1));
    assert_eq!(bench.state(&taken.message_id, "ann").await, BusState::Delivered);
    drop(second);
    let mut third = bench.connect("ann").await;
    assert_eq!(message(&mut third).await.attempt, 3);
}

#[tokio::test(start_paused = true)]
async fn i2_a_sender_sees_each_step_and_the_last_word() {
    let bench = Bench::new().await;
    let mut boss = bench.connect("boss").await;
    let sent = bench.bus_send(direct("ann", "1")).await;
    let mut ann = bench.connect("ann").await;
    let delivery = message(&mut ann).await;
    assert_eq!(receipt(&mut boss).await.state, BusState::Delivered);
    ack(&ann, &delivery).await;
    let told = receipt(&mut boss).await;
    assert_eq!((told.message_id, told.agent.as_str(), told.state), (sent.message_id, "ann", BusState::Acked));

    let sent = bench.bus_send(BusSend { max_attempts: Some(1), ..direct("ann", "2") }).await;
    let delivery = message(&mut ann).await;
    let why = || Some("no".to_owned());
    let nack = BusOutcome::Nack { delay: Duration::ZERO, reason: why() };
    ann.handle().settle(vec![(delivery.message.id.clone(), nack)]).await.unwrap();
    let failed = BusState::Failed { reason: "no".into() };
    assert_eq!(bench.state(&sent.message_id, "ann").await, failed);
    ann.close().await;

    let sent = bench.bus_send(BusSend { ttl: Some(Duration::from_secs(60)), ..direct("ann", "3") }).await;
    let BusState::Queued { offline_since: Some(since) } = sent.state.unwrap() else { panic!("not offline") };
    assert!(since <= bench.now());
    bench.pass(Duration::from_secs(61));
    assert!(bench.take("ann").await.is_empty());
    assert_eq!(bench.state(&sent.message_id, "ann").await, BusState::Expired);
    loop {
        let told = receipt(&mut boss).await;
        if told.state == BusState::Expired {
            break assert_eq!(told.message_id, sent.message_id);
        }
    }
    let sent = bench.bus_send(BusSend { mode: BusMode::Pubsub, ..direct("ann", "4") }).await;
    assert_eq!((sent.recipients, sent.bounced), (0, 1));
    assert_eq!(bench.state(&sent.message_id, "ann").await.name(), "bounced");
}

#[tokio::test(start_paused = true)]
async fn i4_a_broadcast_counts_whom_it_reaches_and_leaves_out_whom_it_must() {
    let bench = Bench::new().await;
    let from = |agent: &str| AgentHello { workspace: Some("w".into()), ..AgentHello::new(agent) };
    let mut links = Vec::new();
    for agent in ["ann", "bob", "cid", "dan"] {
        links.push(bench.connect_as(from(agent)).await);
    }
    let mut dan = links.pop().unwrap();
    links.pop().unwrap().close().await;
    let to = |mode, exclude: &[&str]| BusSend {
        mode,
        exclude: exclude.iter().map(|agent| (*agent).to_owned()).collect(),
        ..BusSend::new("ann", BusTo::Workspace("w".into()), "\"x\"")
    };
    let counts = |sent: &BusSent| (sent.recipients, sent.queued, sent.bounced);
    assert_eq!(counts(&bench.bus_send(to(BusMode::Pubsub, &["ann"])).await), (2, 0, 0));
    assert_eq!(live(&mut dan).await, "\"x\"");
    let both = bench.bus_send(to(BusMode::Both, &["ann", "bob"])).await;
    assert_eq!(counts(&both), (2, 1, 0));
    assert_eq!(live(&mut dan).await, "\"x\"");
    let all = bench.bus_send(to(BusMode::Queue, &[])).await;
    assert_eq!(counts(&all), (4, 4, 0));
    // Cid was away: what was sent to all that wait, and not what was for those that were there.
    let mut cid = bench.connect_as(from("cid")).await;
    for sent in [&both, &all] {
        let delivery = message(&mut cid).await;
        assert_eq!(delivery.message.id, sent.message_id);
        ack(&cid, &delivery).await;
    }
    assert_eq!(message(&mut dan).await.message.id, all.message_id);
    let view = bench.broker.bus_receipt(ORG, &all.message_id).await.unwrap().unwrap();
    assert_eq!(view.recipients.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn i5_a_request_gets_its_own_answer_or_an_error_in_time() {
    let bench = Bench::new().await;
    let mut ann = bench.connect("ann").await;
    let wait = Duration::from_secs(10);
    let ask = |content: &'static str| bench.broker.bus_request(ORG, direct("ann", content), wait, pending());
    let serve = async {
        let (first, second) = (message(&mut ann).await, message(&mut ann).await);
        // The other way round: each answer finds its own request.
        for delivery in [second, first] {
            let content = format!("\"to {}\"", text(&delivery));
            let answer = BusSend {
                in_reply_to: Some(delivery.message.id.clone()),
                ..BusSend::new("ann", BusTo::Requester, content)
            };
            assert_eq!(bench.bus_send(answer).await.state, Some(BusState::Delivered));
            ack(&ann, &delivery).await;
        }
    };
    let (one, two, ()) = tokio::join!(ask("1"), ask("2"), serve);
    for (answer, expected) in [(one, "\"to 1\""), (two, "\"to 2\"")] {
        let reply = answer.unwrap().reply.expect("an answer");
        assert_eq!((&reply.content[..], reply.from.as_str()), (expected.as_bytes(), "ann"));
    }

    let late = match ask("3").await.unwrap_err() {
        BrokerError::Bus(BusRefused::TimedOut(id)) => id,
        other => panic!("{other}"),
    };
    let answer =
        |from: &str| BusSend { in_reply_to: Some(late.clone()), ..BusSend::new(from, BusTo::Requester, "4") };
    let stranger = bench.broker.bus_send(ORG, answer("eve")).await.unwrap_err();
    assert_eq!(stranger, BusRefused::RequestUnknown.into());
    let sent = bench.bus_send(answer("ann")).await;
    assert_eq!(sent.queued, 1, "too late for who waited: an ordinary message");
    let found = bench.take("boss").await;
    assert_eq!((text(&found[0]), &found[0].message.in_reply_to), ("4", &Some(late)));

    let rejected = async {
        let delivery = message(&mut ann).await;
        let delivery = if text(&delivery) == "3" { message(&mut ann).await } else { delivery };
        let reject = BusOutcome::Reject { reason: Some("busy".into()) };
        ann.handle().settle(vec![(delivery.message.id.clone(), reject)]).await.unwrap();
    };
    let (refused, ()) = tokio::join!(ask("5"), rejected);
    let failed = BusState::Failed { reason: "busy".into() };
    assert_eq!(refused.unwrap_err(), BusRefused::Unanswered(failed).into());
}

#[tokio::test(start_paused = true)]
async fn i1_a_message_that_is_never_settled_is_given_up_after_its_last_attempt() {
    let bench = Bench::new().await;
    let sent = bench.bus_send(BusSend { max_attempts: Some(2), ..direct("ann", "1") }).await;
    for attempt in 1..=2 {
        assert_eq!(bench.take("ann").await[0].attempt, attempt);
        bench.pass(Duration::from_secs(31));
    }
    assert!(bench.take("ann").await.is_empty());
    assert_eq!(bench.state(&sent.message_id, "ann").await.name(), "failed");
}

#[tokio::test(start_paused = true)]
async fn leases_of_a_connection_go_on_while_it_is_open() {
    let bench = Bench::new().await;
    let mut ann = bench.connect("ann").await;
    bench.bus_send(direct("ann", "1")).await;
    let delivery = message(&mut ann).await;
    for _ in 0..12 {
        // Both clocks: the store's and the one that tasks sleep by.
        bench.pass(Duration::from_secs(10));
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert!(bench.take("ann").await.is_empty());
    ack(&ann, &delivery).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_closes_its_connections_and_gives_back_what_they_held() {
    let bench = Bench::new().await;
    let mut ann = bench.connect("ann").await;
    bench.bus_send(direct("ann", "1")).await;
    message(&mut ann).await;
    bench.broker.close_bus().await;
    loop {
        if let BusEvent::Closed(why) = ann.next().await {
            break assert_eq!(why, BusClosed::GoingAway);
        }
    }
    let found = bench.take("ann").await;
    assert_eq!((text(&found[0]), found[0].attempt), ("1", 2));
    assert!(!bench.broker.bus_agent(ORG, "ann").await.unwrap().unwrap().presence.is_online);
}

#[tokio::test(start_paused = true)]
async fn an_agent_of_a_process_that_died_is_offline_after_the_restart() {
    let mut bench = Bench::new().await;
    // A process of its own, as far as tasks go: they end with its runtime, in the middle of what they do.
    let broker = bench.broker.clone();
    let dies = std::thread::spawn(move || {
        let process = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        process.block_on(async {
            let ann = broker.connect_agent(ORG, AgentHello::new("ann")).await.unwrap();
            assert!(broker.bus_agent(ORG, "ann").await.unwrap().unwrap().presence.is_online);
            std::mem::forget(ann);
        });
    });
    dies.join().unwrap();
    bench.restart().await;
    let view = bench.broker.bus_agent(ORG, "ann").await.unwrap().unwrap();
    assert!(!view.presence.is_online && view.presence.since.is_some());
    let mut again = bench.connect("ann").await;
    bench.bus_send(direct("ann", "1")).await;
    message(&mut again).await;
    assert_eq!(bench.broker.bus_agent(ORG, "ann").await.unwrap().unwrap().connections, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_agents_is_written_anew_and_stays_the_same() {
    let mut bench = Bench::new().await;
    let hello = AgentHello { workspace: Some("w".into()), ..AgentHello::new("ann") };
    let ann = bench.connect_as(hello).await;
    bench.connect("bob").await.close().await;
    ann.handle().subscribe(&["kept.*".to_owned()]).await.unwrap();
    for number in 0..2_100 {
        let topic = [format!("t{}", number % 7)];
        ann.handle().subscribe(&topic).await.unwrap();
        ann.handle().unsubscribe(&topic).await.unwrap();
    }
    let log = Name::new(ORG, Kind::Bus, "roster").unwrap();
    let of_log = turnwise_core::TopicPattern(log);
    let events = turnwise_core::TopicStore::topics(&*bench.store, &of_log, None, 1).await.unwrap()[0].clone();
    assert!(events.last.0 > 4_200 && events.last.0 - events.first.0 < 4_200, "{events:?}");
    let before = bench.broker.bus_agents(ORG, None, None, 10).await.unwrap();
    assert_eq!(
        (before[0].topics.as_slice(), before[0].workspaces.as_slice()),
        (&["kept.*".to_owned()][..], &["w".to_owned()][..])
    );
    ann.close().await;
    bench.restart().await;
    let after = bench.broker.bus_agents(ORG, None, None, 10).await.unwrap();
    assert_eq!(after.len(), 2);
    assert_eq!((&after[0].topics, &after[0].workspaces), (&before[0].topics, &before[0].workspaces));
    assert_eq!(after[1], before[1]);
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_is_full_refuses_and_a_broadcast_tells_who_bounced() {
    let bench = Bench::new().await;
    let hello = AgentHello { workspace: Some("w".into()), ..AgentHello::new("ann") };
    bench.connect_as(hello).await.close().await;
    let inbox = Name::new(ORG, Kind::Inbox, "ann").unwrap();
    for _ in 0..10 {
        let many = (0..1_000).map(|_| turnwise_core::NewMessage::new(inbox.clone(), "1")).collect();
        bench.store.enqueue(many).await.unwrap();
    }
    let full = bench.broker.bus_send(ORG, direct("ann", "1")).await.unwrap_err();
    assert_eq!(full, BusRefused::InboxFull { messages_max: 10_000 }.into());
    let to_all = BusSend::new("boss", BusTo::Workspace("w".into()), "1");
    let sent = bench.bus_send(to_all).await;
    assert_eq!((sent.recipients, sent.bounced), (0, 1));
    assert_eq!(bench.state(&sent.message_id, "ann").await.name(), "bounced");
}
