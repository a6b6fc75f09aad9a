//! `turnwise send` as a person sees it: what it prints, how long it waits, and
//! the exit codes of what became of the turn.

use crate::support::{json_lines, run, serve, turnwise};
use http::Method;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use turnwise_mock::{Conn, FakeAgent};

#[tokio::test]
async fn it_waits_no_longer_than_it_was_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), 0, None, &[]).await;
    let arguments = ["send", "--user", "a", "hello", "--timeout", "1", "--json", "--url", server.url()];
    let output = run(turnwise(folder.path()).args(arguments)).await;
    let lines = json_lines(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{lines:?}");
    let hint = "no agent is configured or it is busy: `turnwise serve --mock-agent` brings one";
    assert_eq!(lines[0]["error"]["hint"], hint);
}

/// What became of the turn at the agent, as an exit code.
#[tokio::test]
async fn a_turn_that_failed_has_the_exit_code_of_its_status() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), Default::default()).await.unwrap();
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    for (text, code) in
        [("hello", 0), ("hello [[status=500]]", 1), ("hello [[status=404]]", 3), ("hello [[status=409]]", 5)]
    {
        let output =
            run(turnwise(folder.path()).args(["send", "--user", "a", text, "--url", server.url()])).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}: {errors}");
    }
}

#[tokio::test]
async fn a_turn_that_was_taken_back_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), 0, None, &[]).await;
    let mut sending = turnwise(folder.path())
        .args(["send", "--user", "a", "hello", "--url", server.url()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(sending.stderr.take().unwrap()).lines();
    let id = lines.next_line().await.unwrap().expect("the id comes first");
    let path = format!("/api/v1/message/{id}?user_id=a");
    let answer = Conn::new(server.url()).call(Method::DELETE, &path, &[], Default::default()).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(sending.wait().await.unwrap().code(), Some(5));
}

#[tokio::test]
async fn the_whole_answer_is_printed_if_the_parts_did_not_say_it() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), Default::default()).await.unwrap();
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    let text = "hello [[events=2 gap=20]]";
    let output =
        run(turnwise(folder.path()).args(["send", "--user", "a", text, "--url", server.url()])).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("part 1 part 2 \nYou said: {text}\n"));
}
