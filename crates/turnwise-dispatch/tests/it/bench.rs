//! How many turns go through broker and dispatch on the memory store.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use turnwise_broker::{BrokerConfig, TurnState};
use turnwise_mock::AgentConfig;

use crate::Stage;

#[tokio::test]
#[ignore = "a measurement"]
async fn throughput() {
    let mut stage = Stage::new(AgentConfig::default(), BrokerConfig::default()).await;
    stage.config.timeout = Duration::from_secs(30);
    stage.start();
    let stage = std::sync::Arc::new(stage);
    let (clients, each) = (64_u32, 500_u32);
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let stage = std::sync::Arc::clone(&stage);
        tasks.spawn(async move {
            let user = format!("u{client}");
            for _ in 0..each {
                let turn = stage.submit(&user, "hello", false).await;
                assert_eq!(stage.end(turn.id).await.state, TurnState::Completed);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let rate = f64::from(clients * each) / started.elapsed().as_secs_f64();
    eprintln!("{rate:.0} turns/s, agent and clients on the same thread");
}
