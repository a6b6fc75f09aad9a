//! `--json` on every command, found by walking the help of the binary itself.

use crate::support::{Running, json_lines, run, serve, turnwise};
use std::path::Path;

/// The id of nothing.
const UNKNOWN: &str = "00000000-0000-8000-8000-000000000000";

/// Arguments with which a command can be run; a new command needs a line here.
fn arguments(command: &[String], url: &str) -> Vec<String> {
    let words: &[&str] = match command.join(" ").as_str() {
        "send" => &["--user", "alice", "hello", "--url", url],
        "demo" => &["--duration", "1", "--seed", "1"],
        "bench turns" => &["--seconds", "1", "--clients", "4"],
        "bench backlog" => &["--turns", "200", "--conversations", "20", "--ended", "20"],
        "bench streams" => &["--count", "8", "--seconds", "1"],
        "status" | "tail" => &["--url", url],
        "completions" => &["bash"],
        "dead list" => &["--url", url],
        "dead redrive" => &["--all", "--yes", "--url", url],
        "dead show" => &[UNKNOWN, "--url", url],
        "dead drop" => &[UNKNOWN, "--yes", "--url", url],
        "topic list" => &["--org", "o", "--url", url],
        "topic read" => &["t", "--org", "o", "--url", url],
        "topic follow" => &["t", "--org", "o", "--url", url],
        // It comes first: the others then have something to show.
        "topic publish" => &["t", "1", "--type", "x", "--org", "o", "--url", url],
        "queue list" => &["--org", "nobody", "--url", url],
        "queue messages" => &["jobs", "--org", "nobody", "--url", url],
        "queue show" | "queue pause" | "queue resume" => &["jobs", "--org", "acme", "--url", url],
        "queue send" => &["jobs", "{}", "--org", "acme", "--url", url],
        "queue message" => &["jobs", UNKNOWN, "--org", "acme", "--url", url],
        "queue redrive" => &["jobs", "--all", "--yes", "--org", "acme", "--url", url],
        "queue purge" => &["jobs", "--yes", "--org", "acme", "--url", url],
        "bench fairness" => &["--seconds", "1", "--readers", "10"],
        "bench outage" => &["--seconds", "1", "--readers", "10"],
        "bench queue" => &["--seconds", "1", "--store", "memory"],
        "bench nodes" => &["--store", "embedded"],
        "import original" => &["--redis", "redis://127.0.0.1:1", "--url", url],
        "bench fanout" => &["--readers", "20", "--seconds", "1"],
        "bench sockets" => &["--count", "20", "--seconds", "1", "--messages", "10"],
        "bench soak" => &["--minutes", "0.05"],
        "serve" => &["--port", "0", "--mock-agent", "--store", "memory"],
        "agent mock" => &["--listen", "127.0.0.1:0"],
        "keys new" | "config check" | "config show" | "config init" | "config reference" | "version" => &[],
        other => panic!("add arguments for `turnwise {other}`"),
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What a command answers that is given something which is not there.
fn failing(command: &[String]) -> Option<i32> {
    match command.join(" ").as_str() {
        "dead show" | "dead drop" | "queue message" => Some(3),
        "import original" => Some(6),
        "bench nodes" => Some(2),
        _ => None,
    }
}

/// Every command that has no commands below it.
async fn leaves(folder: &Path) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(path) = open.pop() {
        let output = run(turnwise(folder).args(&path).arg("--help")).await;
        let help = String::from_utf8(output.stdout).unwrap();
        let below: Vec<String> = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(str::to_owned)
            .collect();
        if below.is_empty() {
            found.push(path);
            continue;
        }
        open.extend(below.into_iter().map(|name| path.iter().cloned().chain([name]).collect()));
    }
    found
}

#[tokio::test]
async fn every_command_prints_json_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let agent =
        turnwise_mock::FakeAgent::start(([127, 0, 0, 1], 0).into(), Default::default()).await.unwrap();
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    let leaves = leaves(folder.path()).await;
    assert!(leaves.len() >= 10, "{leaves:?}");
    for leaf in leaves {
        let mut command = turnwise(folder.path());
        command.args(&leaf).arg("--json").args(arguments(&leaf, server.url()));
        if matches!(leaf.join(" ").as_str(), "serve" | "agent mock" | "tail" | "topic follow") {
            let running = Running::start(&mut command).await;
            assert_eq!(running.ready["ready"], true, "{leaf:?}");
            assert_eq!(running.terminate().await, Some(0), "{leaf:?}");
            continue;
        }
        let output = run(&mut command).await;
        if let Some(code) = failing(&leaf) {
            assert_eq!(output.status.code(), Some(code), "{leaf:?}");
            assert_eq!(json_lines(&output.stderr)[0]["error"]["exit_code"], code, "{leaf:?}");
            continue;
        }
        assert!(output.status.success(), "{leaf:?}: {}", String::from_utf8_lossy(&output.stderr));
        // A list of nothing is no lines.
        let nothing = matches!(leaf.join(" ").as_str(), "dead list" | "queue list" | "queue messages");
        assert_eq!(json_lines(&output.stdout).is_empty(), nothing, "{leaf:?}");
    }
}

#[tokio::test]
async fn failures_are_json_too_and_have_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), 0, None, &[("BROKER_API_KEY", "k")]).await;
    let url = server.url();
    for (arguments, code) in [
        (vec!["nonsense"], 2),
        (vec!["send", "--user", "a", "x", "--url", "ftp://h"], 2),
        (vec!["send", "--user", "a", "x", "--url", url], 4),
        (vec!["send", "--user", "a", "x", "--url", url, "--key", "wrong"], 4),
        (vec!["send", "--user", "a", " ", "--url", url, "--key", "k"], 2),
        (vec!["send", "--user", "a", "x", "--url", "http://127.0.0.1:1"], 6),
    ] {
        let output = run(turnwise(folder.path()).args(&arguments).arg("--json")).await;
        let lines = json_lines(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {lines:?}");
        assert_eq!(lines[0]["error"]["exit_code"], code);
        let title = lines[0]["error"]["title"].as_str().unwrap();
        assert!(!title.is_empty(), "{arguments:?}");
    }
}
