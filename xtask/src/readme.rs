//! Runs what the README tells newcomers to type: every block marked
//! `<!-- run: KIND, shows: TEXT -->`, against a real server with the fake agent
//! and with each agent of `examples/`.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The address that the README's blocks talk to.
const WRITTEN: &str = "127.0.0.1:8000";
/// How long a server may take until it accepts connections.
const START_TRIES_MAX: u32 = 300;
/// Between two tries.
const START_PAUSE: Duration = Duration::from_millis(100);
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

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A folder that goes away with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(port: u16) -> Result<Scratch> {
        let folder = std::env::temp_dir().join(format!("turnwise-readme-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A child that ends with its owner.
struct Running(Child);

impl Running {
    /// Starts it and waits until its port accepts.
    fn start(command: &mut Command, port: u16) -> Result<Running> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut running = Running(child);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for _ in 0..START_TRIES_MAX {
            if TcpStream::connect(address).is_ok() {
                return Ok(running);
            }
            if let Some(status) = running.0.try_wait()? {
                bail!("it ended with {status}");
            }
            std::thread::sleep(START_PAUSE);
        }
        bail!("it does not accept connections on port {port}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, blocks};

    #[test]
    fn marked_blocks_are_found() {
        let text = "a\n<!-- run: bash, shows: hi -->\n```bash\necho hi\necho ho\n```\n```bash\nno\n```\n";
        let expected =
            Block { kind: "bash".to_owned(), shows: "hi".to_owned(), text: "echo hi\necho ho\n".to_owned() };
        assert_eq!(blocks(text).expect("well formed"), [expected]);
        assert!(blocks("<!-- run: bash -->\n```\nx\n```\n").is_err());
    }
}
