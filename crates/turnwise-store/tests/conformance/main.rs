//! Every clause of `docs/semantics.md` on every engine of this crate, and
//! random histories against the naive model.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod engines;
#[cfg(feature = "postgres")]
mod postgres;
mod power_cut;
#[cfg(feature = "redis")]
mod redis;

use engines::{Folder, Memory, PowerCut};
use std::io::Write as _;
use turnwise_testkit::report::{Table, check, named};
use turnwise_testkit::trial::Ran;
use turnwise_testkit::{Harness, model, servers};

/// Columns of the table without those of servers that are not installed.
const ENGINES: usize = 3;
static TABLE: Table = Table::new();

/// Columns of the table.
fn engines() -> usize {
    let redis = cfg!(feature = "redis") && servers::find(servers::redis::PROGRAM, &[]).is_some();
    let postgres = cfg!(feature = "postgres") && servers::postgres::is_installed();
    // Redis has two columns: one server, and a cluster.
    ENGINES + if redis { 2 } else { 0 } + usize::from(postgres)
}

fn holds(clause: &str, harness: &dyn Harness) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ran = runtime.block_on(check(named(clause).expect("a clause of this name"), harness));
    let table = TABLE.enter(clause, harness.name(), ran.clone(), engines());
    if let Some(table) = &table {
        // Past the capture of test output: the table is what this run is for.
        let _ = std::io::stderr().write_all(format!("\n{}\n", table.text).as_bytes());
    }
    if let Ran::Broken(broken) = ran {
        panic!("{clause} is broken on {}: {broken}", harness.name());
    }
    if let Some(table) = table {
        assert!(table.never_ran.is_empty(), "no engine ran {:?}", table.never_ran);
    }
}

macro_rules! clauses {
    ([$harness:expr] $($file:ident $name:ident;)*) => {
        $(#[test]
        fn $name() {
            holds(stringify!($name), &$harness);
        })*
    };
}

mod memory {
    use super::*;
    turnwise_testkit::for_each_clause!(clauses, Memory::default());
}

mod embedded {
    use super::*;
    turnwise_testkit::for_each_clause!(clauses, Folder::default());
}

mod power_cuts {
    use super::*;
    turnwise_testkit::for_each_clause!(clauses, PowerCut::default());
}

#[cfg(feature = "redis")]
mod redis_clauses {
    use super::redis::{Redis, is_there};
    use super::*;

    macro_rules! clauses {
        ([$harness:expr] $($file:ident $name:ident;)*) => {
            $(#[test]
            fn $name() {
                if is_there() {
                    holds(stringify!($name), &$harness);
                }
            })*
        };
    }

    mod one {
        use super::*;
        turnwise_testkit::for_each_clause!(clauses, Redis::default());
    }

    mod cluster {
        use super::*;
        turnwise_testkit::for_each_clause!(clauses, Redis::cluster());
    }

    /// What a different wire could change: large batches and pages, a server that ends or hangs, bytes of any kind.
    const OVER_TLS: [&str; 8] = [
        "q01_enqueued_messages_survive_a_crash",
        "q02_a_key_is_first_in_first_out",
        "q05_a_dead_lease_changes_nothing",
        "q12_effects_happen_exactly_once",
        "q16_delivery_needs_no_wake_up",
        "t2_a_page_is_bounded_and_the_next_goes_on",
        "x2_a_store_that_hangs_answers_in_time",
        "x2_an_unknown_answer_is_safe_to_repeat",
    ];

    #[test]
    fn the_basics_hold_over_tls() {
        if !is_there() {
            return;
        }
        let harness = Redis::encrypted();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for clause in OVER_TLS {
            let ran = runtime.block_on(check(named(clause).expect("a clause of this name"), &harness));
            assert!(matches!(ran, Ran::Holds), "{clause}: {ran:?}");
        }
    }

    #[test]
    fn model_agrees_with_redis() {
        if is_there() {
            histories(&Redis::default(), 12, 80);
        }
    }

    #[test]
    fn redis_keeps_its_rules_with_many_clients_on_two_nodes() {
        if is_there() {
            crowds(&Redis::default(), 6);
        }
    }

    #[test]
    fn a_cluster_keeps_its_rules_with_many_clients_on_two_nodes() {
        if is_there() {
            crowds(&Redis::cluster(), 2);
        }
    }
}

#[cfg(feature = "postgres")]
mod postgres_clauses {
    use super::postgres::PrivatePostgres;
    use super::*;

    macro_rules! clauses {
        ([] $($file:ident $name:ident;)*) => {
            $(#[test]
            fn $name() {
                if let Some(server) = PrivatePostgres::start() {
                    holds(stringify!($name), &server);
                }
            })*
        };
    }
    turnwise_testkit::for_each_clause!(clauses);

    #[test]
    fn model_agrees_with_postgres() {
        if let Some(server) = PrivatePostgres::start() {
            histories(&server, 16, 80);
        }
    }

    #[test]
    fn postgres_keeps_its_rules_with_many_clients_on_two_nodes() {
        if let Some(server) = PrivatePostgres::start() {
            crowds(&server, 6);
        }
    }
}

fn histories(harness: &dyn Harness, count: u64, steps: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(model::run(harness, count, steps)) {
        Ok(reached) => println!("{}: {reached:?}", harness.name()),
        Err(broken) => panic!("{broken}"),
    }
}

/// `TURNWISE_CROWDS` times as many histories as here.
fn crowds(harness: &dyn Harness, count: u64) {
    let times = std::env::var("TURNWISE_CROWDS").map_or(1, |times| times.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    match runtime.block_on(model::concurrent::run(harness, count * times, 10)) {
        Ok((reached, overlaps)) => {
            println!("{}: {overlaps} pairs at the same time, {reached:?}", harness.name());
            assert!(overlaps > 0 && reached.claimed > 0 && reached.stale > 0, "{overlaps}, {reached:?}");
        }
        Err(broken) => panic!("{broken}"),
    }
}

#[test]
fn memory_keeps_its_rules_with_many_clients() {
    crowds(&Memory::default(), 30);
}

#[test]
fn embedded_keeps_its_rules_with_many_clients() {
    crowds(&Folder::default(), 6);
}

#[test]
fn model_agrees_with_memory() {
    histories(&Memory::default(), 300, 120);
}

#[test]
fn model_agrees_with_embedded() {
    histories(&Folder::default(), 10, 80);
}

#[test]
fn model_agrees_with_embedded_over_power_cuts() {
    histories(&PowerCut::default(), 120, 100);
}
