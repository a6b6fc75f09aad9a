//! Connections that are cut in the middle of every operation, or fall silent under it: what the store says of the
//! operation is what became of it (X2), it is done wholly or not at all, and a repeat is answered as if nothing
//! had happened.

mod scene;

use crate::faults::Engine;
use futures_util::future::join_all;
use scene::{LATER, Op, Scene, Told};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use turnwise_core::{Result, Store, StoreError};
use turnwise_testkit::{Cut, Flow, ManualClock, Proxy};

const SPACE: &str = "cuts";
/// Longest wait for something that has to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// A store on a way that falls silent gives up after this long.
const IMPATIENCE: Duration = Duration::from_millis(1_000);
/// Connections of that store.
const CONNECTIONS: usize = 3;
/// How long others wait.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// A store on a way that can be cut, and one beside it that looks at what came of it.
struct World {
    store: Arc<dyn Store>,
    beside: Arc<dyn Store>,
    proxy: Proxy,
    clock: ManualClock,
    scenes: AtomicUsize,
}

/// How an operation goes on a way that is well.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    before: Vec<String>,
    told: String,
    done: Vec<String>,
    told_again: String,
    done_again: Vec<String>,
}

/// What became of an operation that was not answered, and how often.
#[derive(Debug, Default)]
struct Tally {
    done: usize,
    not_done: usize,
    answered: usize,
}

impl World {
    async fn open(engine: &Engine, connections: usize, patience: Duration) -> World {
        let (clock, proxy) = (ManualClock::new(), Proxy::start(engine.port()).await.unwrap());
        let beside = engine.open(engine.port(), SPACE, 2, CALL_TIMEOUT, Some(&clock)).await.unwrap();
        let store = engine.open(proxy.port(), SPACE, connections, patience, Some(&clock)).await.unwrap();
        World { store, beside, proxy, clock, scenes: AtomicUsize::new(0) }
    }

    async fn scene(&self) -> Scene {
        let number = self.scenes.fetch_add(1, Ordering::Relaxed);
        Scene::make(&*self.beside, number, self.clock.now()).await
    }

    async fn look(&self, scene: &Scene) -> Vec<String> {
        scene.look(&*self.beside).await
    }

    /// Does it twice.
    async fn expected(&self, op: Op) -> Expected {
        let scene = self.scene().await;
        let before = self.look(&scene).await;
        self.let_time_pass(op);
        let told = scene.run(op, &*self.store).await.unwrap();
        let told = scene.words(&*self.beside, told).await;
        let done = self.look(&scene).await;
        let told_again = scene.run(op, &*self.store).await.unwrap();
        let told_again = scene.words(&*self.beside, told_again).await;
        let done_again = self.look(&scene).await;
        assert_eq!(op.changes(), done != before && op != Op::Sweep, "{op:?}: {done:#?}");
        Expected { before, told, done, told_again, done_again }
    }

    fn let_time_pass(&self, op: Op) {
        if op == Op::Sweep {
            self.clock.advance(LATER);
        }
    }

    /// Judges what was told, does it again, judges that. Whether it was done the first time.
    async fn judge(
        &self,
        op: Op,
        scene: &Scene,
        expected: &Expected,
        told: Result<Told>,
        what: &str,
    ) -> bool {
        let now = self.look(scene).await;
        let is_done = match &told {
            Ok(_) => true,
            Err(StoreError::Unavailable(_)) => false,
            Err(StoreError::Unknown(_)) if op.changes() || op == Op::Sweep => now == expected.done,
            Err(error) => panic!("{op:?} {what}: {error:?}"),
        };
        // What only time brings may have been noticed by any look.
        if op != Op::Sweep {
            let wanted = if is_done { &expected.done } else { &expected.before };
            let told = told.as_ref().map(|_| ());
            assert_eq!(&now, wanted, "{op:?} {what}, told {told:?}");
        }
        if let Ok(told) = told {
            assert_eq!(scene.words(&*self.beside, told).await, expected.told, "{op:?} {what}");
        }
        let again = scene.run(op, &*self.store).await;
        let again = again.unwrap_or_else(|error| panic!("{op:?} again, {what}: {error:?}"));
        let again = scene.words(&*self.beside, again).await;
        let (wanted, done) = match is_done {
            true => (&expected.told_again, &expected.done_again),
            false => (&expected.told, &expected.done),
        };
        assert_eq!(&again, wanted, "{op:?} again, {what}");
        assert_eq!(&self.look(scene).await, done, "{op:?} again, {what}");
        is_done
    }

    /// Cuts it at the first byte of request and answer, at the last, and between; what only reads between.
    async fn cut(&self, op: Op) -> Tally {
        let expected = self.expected(op).await;
        // Once more on a connection that has done it before: then it is one request and one answer.
        let scene = self.scene().await;
        self.let_time_pass(op);
        self.proxy.watch(None);
        let told = scene.run(op, &*self.store).await;
        let whole = self.proxy.passed();
        self.judge(op, &scene, &expected, told, "uncut").await;
        assert!(whole.request > 1 && whole.answer > 1, "{op:?}: {whole:?}");
        let points = |all: u64| match op.changes() {
            true => vec![0, all / 2, all - 1],
            false => vec![all / 2],
        };
        let requests = points(whole.request).into_iter().map(Cut::Request);
        let mut tally = Tally::default();
        for cut in requests.chain(points(whole.answer).into_iter().map(Cut::Answer)) {
            let scene = self.scene().await;
            self.let_time_pass(op);
            self.proxy.watch(Some(cut));
            let told = in_time(scene.run(op, &*self.store)).await;
            let passed = self.proxy.passed();
            let is_answered = told.is_ok();
            assert!(!op.changes() || !is_answered || !passed.is_cut, "{op:?} {cut:?} was answered");
            let what = format!("{cut:?} of {whole:?}");
            match (self.judge(op, &scene, &expected, told, &what).await, is_answered) {
                (_, true) => tally.answered += 1,
                (true, false) => tally.done += 1,
                (false, false) => tally.not_done += 1,
            }
        }
        tally
    }
}

async fn in_time<T>(answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, answer).await.expect("it ends")
}

async fn a_cut_connection_is_told_as_it_was(engine: Engine) {
    // One connection, so that what is cut is the operation's.
    let world = World::open(&engine, 1, CALL_TIMEOUT).await;
    for op in Op::ALL {
        let tally = world.cut(op).await;
        println!("{op:?}: {tally:?}");
        assert!(!op.changes() || (tally.done > 0 && tally.not_done > 0), "{op:?}: {tally:?}");
    }
}

/// Waits until every connection of the pool works again.
async fn goes_on(world: &World, scene: &Scene) {
    let all = async {
        let mut in_a_row = 0;
        while in_a_row < 3 * CONNECTIONS {
            in_a_row += 1;
            if scene.run(Op::Depth, &*world.store).await.is_err() {
                in_a_row = 0;
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("it goes on by itself");
}

/// Everything at once, into a silence: each ends, tells the truth, and goes on when the way is well again.
async fn a_silent_connection_is_told_as_it_was(engine: Engine) {
    let world = World::open(&engine, CONNECTIONS, IMPATIENCE).await;
    let mut all = Vec::new();
    for op in Op::ALL.into_iter().filter(|op| *op != Op::Sweep) {
        all.push((op, world.expected(op).await));
    }
    for flow in [Flow::Silent, Flow::Mute] {
        let mut scenes = Vec::new();
        for _ in &all {
            scenes.push(world.scene().await);
        }
        world.proxy.set(flow);
        let swallowed = world.proxy.swallowed();
        let asked = all.iter().zip(&scenes).map(|((op, _), scene)| scene.run(*op, &*world.store));
        let told = in_time(join_all(asked)).await;
        assert!(world.proxy.swallowed() > swallowed);
        world.proxy.set(Flow::Open);
        goes_on(&world, &scenes[0]).await;
        for (((op, expected), scene), told) in all.iter().zip(&scenes).zip(told) {
            assert!(told.is_err(), "{op:?} was answered in a silence, {flow:?}");
            world.judge(*op, scene, expected, told, &format!("{flow:?}")).await;
        }
    }
}

/// What the server did and could not tell.
async fn an_answer_that_never_comes_is_unknown(engine: Engine) {
    let world = World::open(&engine, 1, IMPATIENCE).await;
    for op in [Op::Enqueue, Op::Ack, Op::Append] {
        let expected = world.expected(op).await;
        let scene = world.scene().await;
        world.proxy.set(Flow::Mute);
        let told = in_time(scene.run(op, &*world.store)).await;
        world.proxy.set(Flow::Open);
        goes_on(&world, &scene).await;
        assert!(matches!(told, Err(StoreError::Unknown(_))), "{op:?}");
        assert!(world.judge(op, &scene, &expected, told, "mute").await, "{op:?} was asked for");
    }
}

/// Bytes trickle: nothing fails.
async fn a_slow_connection_changes_nothing(engine: Engine) {
    let world = World::open(&engine, 1, CALL_TIMEOUT).await;
    world.proxy.set(Flow::Slow { bytes: 100, pause: Duration::from_millis(1) });
    for op in Op::ALL {
        let slow = world.expected(op).await;
        let scene = world.scene().await;
        let before = world.look(&scene).await;
        world.let_time_pass(op);
        let told = scene.run(op, &*world.beside).await.unwrap();
        let told = scene.words(&*world.beside, told).await;
        let done = world.look(&scene).await;
        assert_eq!((slow.before, slow.told, slow.done), (before, told, done), "{op:?}");
    }
}

#[cfg(feature = "redis")]
mod redis {
    use super::*;

    #[tokio::test]
    async fn a_cut_connection_to_redis_is_told_as_it_was() {
        let Some(engine) = Engine::redis() else { return };
        a_cut_connection_is_told_as_it_was(engine).await;
    }

    #[tokio::test]
    async fn a_silent_connection_to_redis_is_told_as_it_was() {
        let Some(engine) = Engine::redis() else { return };
        a_silent_connection_is_told_as_it_was(engine).await;
    }

    #[tokio::test]
    async fn an_answer_of_redis_that_never_comes_is_unknown() {
        let Some(engine) = Engine::redis() else { return };
        an_answer_that_never_comes_is_unknown(engine).await;
    }

    #[tokio::test]
    async fn a_slow_connection_to_redis_changes_nothing() {
        let Some(engine) = Engine::redis() else { return };
        a_slow_connection_changes_nothing(engine).await;
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::*;

    #[tokio::test]
    async fn a_cut_connection_to_postgres_is_told_as_it_was() {
        let Some(engine) = Engine::postgres() else { return };
        a_cut_connection_is_told_as_it_was(engine).await;
    }

    #[tokio::test]
    async fn a_silent_connection_to_postgres_is_told_as_it_was() {
        let Some(engine) = Engine::postgres() else { return };
        a_silent_connection_is_told_as_it_was(engine).await;
    }

    #[tokio::test]
    async fn an_answer_of_postgres_that_never_comes_is_unknown() {
        let Some(engine) = Engine::postgres() else { return };
        an_answer_that_never_comes_is_unknown(engine).await;
    }

    #[tokio::test]
    async fn a_slow_connection_to_postgres_changes_nothing() {
        let Some(engine) = Engine::postgres() else { return };
        a_slow_connection_changes_nothing(engine).await;
    }
}
