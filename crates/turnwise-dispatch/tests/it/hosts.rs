//! Hosts of callbacks that are hostile: names that lead inside, redirects,
//! answers without end. And those with the wrong certificate.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use turnwise_broker::CallbackState;
use turnwise_core::Timestamp;
use turnwise_dispatch::{Resolve, Resolved};
use turnwise_mock::{CallbackReceiver, Host};
use turnwise_store::{Clock, system_clock};

use crate::ORG;
use crate::callbacks::{Post, SECRET};
use crate::tls::TlsFront;

/// Answers each question with the next of these lists, and the last for ever.
struct Names {
    answers: Vec<Vec<SocketAddr>>,
    asked: AtomicUsize,
}

impl Names {
    fn new(answers: &[&[&str]]) -> Arc<Names> {
        let list = |list: &&[&str]| list.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Names { answers: answers.iter().map(list).collect(), asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Names {
    fn resolve(&self, _host: String, _port: u16) -> Resolved {
        let at = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        let answer = self.answers[at].clone();
        Box::pin(
            async move { if answer.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(answer) } },
        )
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_at_connect_whatever_stands_beside_it() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let inside = trap.local_addr().unwrap().to_string();
    let mixed = ["8.8.8.8:443", &inside];
    let others =
        ["10.0.0.1:443", "169.254.169.254:443", "[::1]:443", "[::ffff:127.0.0.1]:443", "[fd00::1]:443"];
    let mut lists: Vec<Vec<&str>> = vec![vec![&inside], mixed.to_vec()];
    lists.extend(others.iter().map(|&one| vec![one]));
    for list in lists {
        let mut post = Post::new(&[]).await;
        post.resolver = Names::new(&[&list]);
        post.send();
        let turn = post.submit("u", "m", "https://hooks.example/").await;
        let view = post.until_state(turn.id, CallbackState::Dead).await;
        let reason = view.last.unwrap().reason.unwrap();
        assert!(reason.starts_with("address_refused"), "{list:?}: {reason}");
        assert_eq!(view.attempts, 1, "{list:?}");
    }
    let touched = tokio::time::timeout(Duration::from_millis(50), trap.accept()).await;
    assert!(touched.is_err(), "nothing was connected");
}

/// Notes when it is asked, by a clock that jumps when it is asked first.
struct Jumping {
    address: SocketAddr,
    clock: Clock,
    jumped: Arc<AtomicI64>,
    jump: Duration,
    asked: Mutex<Vec<Timestamp>>,
}

impl Resolve for Jumping {
    fn resolve(&self, _host: String, _port: u16) -> Resolved {
        let mut asked = self.asked.lock().unwrap();
        if asked.is_empty() {
            self.jumped.store(i64::try_from(self.jump.as_micros()).unwrap(), Ordering::SeqCst);
        }
        asked.push((self.clock)());
        let address = self.address;
        Box::pin(async move { Ok(vec![address]) })
    }
}

#[tokio::test]
async fn nothing_is_posted_under_a_lease_that_may_end_before_the_answer() {
    let receiver = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let (jumped, real) = (Arc::new(AtomicI64::new(0)), system_clock());
    let offset = Arc::clone(&jumped);
    let clock: Clock = Arc::new(move || Timestamp(real().0 + offset.load(Ordering::SeqCst)));
    let mut post = Post::at(Arc::clone(&clock), &["gateway.internal"]).await;
    // One at a time: the second is leased with the first, and held. When its
    // turn comes, less is left of its lease than a request may take.
    post.config.host_concurrency = 1;
    let jump = post.stage.broker.config().callback_lease - post.config.timeout / 2;
    let (address, asked) = (receiver.address(), Mutex::default());
    let names = Arc::new(Jumping { address, clock, jumped, jump, asked });
    post.resolver = names.clone();
    let mut turns = Vec::new();
    for user in ["ann", "bob"] {
        let turn = post.submit(user, "m", "http://gateway.internal:7/x").await;
        post.stage.broker.wait_end(ORG, turn.id).await.unwrap();
        turns.push(turn.id);
    }
    post.send();
    for turn in turns {
        let view = post.until_state(turn, CallbackState::Delivered).await;
        assert_eq!(view.attempts, 1, "what was let go was no try");
    }
    let asked = names.asked.lock().unwrap().clone();
    assert_eq!((asked.len(), receiver.received().len()), (2, 2));
    let waited = asked[1].0 - asked[0].0;
    assert!(waited >= 1_000_000, "posted under the old lease, {waited} us after the first");
}

/// A name that changes its address between check and use has no use for it: it is asked once a try.
#[tokio::test]
async fn a_rebinding_name_is_asked_once_and_the_connection_goes_where_was_checked() {
    let receiver = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let trap = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let (first, then) = (receiver.address().to_string(), trap.address().to_string());
    let names = Names::new(&[&[&first], &[&then]]);
    let mut post = Post::new(&["gateway.internal"]).await;
    post.resolver = names.clone();
    post.send();
    let turn = post.submit("u", "m", "http://gateway.internal:7/x").await;
    post.until_state(turn.id, CallbackState::Delivered).await;
    assert_eq!(names.asked.load(Ordering::SeqCst), 1);
    assert_eq!((receiver.received().len(), trap.received().len()), (1, 0));
    let host = receiver.received()[0].headers.iter().find(|(name, _)| name == "host").unwrap().1.clone();
    assert_eq!(host, "gateway.internal:7", "the name, not the address");
    // The next try asks anew, and what is found then is checked anew.
    let second = post.submit("v", "m", "http://gateway.internal:7/x").await;
    post.until_state(second.id, CallbackState::Delivered).await;
    assert_eq!((names.asked.load(Ordering::SeqCst), trap.received().len()), (2, 1));
}

#[tokio::test]
async fn a_name_without_an_address_is_tried_again() {
    let receiver = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let mut post = Post::new(&["gateway.internal"]).await;
    post.resolver = Names::new(&[&[], &[&receiver.address().to_string()]]);
    post.send();
    let turn = post.submit("u", "m", "http://gateway.internal/").await;
    assert_eq!(post.until_state(turn.id, CallbackState::Delivered).await.attempts, 2);
}

/// Has no file descriptor left when it is asked first, as an open file too many would have it.
struct Short {
    address: SocketAddr,
    asked: AtomicUsize,
}

impl Resolve for Short {
    fn resolve(&self, _host: String, _port: u16) -> Resolved {
        let first = self.asked.fetch_add(1, Ordering::SeqCst) == 0;
        let short = || io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        let answer = if first { Err(short()) } else { Ok(vec![self.address]) };
        Box::pin(async move { answer })
    }
}

#[tokio::test]
async fn a_want_of_file_descriptors_here_is_no_try() {
    let receiver = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let mut post = Post::new(&["gateway.internal"]).await;
    let names = Arc::new(Short { address: receiver.address(), asked: AtomicUsize::new(0) });
    post.resolver = names.clone();
    post.send();
    let turn = post.submit("u", "m", "http://gateway.internal:7/x").await;
    assert_eq!(post.until_state(turn.id, CallbackState::Delivered).await.attempts, 1);
    assert_eq!(names.asked.load(Ordering::SeqCst), 2);
}

/// A host that is handed each connection, after the request's head was read.
async fn host<F>(answer: impl Fn(TcpStream) -> F + Clone + Send + Sync + 'static) -> (String, Host)
where
    F: Future<Output = ()> + Send + 'static,
{
    let serve = move |mut socket: TcpStream| {
        let answer = answer.clone();
        async move {
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await;
            answer(socket).await;
        }
    };
    let host = Host::start(serve).await.unwrap();
    (host.url("/"), host)
}

#[tokio::test]
async fn redirects_to_private_addresses_are_not_followed() {
    let inside = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let location = inside.url("/");
    let (url, _host) = host(move |mut socket| {
        let answer = format!("HTTP/1.1 307 Go\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        async move {
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let post = Post::sending().await;
    let turn = post.submit("u", "m", &url).await;
    let view = post.until(turn.id, |view| view.attempts > 0).await;
    assert_eq!(view.last.unwrap().status, Some(307));
    assert!(inside.received().is_empty());
}

#[tokio::test]
async fn an_answer_of_a_gibibyte_is_cut_and_its_status_counts() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let (url, _host) = host(move |mut socket| {
        let count = Arc::clone(&count);
        async move {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await;
            while let Ok(bytes) = socket.write(&[b'x'; 65_536]).await {
                count.fetch_add(bytes, Ordering::SeqCst);
            }
        }
    })
    .await;
    let post = Post::sending().await;
    let turn = post.submit("u", "m", &url).await;
    post.until_state(turn.id, CallbackState::Delivered).await;
    // What the kernel's buffers took, not what was announced.
    assert!(sent.load(Ordering::SeqCst) < 64 * 1024 * 1024, "{sent:?} bytes went out");
}

#[tokio::test]
async fn headers_without_end_and_one_byte_a_second_are_cut() {
    let (endless, _one) = host(|mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while socket
            .write_all(b"x-more: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
            .await
            .is_ok()
        {}
    })
    .await;
    let (slow, _two) = host(|mut socket| async move {
        for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" {
            if socket.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    let (silent, _three) = host(|socket| async move {
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    let mut post = Post::new(&["127.0.0.1"]).await;
    post.config.timeout = Duration::from_millis(700);
    post.send();
    for (user, url, reason) in [
        ("a", endless, "the connection broke before an answer"),
        ("b", slow, "the host did not answer within 0.7 s"),
        ("c", silent, "the host did not answer within 0.7 s"),
    ] {
        let turn = post.submit(user, "m", &url).await;
        let view = post.until(turn.id, |view| view.attempts > 0).await;
        assert_eq!(view.last.unwrap().reason.as_deref(), Some(reason));
    }
}

#[tokio::test]
async fn a_host_that_hangs_takes_no_slots_from_others() {
    let (hangs, _host) = host(|socket| async move {
        std::future::pending::<()>().await;
        drop(socket);
    })
    .await;
    let receiver = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let mut post = Post::new(&["127.0.0.1"]).await;
    (post.config.concurrency, post.config.host_concurrency) = (4, 2);
    post.config.timeout = Duration::from_secs(60);
    post.send();
    for n in 0..40 {
        post.submit(&format!("hangs-{n}"), "m", &hangs).await;
    }
    // All in time, although those before them wait for a minute.
    for n in 0..10 {
        let turn = post.submit(&format!("quick-{n}"), "m", &receiver.url("/")).await;
        post.until_state(turn.id, CallbackState::Delivered).await;
    }
}

#[tokio::test]
async fn https_goes_to_the_checked_address_under_the_hosts_own_name() {
    for (certified, delivered) in [("gateway.internal", true), ("other.internal", false)] {
        let receiver = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
        let tls = TlsFront::named(certified, receiver.address()).await;
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, &tls.pem).unwrap();
        let mut post = Post::new(&["gateway.internal"]).await;
        post.config.ca_file = Some(ca_file);
        post.resolver = Names::new(&[&[&format!("127.0.0.1:{}", tls.port)]]);
        post.send();
        let turn = post.submit("u", "m", "https://gateway.internal:9443/x").await;
        let view = post.until(turn.id, |view| view.attempts > 0).await;
        assert_eq!(view.state == CallbackState::Delivered, delivered, "{view:?}");
        assert_eq!(receiver.received().len(), usize::from(delivered));
    }
}
