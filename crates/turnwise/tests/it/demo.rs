//! The demo as a gate.

use crate::support::{json_lines, run, turnwise};

#[tokio::test]
async fn the_demo_finds_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        run(turnwise(folder.path()).args(["demo", "--check", "--json", "--duration", "3", "--seed", "7"]))
            .await;
    let report = &json_lines(&output.stdout)[0];
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(report["ok"], true);
    assert_eq!(report["server_kills"], 1, "{report:#}");
    assert_eq!(report["resumes"], 1, "{report:#}");
    assert_eq!(report["users"], 3);
    assert_eq!(report["clients"], 6);
}

/// The gate is worth something only if it closes.
#[tokio::test]
async fn the_demo_finds_deliberate_faults() {
    for (mutant, check) in
        [("LossAtKill", "lost"), ("LifoRetry", "out_of_order"), ("DoubleDispatch", "overlapping")]
    {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["demo", "--check", "--json", "--duration", "3", "--seed", "7", "--mutant", mutant];
        let output = run(turnwise(folder.path()).args(arguments)).await;
        let report = &json_lines(&output.stdout)[0];
        assert_eq!(output.status.code(), Some(7), "{mutant}: {report:#}");
        assert!(report["checks"][check].as_u64() > Some(0), "{mutant}: {report:#}");
    }
}
