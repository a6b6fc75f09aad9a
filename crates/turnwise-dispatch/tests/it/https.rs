//! An agent behind TLS: called when its certificate is trusted and names it,
//! and not otherwise.

use std::path::PathBuf;

use turnwise_broker::{BrokerConfig, TurnState};
use turnwise_dispatch::{ConfigError, Dispatcher};
use turnwise_mock::AgentConfig;

use crate::Stage;
use crate::tls::TlsFront;

/// TLS in front of a stage's agent.
struct Front {
    stage: Stage,
    /// The certificate to trust.
    ca_file: PathBuf,
    tls: TlsFront,
    _folder: tempfile::TempDir,
}

impl Front {
    /// With a certificate for this name.
    async fn named(name: &str) -> Front {
        let stage = Stage::new(AgentConfig::default(), BrokerConfig::default()).await;
        let tls = TlsFront::named(name, stage.agent.address()).await;
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, &tls.pem).unwrap();
        Front { stage, ca_file, tls, _folder: folder }
    }

    /// Submits a turn and answers how it ended.
    async fn state(mut self) -> (TurnState, Option<String>) {
        let config = &mut self.stage.config;
        config.base_url = format!("https://localhost:{}", self.tls.port);
        config.timeout = std::time::Duration::from_secs(5);
        config.ca_file = Some(self.ca_file.clone());
        self.stage.start();
        let turn = self.stage.submit("u", "hello", false).await;
        let end = self.stage.end(turn.id).await;
        self.stage.shut_down().await;
        (end.state, end.error.map(|error| error.code))
    }
}

#[tokio::test]
async fn an_agent_with_a_trusted_certificate_is_called() {
    assert_eq!(Front::named("localhost").await.state().await, (TurnState::Completed, None));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let end = Front::named("agent.example.org").await.state().await;
    assert_eq!(end, (TurnState::Failed, Some("agent_unreachable".to_owned())));
}

#[tokio::test]
async fn an_unknown_certificate_is_refused() {
    let front = Front::named("localhost").await;
    // Somebody else's certificate is trusted, so that the machine's own store does not matter.
    let other = Front::named("localhost").await;
    std::fs::copy(&other.ca_file, &front.ca_file).unwrap();
    assert_eq!(front.state().await, (TurnState::Failed, Some("agent_unreachable".to_owned())));
}

#[tokio::test]
async fn a_file_without_certificates_is_refused_with_its_name() {
    let mut stage = Stage::new(AgentConfig::default(), BrokerConfig::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nothing.pem");
    stage.config.base_url = "https://localhost".to_owned();
    for content in [None, Some("no certificate")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        stage.config.ca_file = Some(file.clone());
        let refused = Dispatcher::new(stage.broker.clone(), stage.config.clone()).err();
        assert!(
            matches!(&refused, Some(ConfigError::Certificates(why)) if why.contains("nothing.pem")),
            "{refused:?}"
        );
    }
}
