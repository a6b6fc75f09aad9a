//! Counts the conversations that held turns before this node started, a few
//! pages a round, so that nobody waits for it.

use crate::broker::Broker;
use crate::limits::{RECOUNT_PAGE, RECOUNT_PAGES_A_ROUND};
use turnwise_core::{Kind, MessageId, QueueName, Stage, StoreError};

/// How far the count has come.
#[derive(Default)]
pub(crate) struct Recount {
    /// The last queue that is done.
    done: Option<QueueName>,
    /// The one that is being counted.
    at: Option<(QueueName, Stage, Option<MessageId>)>,
    over: bool,
}

impl Broker {
    /// Goes on with the count. Leased turns come before waiting ones: a turn
    /// that is leased in between was claimed here, and so is counted already.
    pub(crate) async fn recount(&self, recount: &mut Recount) -> Result<(), StoreError> {
        let store = &self.0.store;
        for _page in 0..RECOUNT_PAGES_A_ROUND {
            if recount.over {
                return Ok(());
            }
            let (queue, stage, after) = match recount.at.clone() {
                Some(at) => at,
                None => match store.queues(recount.done.clone(), 1).await?.pop() {
                    Some(queue) if queue.kind() == Kind::Turns => (queue, Stage::Leased, None),
                    Some(other) => {
                        recount.done = Some(other);
                        continue;
                    }
                    None => {
                        recount.over = true;
                        self.0.counters.complete();
                        return Ok(());
                    }
                },
            };
            let page = store.list(&queue, stage, after, RECOUNT_PAGE).await?;
            for key in page.iter().filter_map(|info| info.key.clone()) {
                self.0.counters.found(queue.org(), key);
            }
            let next = match page.last() {
                Some(last) if page.len() >= RECOUNT_PAGE as usize => Some((stage, Some(last.id))),
                _ => stage_after(stage).map(|stage| (stage, None)),
            };
            match next {
                Some((stage, after)) => recount.at = Some((queue, stage, after)),
                None => (recount.done, recount.at) = (Some(queue), None),
            }
        }
        Ok(())
    }
}

fn stage_after(stage: Stage) -> Option<Stage> {
    match stage {
        Stage::Leased => Some(Stage::Ready),
        Stage::Ready => Some(Stage::Scheduled),
        Stage::Scheduled | Stage::Dead => None,
    }
}
