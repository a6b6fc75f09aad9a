//! The page of the examples in a real browser, driven by the DevTools protocol
//! over a pipe.

use crate::support::{PATIENCE, serve};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use turnwise_mock::{AgentConfig, Conn, FakeAgent};

/// Sends a message from the page; every text it then shows, and its state at the end.
const SEND_AND_WATCH: &str = r##"
    new Promise((resolve) => {
        const find = (id) => document.getElementById(id);
        const shown = [];
        new MutationObserver(() => {
            const answer = find("answer").textContent;
            if (answer && answer !== shown.at(-1)) shown.push(answer);
            const state = find("state").textContent;
            if (/^(done|cancelled|failed)/.test(state)) resolve({ shown, state });
        }).observe(document.body, { subtree: true, childList: true });
        find("text").value = "hello [[events=3 gap=30]]";
        find("form").requestSubmit();
    })"##;

/// Whether a program is there; in CI it must be.
fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        println!("NOT RUN: {program}");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{program} must be installed in CI");
    }
    found
}

/// A browser without a window and one page in it.
struct Browser {
    process: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
    page: Option<String>,
    last: u64,
    /// What was reported of the page's console and requests.
    notes: Vec<Value>,
}

/// The reports that are kept for the test to look at.
const NOTES: [&str; 4] =
    ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Network.requestWillBeSent"];

impl Browser {
    async fn start(profile: &Path) -> Browser {
        let mut command = Command::new("sh");
        // The browser takes orders on descriptor 3 and reports on 4.
        command.args(["-c", r#"exec chromium "$@" 3<&0 4>&1 >/dev/null 2>&1 </dev/null"#, "browser"]);
        command.args(["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"]);
        command.args(["--disable-dev-shm-usage", "--disable-background-networking", "--no-proxy-server"]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        if rustix::process::geteuid().is_root() {
            command.arg("--no-sandbox");
        }
        command.env("HOME", profile).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let orders = process.stdin.take().unwrap();
        let reports = BufReader::new(process.stdout.take().unwrap());
        let mut browser = Browser { process, orders, reports, page: None, last: 0, notes: Vec::new() };
        let target = browser.order("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.order("Target.attachToTarget", attach).await;
        browser.page = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.order(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// Sends an order to the page, or to the browser while there is none; what it answered.
    async fn order(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut order = json!({"id": self.last, "method": method, "params": params});
        if let Some(page) = &self.page {
            order["sessionId"] = page.as_str().into();
        }
        self.orders.write_all(format!("{order}\0").as_bytes()).await.unwrap();
        let id = self.last;
        let report = self.report(|report| report["id"] == id).await;
        assert!(report["error"].is_null(), "{method}: {report}");
        report["result"].clone()
    }

    /// The next report of this kind; others are passed over.
    async fn report(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let next = async {
            loop {
                let mut bytes = Vec::new();
                self.reports.read_until(0, &mut bytes).await.unwrap();
                assert_eq!(bytes.pop(), Some(0), "the browser ended");
                let report: Value = serde_json::from_slice(&bytes).unwrap();
                if NOTES.iter().any(|kind| report["method"] == *kind) {
                    self.notes.push(report.clone());
                }
                if wanted(&report) {
                    return report;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the browser reports in time")
    }

    async fn open(&mut self, url: &str) {
        self.order("Page.navigate", json!({"url": url})).await;
        self.report(|report| report["method"] == "Page.loadEventFired").await;
    }

    /// What a script in the page comes to.
    async fn run(&mut self, script: &str) -> Value {
        let script = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let result = self.order("Runtime.evaluate", script).await;
        assert!(result["exceptionDetails"].is_null(), "{result}");
        result["result"]["value"].clone()
    }

    async fn close(mut self) {
        self.page = None;
        self.order("Browser.close", json!({})).await;
        tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("it closes in time").unwrap();
    }
}

/// Serves the folder of the examples as the page tells its readers to; its address.
async fn examples() -> (Child, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut command = Command::new("python3");
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(folder);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut process = command.spawn().expect("python3 is installed");
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it starts in time").unwrap();
    let line = line.expect("it says where it listens");
    let (_, address) = line.split_once("(http://").unwrap();
    let (address, _) = address.split_once("/)").unwrap();
    (process, format!("http://{address}"))
}

#[tokio::test]
async fn a_page_submits_and_shows_the_streamed_answer() {
    if !found("chromium") {
        return;
    }
    let (folder, profile) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), AgentConfig::default()).await.unwrap();
    let (_examples, origin) = examples().await;
    let cors = [("TURNWISE_CORS_ORIGINS", origin.as_str())];
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &cors).await;
    let mut browser = Browser::start(profile.path()).await;
    browser.open(&format!("{origin}/stream.html?broker={}", server.url())).await;
    let shown = browser.run(SEND_AND_WATCH).await;
    let (one, two, three) = ("part 1 ", "part 1 part 2 ", "part 1 part 2 part 3 ");
    let whole = "You said: hello [[events=3 gap=30]]";
    assert_eq!(shown, json!({"shown": [one, two, three, whole], "state": "done"}));
    browser.close().await;
    assert!(agent.journal().log().calls.iter().all(|call| call.stream), "the page was streamed to");
}

/// Waits until the page of the API has come to an end; everything it then shows.
const READ_DOCS: &str = r##"
    new Promise((resolve) => {
        const done = () => document.body.dataset.state;
        const read = () => resolve({
            state: done(),
            operations: [...document.querySelectorAll(".operation > summary")].map((it) => it.innerText),
            statuses: [...document.querySelectorAll("#submitMessage .status")].map((it) => it.textContent),
            schemas: document.querySelectorAll(".schema").length,
            curl: document.querySelector("#submitMessage pre").textContent,
            policies: [...document.querySelectorAll("script:not([src]), style, [style], [onclick]")].length,
        });
        if (done()) return read();
        new MutationObserver(() => done() && read()).observe(document.body, { attributes: true });
    })"##;

#[tokio::test]
async fn the_page_of_the_api_shows_every_route_and_loads_nothing_from_elsewhere() {
    if !found("chromium") {
        return;
    }
    let (folder, profile) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server =
        serve(folder.path(), 0, None, &[("BROKER_API_KEY", "a-key-that-the-page-does-not-need")]).await;
    let mut browser = Browser::start(profile.path()).await;
    browser.open(&format!("{}/docs", server.url())).await;
    let shown = browser.run(READ_DOCS).await;
    let api = Conn::new(server.url()).call(Method::GET, "/openapi.json", &[], Bytes::new()).await.unwrap();
    let api: Value = api.json().unwrap();
    let mut expected = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, it) in item.as_object().unwrap() {
            let summary = it["summary"].as_str().unwrap();
            expected.push(format!("{}{path} – {summary}", method.to_uppercase()));
        }
    }
    let mut operations: Vec<_> = shown["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap().to_owned())
        .collect();
    operations.sort();
    expected.sort();
    assert_eq!((&shown["state"], operations), (&json!("shown"), expected));
    let statuses = api["paths"]["/api/v1/message"]["post"]["responses"].as_object().unwrap().len();
    assert_eq!(shown["statuses"].as_array().unwrap().len(), statuses);
    assert_eq!(shown["schemas"], api["components"]["schemas"].as_object().unwrap().len());
    let curl = shown["curl"].as_str().unwrap();
    assert!(
        curl.contains(&format!("'{}/api/v1/message'", server.url())) && curl.contains("$TURNWISE_KEY"),
        "{curl}"
    );
    assert_eq!(shown["policies"], 0, "nothing stands inline");
    for note in &browser.notes {
        assert_eq!(note["method"], "Network.requestWillBeSent", "the console is silent: {note}");
        let url = note["params"]["request"]["url"].as_str().unwrap();
        assert!(url.starts_with(server.url()) || url == "data:," || url == "about:blank", "{url}");
    }
    browser.close().await;
}
