//! Order, leases, stopping and shutting down.

use std::time::Duration;

use turnwise_broker::{BrokerConfig, Cancel, OrgScope, TurnState};
use turnwise_mock::{AgentConfig, CallOutcome, HistoryChecker, Terminal, TurnReceipt, conversation_of_user};

use crate::{ORG, Stage, agent_data, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_run_side_by_side_and_each_in_order() {
    let mut stage =
        Stage::new(AgentConfig { delay_spread_ms: 5, ..AgentConfig::default() }, BrokerConfig::default())
            .await;
    stage.config.concurrency = 16;
    stage.config.timeout = Duration::from_secs(10);
    stage.start();
    let mut turns = Vec::new();
    for round in 0..10_u64 {
        for user in 0..40 {
            let user = format!("u{user}");
            let stream = round % 3 == 0;
            let id = stage.submit(&user, &format!("message {round}"), stream).await.id;
            turns.push((user, id, round));
        }
    }
    let mut checker = HistoryChecker::new();
    for (user, id, round) in turns {
        assert_eq!(stage.end(id).await.state, TurnState::Completed);
        checker.add_receipts([TurnReceipt {
            message_id: id.to_string(),
            conversation: conversation_of_user(ORG, &user),
            sent: round * 2,
            accepted: round * 2 + 1,
            ends: vec![Terminal::Completed],
        }]);
    }
    checker.add_calls(stage.agent.journal().calls());
    let verdict = checker.check();
    assert_eq!(verdict.violations, []);
    assert_eq!((verdict.calls, verdict.receipts), (400, 400));
    assert!((2..=16).contains(&stage.agent.journal().stats().in_flight_max));
}

#[tokio::test]
async fn a_long_call_keeps_its_lease() {
    let config = BrokerConfig { turn_lease: Duration::from_millis(300), ..BrokerConfig::default() };
    let mut stage = Stage::new(AgentConfig::default(), config).await;
    stage.config.timeout = Duration::from_secs(10);
    stage.start();
    let plain = stage.submit("a", "[[delay=1000]]", false).await;
    let stream = stage.submit("b", "[[events=10 gap=100]]", true).await;
    for turn in [plain, stream] {
        assert_eq!(stage.end(turn.id).await.state, TurnState::Completed);
    }
    assert_eq!(stage.agent.journal().stats().calls, 2);
}

#[tokio::test]
async fn a_running_turn_is_stopped_for_its_client() {
    let mut stage = Stage::new(AgentConfig::default(), BrokerConfig::default()).await;
    stage.config.timeout = Duration::from_secs(30);
    stage.start();
    for (stopped, (message, stream)) in
        [("[[hang]]", false), ("[[events=2 gap=1 hang]]", true)].into_iter().enumerate()
    {
        let turn = stage.submit("u", message, stream).await;
        let next = stage.submit("u", "after it", stream).await;
        until(|| stage.agent.journal().stats().in_flight == 1).await;
        assert_eq!(stage.broker.cancel(&OrgScope::All, turn.id).await.unwrap(), Cancel::Stopping);
        assert_eq!(stage.end(turn.id).await.state, TurnState::Cancelled);
        assert_eq!(stage.end(next.id).await.state, TurnState::Completed);
        until(|| stage.agent.journal().stats().abandoned == stopped as u64 + 1).await;
    }
    assert!(stage.verdict().is_clean());
}

#[tokio::test]
async fn a_shutdown_gives_back_what_has_not_begun_to_answer() {
    let mut stage = Stage::new(AgentConfig::default(), BrokerConfig::default()).await;
    stage.config.timeout = Duration::from_secs(30);
    stage.config.drain_grace = Duration::from_millis(200);
    stage.start();
    let plain = stage.submit("a", "[[hang times=1]]", false).await;
    let begun = stage.submit("b", "[[events=2 gap=1 hang]]", true).await;
    let quick = stage.submit("c", "[[delay=100]]", false).await;
    until(|| stage.agent.journal().stats().in_flight >= 2 && stage.agent.journal().stats().calls == 3).await;
    // Its events are stored as soon as a reader can see them.
    until_events(&stage, "b", begun.id).await;
    stage.shut_down().await;
    assert_eq!(stage.end(quick.id).await.state, TurnState::Completed);
    let interrupted = stage.end(begun.id).await;
    assert_eq!(interrupted.error.unwrap().code, "answer_interrupted");
    assert_eq!(agent_data(&stage.events("b", begun.id).await).len(), 2);
    stage.start();
    assert_eq!(stage.end(plain.id).await.state, TurnState::Completed);
    let calls = stage.agent.journal().calls();
    let of_plain: Vec<_> = calls.iter().filter(|call| call.message_id == plain.id.to_string()).collect();
    assert_eq!(of_plain.len(), 2);
    assert_eq!(of_plain[0].outcome, Some(CallOutcome::Abandoned));
    stage.shut_down().await;
}

async fn until_events(stage: &Stage, user: &str, id: turnwise_core::MessageId) {
    use futures_util::StreamExt;
    let mut follow = stage.broker.follow(&OrgScope::All, user, id, None).await.unwrap().events().unwrap();
    let mut seen = 0;
    while seen < 2 {
        let event =
            tokio::time::timeout(Duration::from_secs(60), follow.next()).await.unwrap().unwrap().unwrap();
        seen += agent_data(&[event]).len();
    }
}

#[tokio::test]
async fn the_state_of_the_agent_is_known() {
    let mut stage = Stage::new(AgentConfig::default(), BrokerConfig::default()).await;
    let dispatcher = turnwise_dispatch::Dispatcher::new(stage.broker.clone(), stage.config.clone()).unwrap();
    let status = dispatcher.status();
    assert_eq!(status(), Some(false));
    let shutdown = tokio_util::sync::CancellationToken::new();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(dispatcher.run(shutdown.clone()));
    until(|| status() == Some(true)).await;
    shutdown.cancel();
    running.join_all().await;
    stage.shut_down().await;
}

#[tokio::test]
async fn an_agent_that_knows_no_get_is_up_and_one_that_fails_is_not() {
    for (answer, up) in [("501 Unsupported method", true), ("404 Not Found", true), ("500 Oops", false)] {
        let (address, mut agent) = answers_only(answer).await;
        let mut stage = Stage::new(AgentConfig::default(), BrokerConfig::default()).await;
        stage.config.base_url = format!("http://{address}");
        let dispatcher =
            turnwise_dispatch::Dispatcher::new(stage.broker.clone(), stage.config.clone()).unwrap();
        let status = dispatcher.status();
        let shutdown = tokio_util::sync::CancellationToken::new();
        agent.spawn(dispatcher.run(shutdown.clone()));
        if up {
            until(|| status() == Some(true)).await;
        } else {
            // Its answer was read: only then is the connection given up.
            agent.join_next().await.unwrap().unwrap();
            assert_eq!(status(), Some(false));
        }
        shutdown.cancel();
        agent.shutdown().await;
        stage.shut_down().await;
    }
}

/// A server that answers one request like this, then reads until it is left.
async fn answers_only(status: &str) -> (std::net::SocketAddr, tokio::task::JoinSet<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _left = stream.read_to_end(&mut rest).await;
    });
    (address, serving)
}
