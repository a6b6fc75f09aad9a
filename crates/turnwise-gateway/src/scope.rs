//! What a key is for, and what a route asks for. Every route names its
//! [`Access`] in `router.rs`; every key lists its [`Scope`]s.

/// What a key may be for. Names are in configurations: never reuse or rename one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything about conversations, except callbacks.
    Conversations,
    /// Looking at conversations and reading their streams.
    ConversationsRead,
    /// Callbacks: list, inspect, send again.
    Callbacks,
    /// Publishing to topics, and reading them.
    Topics,
    /// Reading topics.
    TopicsRead,
    /// Everything about work queues.
    Queues,
    /// Looking at work queues and their messages.
    QueuesRead,
    /// Being an agent on the bus.
    Bus,
    /// Looking at agents and at what became of messages.
    BusRead,
    /// The measurements.
    Metrics,
    /// Everything.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 11] = [
        Scope::Conversations,
        Scope::ConversationsRead,
        Scope::Callbacks,
        Scope::Topics,
        Scope::TopicsRead,
        Scope::Queues,
        Scope::QueuesRead,
        Scope::Bus,
        Scope::BusRead,
        Scope::Metrics,
        Scope::Admin,
    ];

    /// The scope as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Conversations => "conversations",
            Scope::ConversationsRead => "conversations:read",
            Scope::Callbacks => "callbacks",
            Scope::Topics => "topics",
            Scope::TopicsRead => "topics:read",
            Scope::Queues => "queues",
            Scope::QueuesRead => "queues:read",
            Scope::Bus => "bus",
            Scope::BusRead => "bus:read",
            Scope::Metrics => "metrics",
            Scope::Admin => "admin",
        }
    }

    /// The scope with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// What a route asks of whoever uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nothing: it is for everybody, without a key.
    Open,
    /// Looking at conversations.
    Read,
    /// The same, and a ticket for the stream does as well.
    Stream,
    /// Changing conversations.
    Write,
    /// Callbacks.
    Callbacks,
    /// Reading topics.
    TopicsRead,
    /// Following topics: the same, and a ticket for them does as well.
    Subscribe,
    /// Publishing to topics.
    TopicsWrite,
    /// Making tickets for what the key may read: what, is asked for each.
    Tickets,
    /// Work queues.
    Queues,
    /// Looking at work queues.
    QueuesRead,
    /// A WebSocket connection: what it may do is asked for each frame. A ticket for one does as well.
    Connect,
    /// Being an agent on the bus.
    Bus,
    /// Looking at agents.
    BusRead,
    /// The measurements.
    Metrics,
    /// What only administrators see.
    Admin,
}

impl Access {
    /// The narrowest scope that is enough; none for a route that is open.
    #[must_use]
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Access::Open => None,
            Access::Read | Access::Stream => Some(Scope::ConversationsRead),
            Access::Write => Some(Scope::Conversations),
            Access::Callbacks => Some(Scope::Callbacks),
            Access::TopicsRead | Access::Subscribe => Some(Scope::TopicsRead),
            Access::Tickets => Some(Scope::ConversationsRead),
            Access::TopicsWrite => Some(Scope::Topics),
            Access::Queues => Some(Scope::Queues),
            Access::QueuesRead => Some(Scope::QueuesRead),
            Access::Connect => Some(Scope::TopicsRead),
            Access::Admin => Some(Scope::Admin),
            Access::Bus => Some(Scope::Bus),
            Access::BusRead => Some(Scope::BusRead),
            Access::Metrics => Some(Scope::Metrics),
        }
    }

    /// Whether a key with these scopes may. No scopes mean the conversations.
    #[must_use]
    pub fn is_granted_by(self, scopes: &[Scope]) -> bool {
        let Some(needed) = self.scope() else { return true };
        let any = |of: &[Access]| of.iter().any(|access| access.is_granted_by(scopes));
        match self {
            Access::Tickets => return any(&[Access::Read, Access::Connect]),
            Access::Connect => return any(&[Access::TopicsRead, Access::Bus]),
            _ => {}
        }
        let held = if scopes.is_empty() { &[Scope::Conversations] } else { scopes };
        held.iter().any(|scope| match scope {
            Scope::Admin => true,
            Scope::Conversations => matches!(needed, Scope::Conversations | Scope::ConversationsRead),
            Scope::Topics => matches!(needed, Scope::Topics | Scope::TopicsRead),
            Scope::Queues => matches!(needed, Scope::Queues | Scope::QueuesRead),
            Scope::Bus => matches!(needed, Scope::Bus | Scope::BusRead),
            Scope::ConversationsRead
            | Scope::Callbacks
            | Scope::TopicsRead
            | Scope::QueuesRead
            | Scope::BusRead
            | Scope::Metrics => *scope == needed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_opens_what_it_names_and_no_more() {
        let all = [
            Access::Open,
            Access::Read,
            Access::Stream,
            Access::Write,
            Access::Callbacks,
            Access::TopicsRead,
            Access::Subscribe,
            Access::TopicsWrite,
            Access::Tickets,
            Access::Queues,
            Access::QueuesRead,
            Access::Connect,
            Access::Bus,
            Access::BusRead,
            Access::Metrics,
            Access::Admin,
        ];
        let check = |scopes: &[Scope], expected: &[Access]| {
            let got: Vec<Access> = all.into_iter().filter(|access| access.is_granted_by(scopes)).collect();
            assert_eq!(got, expected, "{scopes:?}");
        };
        let reading = [Access::Open, Access::Read, Access::Stream, Access::Tickets];
        let writing = [Access::Open, Access::Read, Access::Stream, Access::Write, Access::Tickets];
        let topics_read =
            [Access::Open, Access::TopicsRead, Access::Subscribe, Access::Tickets, Access::Connect];
        check(&[], &writing);
        check(&[Scope::Conversations], &writing);
        check(&[Scope::ConversationsRead], &reading);
        check(&[Scope::Callbacks], &[Access::Open, Access::Callbacks]);
        let topics = [&topics_read[..3], &[Access::TopicsWrite], &topics_read[3..]].concat();
        check(&[Scope::Topics], &topics);
        check(&[Scope::TopicsRead], &topics_read);
        check(&[Scope::Queues], &[Access::Open, Access::Queues, Access::QueuesRead]);
        check(&[Scope::QueuesRead], &[Access::Open, Access::QueuesRead]);
        let bus = [Access::Open, Access::Tickets, Access::Connect, Access::Bus, Access::BusRead];
        check(&[Scope::Bus], &bus);
        check(&[Scope::BusRead], &[Access::Open, Access::BusRead]);
        check(&[Scope::Metrics], &[Access::Open, Access::Metrics]);
        check(&[Scope::Metrics, Scope::Callbacks], &[Access::Open, Access::Callbacks, Access::Metrics]);
        check(&[Scope::Admin], &all);
    }

    #[test]
    fn names_lead_back_to_their_scope() {
        for scope in Scope::ALL {
            assert_eq!(Scope::from_name(scope.name()), Some(scope));
        }
        assert_eq!(Scope::from_name("Admin"), None);
    }
}
