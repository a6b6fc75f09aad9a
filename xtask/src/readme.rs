//! Runs what the README tells newcomers to type: every block marked
//! `<!-- run: KIND, shows: TEXT -->`, against a real server with the fake agent
//! and with each agent of `examples/`. The pair of commands at the top is marked
//! `serve` and `send`: the one starts the server, what the other prints is compared.

use crate::running::{Running, Scratch, free_port};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The address that the README's blocks talk to.
const WRITTEN: &str = "127.0.0.1:8000";
/// How the README's commands call the program.
const CALLED: &str = "$ cargo run --release -- ";
/// How long one block may run.
const BLOCK_SECONDS_MAX: &str = "60";

/// A runnable block of the README.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    kind: String,
    shows: String,
    text: String,
}

/// Runs every block with the program at `turnwise`.
///
/// # Errors
/// When a server does not start, a block fails, or it does not print what it should.
pub fn run(root: &Path, turnwise: &Path) -> Result<()> {
    let turnwise =
        turnwise.canonicalize().with_context(|| format!("no program at {}", turnwise.display()))?;
    let text = fs::read_to_string(root.join("README.md")).context("reading README.md")?;
    let blocks = blocks(&text)?;
    ensure!(!blocks.is_empty(), "README.md marks no block as runnable");
    let (pair, blocks): (Vec<_>, Vec<_>) = blocks.into_iter().partition(is_of_pair);
    run_pair(&pair, &turnwise)?;
    run_all(&blocks, &turnwise, "the fake agent", None)?;
    for (program, file) in [("python3", "agent.py"), ("node", "agent.mjs")] {
        let port = free_port()?;
        let mut command = Command::new(program);
        command.arg(root.join("examples").join(file)).env("PORT", port.to_string());
        let _agent =
            Running::start(&mut command, port).with_context(|| format!("starting examples/{file}"))?;
        run_all(&blocks, &turnwise, file, Some(port))?;
    }
    Ok(())
}

fn is_of_pair(block: &Block) -> bool {
    matches!(block.kind.as_str(), "serve" | "send")
}

/// Starts the server as the README says, sends as it says, and compares what is printed after the id.
fn run_pair(pair: &[Block], turnwise: &Path) -> Result<()> {
    let [serve, send] = pair else { bail!("README.md marks one block `serve` and one `send`") };
    ensure!((serve.kind.as_str(), send.kind.as_str()) == ("serve", "send"), "first `serve`, then `send`");
    let port = free_port()?;
    let scratch = Scratch::new(port)?;
    let shell = |line: &str, more: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("exec \"$TURNWISE\" {line} {more}")]);
        command.env("TURNWISE", turnwise).env("PORT", port.to_string()).current_dir(&scratch.0);
        command
    };
    let (line, _) = called(serve)?;
    let _server = Running::start(&mut shell(line, ""), port).context("the serve block")?;
    let (line, expected) = called(send)?;
    let url = format!("--timeout {BLOCK_SECONDS_MAX} --url http://127.0.0.1:{port} 2>&1");
    let output = shell(line, &url).stdin(Stdio::null()).output()?;
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the send block ended with {}:\n{shown}", output.status);
    ensure!(
        after_id(&shown) == after_id(expected) && expected.contains(&send.shows),
        "the send block printed:\n{shown}\ninstead of, apart from the id:\n{expected}"
    );
    println!("readme: serve and send: ok");
    Ok(())
}

/// The arguments of a block's command, and what stands below it.
fn called(block: &Block) -> Result<(&str, &str)> {
    let (command, shown) = block.text.split_once('\n').context("a block has a line")?;
    let line = command.strip_prefix(CALLED).with_context(|| format!("a command begins with `{CALLED}`"))?;
    Ok((line, shown))
}

/// The lines below the first one, without the spaces at their ends, which nobody sees.
fn after_id(shown: &str) -> Vec<&str> {
    shown.trim_end().lines().skip(1).map(str::trim_end).collect()
}

fn run_all(blocks: &[Block], turnwise: &Path, agent: &str, agent_port: Option<u16>) -> Result<()> {
    let port = free_port()?;
    let scratch = Scratch::new(port)?;
    let folder = scratch.0.as_path();
    let mut command = Command::new(turnwise);
    command.arg("serve").env("PORT", port.to_string()).env("TURNWISE_STORE", "memory").current_dir(folder);
    match agent_port {
        Some(agent_port) => command.env("WORKER_BASE_URL", format!("http://127.0.0.1:{agent_port}")),
        None => command.arg("--mock-agent"),
    };
    let _server = Running::start(&mut command, port).context("starting turnwise serve")?;
    for block in blocks {
        run_block(block, folder, port).with_context(|| format!("the {} block with {agent}", block.kind))?;
        println!("readme: {} with {agent}: ok", block.kind);
    }
    Ok(())
}

fn run_block(block: &Block, folder: &Path, port: u16) -> Result<()> {
    let (program, file) = match block.kind.as_str() {
        "bash" => ("bash", "block.sh"),
        "typescript" => ("node", "block.mjs"),
        "python" => ("python3", "block.py"),
        other => bail!("no program known for {other}"),
    };
    let path: PathBuf = folder.join(file);
    fs::write(&path, block.text.replace(WRITTEN, &format!("127.0.0.1:{port}")))?;
    let output = Command::new("timeout").arg(BLOCK_SECONDS_MAX).arg(program).arg(&path).output()?;
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ended with {}:\n{shown}{errors}", output.status);
    ensure!(shown.contains(&block.shows), "did not print `{}`:\n{shown}{errors}", block.shows);
    Ok(())
}

/// The marked blocks of a Markdown text.
fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    for part in text.split("<!-- run: ").skip(1) {
        let (head, rest) = part.split_once(" -->\n").context("a run mark is not closed")?;
        let (kind, shows) = head.split_once(", shows: ").context("a run mark says what it shows")?;
        let (_, fenced) = rest.split_once("```").context("a run mark stands before a fenced block")?;
        let (_, fenced) = fenced.split_once('\n').context("a fenced block has lines")?;
        let (text, _) = fenced.split_once("\n```").context("a fenced block is closed")?;
        found.push(Block { kind: kind.to_owned(), shows: shows.to_owned(), text: format!("{text}\n") });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Block, after_id, blocks, called};

    #[test]
    fn a_command_is_told_from_what_it_prints() {
        let text = "$ cargo run --release -- send \"hi\"\n7-1\nprocessing\nhi\n";
        let block = Block { kind: "send".to_owned(), shows: "hi".to_owned(), text: text.to_owned() };
        let (line, shown) = called(&block).expect("it is a call");
        assert_eq!((line, after_id(shown)), ("send \"hi\"", vec!["processing", "hi"]));
    }

    #[test]
    fn marked_blocks_are_found() {
        let text = "a\n<!-- run: bash, shows: hi -->\n```bash\necho hi\necho ho\n```\n```bash\nno\n```\n";
        let expected =
            Block { kind: "bash".to_owned(), shows: "hi".to_owned(), text: "echo hi\necho ho\n".to_owned() };
        assert_eq!(blocks(text).expect("well formed"), [expected]);
        assert!(blocks("<!-- run: bash -->\n```\nx\n```\n").is_err());
    }
}
