//! `turnwise agent mock`: the fake agent on its own, for people who build clients.

use super::{Context, Outcome, StopSignals, print, runtime};
use crate::failure::{Exit, Failure};
use clap::{Args, Subcommand};
use serde_json::json;
use std::net::SocketAddr;
use turnwise_mock::{AgentConfig, FakeAgent, FaultRule};

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// A fake agent with delays, streams and faults
    Mock(MockArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Faults in a message's own text, for example:\n  \
    [[delay=200]]                       wait 200 ms\n  \
    [[events=5 gap=100]]                stream five parts, 100 ms apart\n  \
    [[status=503 retry_after=1 times=1]] refuse once, then answer\n  \
    [[garbage]] [[cut]] [[hang]] [[error]]\n\n\
    GET /log and /stats tell what it saw.")]
pub(crate) struct MockArgs {
    /// Address and port; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// Milliseconds before an answer
    #[arg(long, default_value_t = 100)]
    delay_ms: u64,
    /// Up to so many milliseconds more
    #[arg(long, default_value_t = 200)]
    delay_spread_ms: u64,
    /// Parts of a streamed answer
    #[arg(long, default_value_t = 3)]
    events: u32,
    /// Milliseconds between parts
    #[arg(long, default_value_t = 100)]
    event_gap_ms: u64,
    /// Calls at once; one more is answered 503 with Retry-After [default: no limit]
    #[arg(long)]
    slots: Option<u32>,
    /// The Bearer key it wants [default: none]
    #[arg(long, env = "WORKER_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// A fault for every N-th call, as N:WORDS, for example 10:status=500; repeat for more
    #[arg(long = "fault", value_name = "N:WORDS", value_parser = fault_rule)]
    faults: Vec<FaultRule>,
}

pub(crate) fn run(context: &Context, command: AgentCommand) -> Outcome {
    let AgentCommand::Mock(arguments) = command;
    runtime(1)?.block_on(mock(context, arguments))
}

/// What a person who tries things out likes: a short wait, parts one by one.
pub(crate) fn pleasant() -> AgentConfig {
    AgentConfig {
        delay_ms: 100,
        delay_spread_ms: 200,
        events: 3,
        event_gap_ms: 100,
        ..AgentConfig::default()
    }
}

async fn mock(context: &Context, arguments: MockArgs) -> Outcome {
    let config = AgentConfig {
        delay_ms: arguments.delay_ms,
        delay_spread_ms: arguments.delay_spread_ms,
        events: arguments.events,
        event_gap_ms: arguments.event_gap_ms,
        slots: arguments.slots,
        api_key: arguments.api_key.filter(|key| !key.is_empty()),
        faults: arguments.faults,
        ..AgentConfig::default()
    };
    let agent = FakeAgent::start(arguments.listen, config).await.map_err(|error| {
        Failure::new(Exit::Failure, "the fake agent did not start", format!("{}: {error}", arguments.listen))
            .hint("name another address with --listen")
    })?;
    let mut signals = StopSignals::catch()?;
    if context.json {
        print::json(&json!({ "ready": true, "url": agent.base_url() }));
    } else {
        print::line(&format!("fake agent  {}", agent.base_url()));
        print::line(&format!("try         WORKER_BASE_URL={} turnwise serve", agent.base_url()));
    }
    signals.next().await;
    agent.stop().await;
    Ok(())
}

fn fault_rule(text: &str) -> Result<FaultRule, String> {
    let (every, fault) = text.split_once(':').ok_or("write N:WORDS, for example 10:status=500")?;
    let every = every.parse().map_err(|_| format!("{every} is not a number"))?;
    Ok(FaultRule { every, fault: fault.to_owned() })
}
