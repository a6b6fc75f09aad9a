//! Deliberate faults, one at a time, that the test suite must catch.
//! Only in debug builds, with which the tests run; in a release each check is a constant.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutant { $($(#[$doc])* $name),* }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$name),*];

            /// As written in tables and on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Mutant::$name => stringify!($name)),* }
            }

            /// The one of this name, in letters of any case.
            #[must_use]
            pub fn named(name: &str) -> Option<Mutant> {
                Mutant::ALL.iter().copied().find(|mutant| mutant.name().eq_ignore_ascii_case(name))
            }
        }
    };
}

mutants! {
    /// The next message of a key is ready while its head is leased.
    LostHeadRule,
    /// A settle needs no current lease.
    LateAckAccepted,
    /// Tokens start again at 1 after a restart.
    TokenReset,
    /// A lease never lapses.
    NoExpiry,
    /// A refused settle applies its effects all the same.
    EffectsWithoutLease,
    /// Events are appended for a holder whose lease is over.
    AppendUnfenced,
    /// Heads go by place alone.
    PriorityIgnored,
    /// A retried message goes behind its neighbours.
    LifoRetry,
    /// Nothing is published when the store ends a message.
    AtEndForgotten,
    /// A message that the store puts when it ends another does not name it.
    EndedUnnamed,
    /// Dedup keys live in memory only.
    DedupNotPersisted,
    /// A settle is answered before its commit.
    AckBeforeFsync,
    /// A retry is ready at once.
    DelayIgnored,
    /// A release keeps the attempt.
    ReleaseCounts,
    /// Attempts never run out.
    AttemptsIgnored,
    /// A message past its time is leased.
    ExpiredLeased,
    /// A stop request is forgotten.
    StopLost,
    /// A redriven message keeps its attempts.
    RedriveKeepsAttempts,
    /// A remove with effects takes a dead letter.
    DeadRemovedAgain,
    /// A trimmed place reads on in silence.
    GapSilent,
    /// A page of events has no limit of bytes.
    PageUnbounded,
    /// A subscription may move back.
    CursorGoesBack,
    /// A due message overtakes its key.
    DueJumpsQueue,
    /// A leased message stays claimable.
    DoubleDispatch,
    /// Messages are acknowledged from memory and never written to disk.
    LossAtKill,
}

#[cfg(debug_assertions)]
static ACTIVE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(u8::MAX);

/// Switches one fault on for the whole process, or all off.
#[cfg(debug_assertions)]
pub fn set(mutant: Option<Mutant>) {
    let number = mutant.map_or(u8::MAX, |mutant| mutant as u8);
    ACTIVE.store(number, std::sync::atomic::Ordering::SeqCst);
}

/// Whether this fault is on.
#[cfg(debug_assertions)]
#[must_use]
pub fn is_on(mutant: Mutant) -> bool {
    ACTIVE.load(std::sync::atomic::Ordering::Relaxed) == mutant as u8
}

/// Whether this fault is on: never, in this build.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn is_on(_mutant: Mutant) -> bool {
    false
}
