//! The examples of the repository, run as their readers will.

use crate::support::{json_lines, run, serve, turnwise};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

#[tokio::test]
async fn the_python_agent_answers() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/agent.py");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _agent = tokio::process::Command::new("python3")
        .arg(script)
        .env("PORT", port.to_string())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("python3 is installed");
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let server = serve(folder.path(), 0, Some(&format!("http://127.0.0.1:{port}")), &[]).await;
    let send = |more: &[&str]| {
        let mut command = turnwise(folder.path());
        command.args(["send", "--user", "alice", "hello there", "--url", server.url()]).args(more);
        command
    };
    let output = run(&mut send(&[])).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("hello"), "{text}");
    let output = run(&mut send(&["--json"])).await;
    assert_eq!(json_lines(&output.stdout).last().unwrap()["event"], "done");
}
