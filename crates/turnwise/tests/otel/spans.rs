//! Spans of a turn as a collector gets them over HTTP, with an agent that notes where it is in the trace.

use crate::support::{PATIENCE, Running, serve, turnwise};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use turnwise_mock::Conn;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Parts of what must be in no span.
const PRIVATE: [&str; 4] = ["a-secret-text", "a-private-user", "a-private-org", "a-private-client"];

/// What came to the collector and to the agent, which are one server here.
#[derive(Default)]
struct Came {
    exports: Vec<Value>,
    traceparents: Vec<String>,
}

struct World {
    url: String,
    came: Arc<Mutex<Came>>,
    _server: JoinSet<()>,
}

impl World {
    async fn start() -> World {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let came = Arc::<Mutex<Came>>::default();
        let mut server = JoinSet::new();
        let noted = Arc::clone(&came);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let noted = Arc::clone(&noted);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&noted), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        World { url, came, _server: server }
    }

    /// Every span that was exported.
    fn spans(&self) -> Vec<Value> {
        let came = self.came.lock().unwrap();
        let scopes = came.exports.iter().flat_map(|export| {
            let resource = &export["resourceSpans"][0];
            assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "turnwise");
            resource["scopeSpans"][0]["spans"].as_array().unwrap().clone()
        });
        scopes.collect()
    }

    fn traceparents(&self) -> Vec<String> {
        self.came.lock().unwrap().traceparents.clone()
    }
}

async fn answer(
    came: Arc<Mutex<Came>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut status = StatusCode::OK;
    let mut came = came.lock().unwrap();
    match head.uri.path() {
        "/v1/traces" => {
            assert_eq!(head.headers["content-type"], "application/json");
            came.exports.push(serde_json::from_slice(&body).unwrap());
        }
        "/api/v1/chat" | "/api/v1/chat/stream" => {
            came.traceparents.push(head.headers["traceparent"].to_str().unwrap().to_owned());
            status = StatusCode::NO_CONTENT;
        }
        _ => {}
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    Ok(response)
}

/// Sends a message and waits for its end; answers its id.
async fn send(server: &Running, user: &str, traceparent: Option<&str>) -> String {
    let body = format!(
        r#"{{"user_id":"a-private-user-{user}","org_id":"a-private-org","client_id":"a-private-client",
        "message":"a-secret-text"}}"#
    );
    let header = traceparent.map(|value| [("traceparent", value)]);
    let headers = header.as_ref().map_or(&[][..], |header| &header[..]);
    let mut conn = Conn::new(server.url());
    let call = conn.call(Method::POST, "/api/v1/message", headers, body.into());
    let answer = tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap();
    assert_eq!(answer.status, 200);
    answer.json::<Value>().unwrap()["message_id"].as_str().unwrap().to_owned()
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a str {
    let of_key = |attribute: &&Value| attribute["key"] == key;
    let found = span["attributes"].as_array().unwrap().iter().find(of_key);
    let value = &found.unwrap_or_else(|| panic!("no {key} in {span}"))["value"];
    value.get("stringValue").or(value.get("intValue")).unwrap().as_str().unwrap()
}

/// The spans of one turn: its request, its wait, its call.
fn of_turn<'a>(spans: &'a [Value], id: &str) -> [&'a Value; 3] {
    ["POST /api/v1/message", "turn wait", "agent call"].map(|name| {
        let mut found =
            spans.iter().filter(|span| span["name"] == name && attribute(span, "turnwise.message_id") == id);
        let span = found.next().unwrap_or_else(|| panic!("no {name} of {id} in {spans:?}"));
        assert!(found.next().is_none(), "{name} twice in {spans:?}");
        span
    })
}

fn nanos(span: &Value, key: &str) -> u128 {
    span[key].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_spans_of_a_turn_reach_the_collector_in_its_clients_trace() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start().await;
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", world.url.as_str())];
    let server = serve(folder.path(), 0, Some(&world.url), &env).await;
    let traced = send(&server, "1", Some(&format!("00-{TRACE}-{PARENT}-01"))).await;
    let untraced = send(&server, "2", None).await;
    send(&server, "3", Some(&format!("00-{TRACE}-{PARENT}-00"))).await;
    Conn::new(server.url()).get("/readyz").await.unwrap();
    assert_eq!(server.terminate().await, Some(0));

    let spans = world.spans();
    assert_eq!(spans.len(), 6, "no span of a probe or of what is not sampled: {spans:?}");
    let [request, wait, call] = of_turn(&spans, &traced);
    assert_eq!([&request["traceId"], &wait["traceId"], &call["traceId"]], [TRACE; 3]);
    assert_eq!(request["parentSpanId"], PARENT);
    assert_eq!([&wait["parentSpanId"], &call["parentSpanId"]], [&request["spanId"]; 2]);
    assert_eq!([&request["kind"], &wait["kind"], &call["kind"]], [2, 1, 3]);
    assert_eq!(attribute(request, "http.route"), "/api/v1/message");
    assert_eq!(attribute(request, "http.request.method"), "POST");
    assert_eq!(attribute(request, "http.response.status_code"), "200");
    assert_eq!(attribute(call, "turnwise.attempt"), "1");
    assert_eq!(attribute(call, "turnwise.outcome"), "answered");
    for span in &spans {
        assert!(nanos(span, "startTimeUnixNano") <= nanos(span, "endTimeUnixNano"), "{span}");
    }
    let [new, wait, call_of_new] = of_turn(&spans, &untraced);
    assert_eq!((new["traceId"].as_str().unwrap().len(), &new["parentSpanId"]), (32, &"".into()));
    assert_ne!(new["traceId"], TRACE);
    assert_eq!([&wait["traceId"], &call_of_new["traceId"]], [&new["traceId"]; 2]);

    let traceparents = world.traceparents();
    let header = |call: &Value| {
        format!("00-{}-{}-01", call["traceId"].as_str().unwrap(), call["spanId"].as_str().unwrap())
    };
    assert_eq!(traceparents[0], header(call), "the agent is below its call");
    assert_eq!(traceparents[1], header(call_of_new));
    assert!(traceparents[2].starts_with(&format!("00-{TRACE}-")), "{}", traceparents[2]);
    assert!(traceparents[2].ends_with("-00"), "not sampled stays so: {}", traceparents[2]);
    let text = format!("{spans:?}");
    for private in PRIVATE {
        assert!(!text.contains(private), "{private} in {text}");
    }
}

#[tokio::test]
async fn the_spans_of_a_turn_are_lost_without_harm_when_the_collector_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Held, and never accepted from: a collector that hangs.
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    let mut command = turnwise(folder.path());
    command
        .args(["serve", "--json", "--data-dir", "data", "--port", "0"])
        .envs([("WORKER_BASE_URL", &world.url), ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)])
        .stderr(Stdio::piped());
    let mut server = Running::start(&mut command).await;
    let mut stderr = server.process.stderr.take().unwrap();
    for user in ["1", "2", "3"] {
        send(&server, user, None).await;
    }
    assert_eq!(world.traceparents().len(), 3, "the agent is told where it is all the same");
    assert_eq!(server.terminate().await, Some(0));
    let (mut asked, _) = tokio::time::timeout(PATIENCE, nobody.accept()).await.unwrap().unwrap();
    let mut request = String::new();
    tokio::time::timeout(PATIENCE, asked.read_to_string(&mut request)).await.unwrap().unwrap();
    assert!(request.starts_with("POST /v1/traces "), "{request}");
    let mut log = String::new();
    stderr.read_to_string(&mut log).await.unwrap();
    let told = ["the last spans could not be sent in time", "spans were lost"];
    assert!(told.iter().any(|words| log.contains(words)), "{log}");
}
