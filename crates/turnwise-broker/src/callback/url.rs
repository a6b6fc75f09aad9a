//! Which callback URLs are taken. Stricter than a browser: what could be read
//! in two ways is refused.

use super::ranges::is_public;
use crate::limits::{CALLBACK_PORTS, CALLBACK_URL_BYTES_MAX};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The operator's rules about callback URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallbackRules {
    /// Callbacks are sent at all.
    pub accepted: bool,
    /// Hosts, without port, that may be private, use http, and any port.
    pub allow_private_hosts: Vec<String>,
    /// Deliveries that are tried.
    pub attempts_max: u32,
}

/// A URL that passed.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackTarget {
    /// As it came.
    pub url: String,
    /// With TLS.
    pub https: bool,
    /// In lower case; an IPv6 address without brackets.
    pub host: String,
    /// Also when it was not written.
    pub port: u16,
    /// From the first slash on.
    pub path: String,
    /// The operator's list has it.
    pub listed: bool,
}

/// Paths and query strings of callbacks hold secrets.
impl fmt::Debug for CallbackTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackTarget").field("listed", &self.listed).finish_non_exhaustive()
    }
}

impl CallbackTarget {
    /// Host and port as they stand in a `Host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        let (host, port) = (&self.host, self.port);
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match (self.https, port) {
            (true, 443) | (false, 80) => host,
            _ => format!("{host}:{port}"),
        }
    }

    /// Scheme, host and port: what may be shown.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }

    /// What callbacks of one conversation are kept in order for. On disk: never change it.
    #[must_use]
    pub fn lane_part(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What is wrong with a URL, as the rest of a sentence that begins with its name.
type Refused = &'static str;

impl CallbackRules {
    /// Checks a URL; nothing is resolved or connected.
    ///
    /// # Errors
    /// The rest of a sentence: "must …".
    pub fn check(&self, url: &str) -> Result<CallbackTarget, Refused> {
        const OTHERS: &[u8] = b"-._~:/?[]@!$&'()*+,;=%";
        if url.len() > CALLBACK_URL_BYTES_MAX {
            return Err("must have at most 2048 bytes");
        }
        if url.contains('#') {
            return Err("must not have a fragment (#)");
        }
        if !url.bytes().all(|b| b.is_ascii_alphanumeric() || OTHERS.contains(&b)) {
            return Err(
                "must have only the characters of a URL: other bytes are percent-encoded, names in punycode",
            );
        }
        let https = match url.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => true,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => false,
            Some(_) | None => return Err("must begin with https://"),
        };
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("must not hold a user or password");
        }
        let (host, port) = split_port(authority)?;
        let host = Host::parse(host)?;
        let port = port.unwrap_or(if https { 443 } else { 80 });
        let listed = self.lists(&host);
        if !listed {
            self.unlisted(https, &host, port)?;
        }
        let path = if tail.starts_with('/') { tail.to_owned() } else { format!("/{tail}") };
        Ok(CallbackTarget { url: url.to_owned(), https, host: host.to_string(), port, path, listed })
    }

    fn lists(&self, host: &Host) -> bool {
        let same = |known: &String| {
            let known = known.trim();
            let known = known.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(known);
            match host {
                Host::Address(address) => known.parse() == Ok(*address),
                Host::Name(name) => known.eq_ignore_ascii_case(name),
            }
        };
        self.allow_private_hosts.iter().any(same)
    }

    fn unlisted(&self, https: bool, host: &Host, port: u16) -> Result<(), Refused> {
        if !https {
            return Err("must begin with https://");
        }
        if !CALLBACK_PORTS.contains(&port) {
            return Err("must use port 443 or 8443");
        }
        match host {
            Host::Address(address) if !is_public(*address) => {
                Err("must not name a private or reserved address")
            }
            Host::Address(_) => Ok(()),
            Host::Name(name) if is_local(name) => Err("must name a host of the public internet, in full"),
            Host::Name(_) => Ok(()),
        }
    }

    /// Whether a connection to this address, which the target's name led to, may be opened.
    #[must_use]
    pub fn may_reach(&self, target: &CallbackTarget, address: IpAddr) -> bool {
        target.listed || is_public(address)
    }
}

/// Names that never lead to the public internet, as far as they can be told.
fn is_local(name: &str) -> bool {
    const SUFFIXES: [&str; 6] = [".localhost", ".local", ".internal", ".intranet", ".lan", ".home.arpa"];
    !name.contains('.') || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

enum Host {
    Name(String),
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(address) => address.fmt(f),
        }
    }
}

impl Host {
    fn parse(text: &str) -> Result<Host, Refused> {
        if let Some(inner) = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            let address =
                inner.parse::<Ipv6Addr>().map_err(|_| "must hold a valid IPv6 address in its brackets")?;
            return Ok(Host::Address(address.into()));
        }
        let name = text.to_ascii_lowercase();
        let label_is_good = |label: &str| {
            let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            (1..=63).contains(&label.len())
                && label.bytes().all(inside)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > 253 || !name.split('.').all(label_is_good) {
            return Err("must hold a valid host name, without a dot at its end");
        }
        // Systems read such names as addresses, each in its own way: 127.1, 0x7f.0.0.1, 2130706433, 0177.0.0.1.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
            let plain = name.parse::<Ipv4Addr>();
            return plain
                .map(|it| Host::Address(it.into()))
                .map_err(|_| "must write an IPv4 address as four decimal numbers");
        }
        Ok(Host::Name(name))
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), Refused> {
    let after_host = if authority.starts_with('[') { authority.find(']').map_or(0, |at| at + 1) } else { 0 };
    let Some(colon) = authority.get(after_host..).and_then(|rest| rest.find(':')) else {
        return Ok((authority, None));
    };
    let (host, port) = authority.split_at(after_host + colon);
    let digits = port.trim_start_matches(':');
    let good = port.len() == digits.len() + 1 && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse::<u16>() {
        Ok(port) if good && port > 0 => Ok((host, Some(port))),
        Ok(_) | Err(_) => Err("must have a port from 1 to 65535 after the colon"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(hosts: &[&str]) -> CallbackRules {
        let allow_private_hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        CallbackRules { accepted: true, allow_private_hosts, attempts_max: 12 }
    }

    #[test]
    fn callback_urls_of_the_public_internet_pass() {
        let pass = |url: &str, origin: &str, path: &str| {
            let target = rules(&[]).check(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            assert_eq!((target.origin().as_str(), target.path.as_str()), (origin, path), "{url}");
        };
        pass("https://a.example/x?y=%20", "https://a.example", "/x?y=%20");
        pass("HTTPS://A.Example", "https://a.example", "/");
        pass("https://a.example?x", "https://a.example", "/?x");
        pass("https://a.example:8443/", "https://a.example:8443", "/");
        pass("https://8.8.8.8/", "https://8.8.8.8", "/");
        pass("https://[2606:4700:4700::1111]:443/", "https://[2606:4700:4700::1111]", "/");
        pass("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example", "/");
        pass("https://a.example/@user", "https://a.example", "/@user");
    }

    #[rustfmt::skip]
    const REFUSED: [&str; 82] = [
        "", "a", "/x", "a.example", "//a.example/", "http://a.example/", "ftp://a.example/",
        "file:///etc/passwd", "gopher://a.example/", "unix:/run/x.sock", "javascript:alert(1)",
        "https://", "https:///x", "https:a.example", "https://user@a.example/",
        "https://u:p@a.example/", "https://a.example@127.0.0.1/", "https://a.example/#x",
        "https://a.example#@127.0.0.1/", "https://a.example\\@127.0.0.1/",
        "https://a.example/ x", "https://a.example/\n", "https://localhost/",
        "https://LOCALHOST/", "https://localhost./", "https://a.localhost/",
        "https://127.0.0.1./", "https://a.example./", "https://printer/",
        "https://a.internal/", "https://a.local/", "https://a..example/", "https://.example/",
        "https://-a.example/", "https://127.0.0.1/", "https://127.1/", "https://127.0.1/",
        "https://2130706433/", "https://0x7f000001/", "https://0x7f.0.0.1/",
        "https://0177.0.0.1/", "https://017700000001/", "https://127.0.0.01/", "https://0/",
        "https://0.0.0.0/", "https://10.0.0.1/", "https://100.64.0.1/",
        "https://169.254.169.254/latest/", "https://172.16.0.1/", "https://192.0.0.1/",
        "https://192.168.1.1/", "https://198.18.0.1/", "https://224.0.0.1/",
        "https://255.255.255.255/", "https://256.1.1.1/", "https://1.2.3.4.5/", "https://a.1/",
        "https://a.0x1/", "https://[::]/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:8.8.8.8]/", "https://[fe80::1]/", "https://[fe80::1%25eth0]/",
        "https://[fc00::1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/",
        "https://[::1/", "https://::1/", "https://[127.0.0.1]/",
        "https://127\u{3002}0\u{3002}0\u{3002}1/", "https://\u{2460}27.0.0.1/",
        "https://b\u{fc}cher.example/", "https://%31%32%37.0.0.1/", "https://a.example:80/",
        "https://a.example:22/", "https://a.example:0/", "https://a.example:/",
        "https://a.example:65536/", "https://a.example:+443/", "https://a.example:443:443/",
        "https://a.example:443@127.0.0.1/",
    ];

    #[test]
    fn callback_urls_that_lead_inside_are_refused() {
        for url in REFUSED {
            assert!(rules(&[]).check(url).is_err(), "{url}");
        }
        let long = format!("https://a.example/{}", "x".repeat(CALLBACK_URL_BYTES_MAX));
        assert!(rules(&[]).check(&long).is_err());
    }

    #[test]
    fn listed_hosts_may_be_private_and_plain() {
        let rules = rules(&["127.0.0.1", "Gateway.Internal", "[::1]"]);
        for url in
            ["http://127.0.0.1:9/x", "https://127.0.0.1/", "http://gateway.internal:8080/", "http://[::1]:1/"]
        {
            let target = rules.check(url).unwrap_or_else(|why| panic!("{url}: {why}"));
            assert!(target.listed && rules.may_reach(&target, IpAddr::from([10, 0, 0, 1])), "{url}");
        }
        for url in
            ["http://127.0.0.2/", "http://user@127.0.0.1/", "http://127.1/", "http://x.gateway.internal/"]
        {
            assert!(rules.check(url).is_err(), "{url}");
        }
    }

    #[test]
    fn nothing_of_a_target_is_shown_but_its_origin() {
        let target = rules(&[]).check("https://a.example/secret-path?token=secret-query").expect("public");
        let shown = format!("{target:?} {}", target.origin());
        assert!(!shown.contains("secret"), "{shown}");
    }
}
