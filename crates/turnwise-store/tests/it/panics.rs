//! A fault in the thread that owns the file ends the whole process: its
//! memory cannot be trusted, and nothing false may be acknowledged.

use crate::{enqueue, message, queue, run, ticking};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use turnwise_core::QueueStore;
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};

/// Set in the process that is to end: the folder.
const CHILD: &str = "TURNWISE_TEST_PANIC_FOLDER";
const SIGABRT: i32 = 6;

/// Stores one message, then meets a fault in the store's own thread.
fn end(folder: &Path) {
    let fault = Arc::new(AtomicBool::new(false));
    let (clock, trigger) = (ticking(), Arc::clone(&fault));
    let clock: turnwise_store::Clock = Arc::new(move || {
        let is_owner = std::thread::current().name() != Some("asks");
        assert!(!(is_owner && trigger.load(Ordering::SeqCst)), "a fault, made for this test");
        clock()
    });
    let asking = std::thread::Builder::new().name("asks".to_owned()).spawn({
        let folder = folder.to_owned();
        move || {
            run(async {
                let store = EmbeddedStore::open(&folder, EmbeddedConfig::default(), clock).unwrap();
                enqueue(&*store, message(b"kept")).await.unwrap();
                fault.store(true, Ordering::SeqCst);
                let answer = enqueue(&*store, message(b"lost")).await;
                panic!("the process goes on after {answer:?}");
            });
        }
    });
    asking.unwrap().join().unwrap();
}

#[test]
fn a_panic_in_the_stores_thread_ends_the_process() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return end(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let name = "panics::a_panic_in_the_stores_thread_ends_the_process";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.signal(), Some(SIGABRT), "{said}");
    assert!(said.contains("a fault, made for this test"), "{said}");
    run(async {
        let store = EmbeddedStore::open(&path, EmbeddedConfig::default(), ticking()).unwrap();
        let depth = store.depth(&queue()).await.unwrap();
        assert_eq!(depth.ready, 1, "what was acknowledged before is there, nothing else: {depth:?}");
    });
}
