//! What the demo's clients will say, drawn from a seed: the same seed is the
//! same conversation. Knows the fake agent's markers and nothing else.

use std::time::Duration;

/// Names of the first users; more are numbered.
const NAMES: &[&str] = &["alice", "bob", "carol", "dave", "erin", "frank"];
/// The two clients of every user.
pub(crate) const CLIENTS: [&str; 2] = ["web", "phone"];
/// Calls the fake agent works on at once.
pub(crate) const SLOTS: u32 = 3;
/// What one turn takes on average, by the numbers in [`words`].
const TURN_AVERAGE: f64 = 0.55;
/// Share of the duration that is filled with turns; the rest is for the kill and the retry.
const FILLED: f64 = 0.65;
/// Messages of one client at least, so that every trouble finds its place.
const MESSAGES_MIN: usize = 4;

/// What is special about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing.
    Plain,
    /// The agent refuses the first call with 503 and Retry-After.
    Refused,
    /// The agent answers 500.
    Fails,
    /// Its client leaves in the middle of the answer and comes back.
    Leaves,
}

/// One message of the plan.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// What is sent.
    pub(crate) text: String,
    /// What is special.
    pub(crate) role: Role,
    /// Pause before it is sent.
    pub(crate) pause: Duration,
}

/// Name of a user.
pub(crate) fn user_name(user: usize) -> String {
    NAMES.get(user).map_or_else(|| format!("user{}", user + 1), |name| (*name).to_owned())
}

/// The messages of every user and client, in the order they are sent.
pub(crate) fn draw(seed: u64, users: usize, duration: Duration) -> Vec<[Vec<Planned>; 2]> {
    let mut random = Random(seed);
    let at_once = users.min(SLOTS as usize).max(1) as f64;
    let turns = duration.as_secs_f64() * FILLED * at_once / TURN_AVERAGE;
    let each = ((turns / users.max(1) as f64 / 2.0) as usize).max(MESSAGES_MIN);
    (0..users)
        .map(|user| {
            [0, 1].map(|client| {
                (0..each).map(|n| planned(&mut random, role(user, users, client, n), n)).collect()
            })
        })
        .collect()
}

/// The three troubles, each with a user of its own if there are enough.
fn role(user: usize, users: usize, client: usize, n: usize) -> Role {
    match (client, n) {
        (0, 1) if user == 0 => Role::Refused,
        (0, 2) if user == 1 % users => Role::Fails,
        (1, 1) if user == 2 % users => Role::Leaves,
        _ => Role::Plain,
    }
}

fn planned(random: &mut Random, role: Role, n: usize) -> Planned {
    let pause = if n < 3 { 0 } else { random.below(150) };
    Planned { text: words(random, role, n), role, pause: Duration::from_millis(pause) }
}

fn words(random: &mut Random, role: Role, n: usize) -> String {
    let delay = 80 + random.below(250);
    let gap = 40 + random.below(100);
    let extra = match role {
        Role::Plain => "",
        Role::Refused => " [[status=503 retry_after=1 times=1]]",
        Role::Fails => " [[status=500]]",
        Role::Leaves => " [[events=8]]",
    };
    format!("message {} [[delay={delay} events=4 gap={gap}]]{extra}", n + 1)
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough for a plan.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_plan_and_every_trouble_is_in_it() {
        for users in 1..5 {
            let plan = draw(7, users, Duration::from_secs(5));
            let texts = |plan: &[[Vec<Planned>; 2]]| -> Vec<String> {
                plan.iter().flatten().flatten().map(|planned| planned.text.clone()).collect()
            };
            assert_eq!(texts(&plan), texts(&draw(7, users, Duration::from_secs(5))));
            assert_ne!(texts(&plan), texts(&draw(8, users, Duration::from_secs(5))));
            for role in [Role::Refused, Role::Fails, Role::Leaves] {
                let found = plan.iter().flatten().flatten().filter(|planned| planned.role == role);
                assert_eq!(found.count(), 1, "{role:?} with {users} users");
            }
        }
    }
}
