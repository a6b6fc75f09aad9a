//! Which agents there are, and whether they are there.

use super::room::presence;
use super::roster::Agent;
use super::view::{BusAgentView, BusPresence};
use crate::broker::Broker;
use crate::error::BrokerError;
use std::ops::Bound;

impl Broker {
    /// The agents of an org by name, behind this one; fewer than `limit` are the last.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn bus_agents(
        &self,
        org: &str,
        workspace: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<BusAgentView>, BrokerError> {
        let room = self.bus_room(org).await?;
        let is_in =
            |state: &Agent| workspace.is_none_or(|workspace| state.workspaces.contains_key(workspace));
        Ok(room.with_agents(|agents| {
            let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
            let found = agents.range::<str, _>(behind).filter(|(_, state)| is_in(state)).take(limit);
            found.map(|(agent, state)| self.agent_view(agent, state)).collect()
        }))
    }

    /// One of them; none if it was never heard of, or not for long.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn bus_agent(&self, org: &str, agent: &str) -> Result<Option<BusAgentView>, BrokerError> {
        let room = self.bus_room(org).await?;
        Ok(room.with_agent(agent, |state| state.map(|state| self.agent_view(agent, state))))
    }

    fn agent_view(&self, agent: &str, state: &Agent) -> BusAgentView {
        let present = presence(self, Some(state));
        let topics = state.topics.iter().filter(|(_, (_, on))| *on);
        BusAgentView {
            presence: BusPresence {
                agent: agent.to_owned(),
                is_online: present.is_online,
                since: present.since,
            },
            workspaces: state.workspaces.keys().cloned().collect(),
            topics: topics.map(|(topic, _)| topic.clone()).collect(),
            connections: present.links,
        }
    }
}
