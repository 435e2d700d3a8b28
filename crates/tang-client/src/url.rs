//! The few URLs that make sense for a Tang server: `http://host[:port][/path]`; https with the feature of that name.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use crate::Error;

/// A server's address and base path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Host name in lower case, or address, IPv6 without brackets.
    pub host: String,
    /// TCP port, 80 (443 for https) when not given.
    pub port: u16,
    /// Base path without a slash at its end; empty for the root.
    pub path: String,
    /// Inside TLS.
    pub secure: bool,
}

impl Url {
    /// Reads one. A URL without a scheme is taken as http, as curl (and so Clevis) does.
    pub fn parse(text: &str) -> Result<Url, Error> {
        let wrong = |why| Error::Url { url: shown(text).into(), why };
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        // RFC 3986, section 3.1: in either case.
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" if cfg!(feature = "https") => true,
            "https" => return Err(wrong("https is not built in; Tang needs none")),
            _ => return Err(wrong("only http is spoken")),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("it holds white space or is not ASCII"));
        }
        if rest.contains(['?', '#', '@']) {
            return Err(wrong("user names, queries and fragments have no meaning here"));
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let usual = if secure { 443 } else { 80 };
        let (host, port) =
            split_port(authority, usual).ok_or_else(|| wrong("its host or port is malformed"))?;
        Ok(Url { host, port, path: path.trim_end_matches('/').into(), secure })
    }

    /// `host:port` as a request names it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.secure { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// The one of a server's spellings that all of them share: `http://a` for `HTTP://A:80/`. What is no URL stays as it is.
pub fn normal(text: &str) -> String {
    Url::parse(text).map_or_else(|_| text.into(), |url| url.to_string())
}

/// Whether two URLs lead to the same place, however each is written: `HTTP://a:80/` and `a`.
pub(crate) fn same(one: &str, other: &str) -> bool {
    normal(one) == normal(other)
}

/// How messages call a URL: what stands before an @, a password perhaps, is not repeated.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    let start = text.find("://").map_or(0, |scheme| scheme + 3);
    match text.rfind('@').filter(|at| *at > start) {
        Some(at) => format!("{}***{}", &text[..start], &text[at..]).into(),
        None => text.into(),
    }
}

fn split_port(authority: &str, usual: u16) -> Option<(String, u16)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        // RFC 5952: one spelling of each address.
        let host = host.parse::<Ipv6Addr>().ok()?.to_string();
        (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else {
        let (host, port) =
            authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        // RFC 3986, section 6.2.2.1: in either case.
        (host.to_ascii_lowercase(), port)
    };
    if host.is_empty() || host.contains(['[', ']']) {
        return None;
    }
    let port = match port {
        None => usual,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().ok().filter(|port| *port != 0)?
        }
        Some(_) => return None,
    };
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_many_names() {
        for other in ["a", "HTTP://A:80//", "http://a/"] {
            assert!(same("http://a", other), "{other}");
        }
        for other in ["http://a:81", "http://a/b", "http://b", "a b", "https://a"] {
            assert!(!same("http://a", other), "{other}");
        }
        for other in ["[0:0:0:0:0:0:0:1]", "http://[0::1]:80", "HTTP://[::0001]/"] {
            assert!(same("http://[::1]", other), "{other}");
        }
        assert!(same("[FD00::A]", "[fd00::a]") && !same("[::1]", "[::2]"));
        assert_eq!(normal("HTTP://[0:0::1]:81/A//"), "http://[::1]:81/A");
        assert!(same("a b", "a b") && !same("a b", "a  b"), "what is no URL is a text");
    }

    #[test]
    fn urls() {
        let table = [
            ("http://192.168.0.2", "192.168.0.2", 80, "", "192.168.0.2"),
            ("tang.home.arpa:8080", "tang.home.arpa", 8080, "", "tang.home.arpa:8080"),
            ("HTTP://tang", "tang", 80, "", "tang"),
            ("http://[fd00::2]/", "fd00::2", 80, "", "[fd00::2]"),
            ("http://[fd00::2]:81/a/b/", "fd00::2", 81, "/a/b", "[fd00::2]:81"),
        ];
        for (text, host, port, path, authority) in table {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.port, url.path.as_str()), (host, port, path));
            assert_eq!(url.authority(), authority);
        }
        for bad in [
            "",
            "http://",
            "ftp://a",
            "http://a:0",
            "http://a:x",
            "http://a:99999",
            "http://u@a",
            "http://a?b",
            "http://[::1",
            "http://[x]",
            "http://::1/",
            "http://a b",
            "http://a\r\nHost: b",
            "http://\u{e4}",
            "http://:80",
        ] {
            assert!(matches!(Url::parse(bad), Err(Error::Url { .. })), "{bad:?}");
        }
        for secret in [
            "http://somebody:not-a-secret@tang:7500/a",
            "somebody:not-a-secret@tang",
            "ftp://u:not-a-secret@a",
        ] {
            let said = Url::parse(secret).unwrap_err().at(secret).to_string();
            assert!(said.contains("***@") && !said.contains("not-a-secret"), "{said}");
        }
        let secure = Url::parse("https://tang.home.arpa").map(|url| (url.port, url.secure, url.authority()));
        if cfg!(feature = "https") {
            assert_eq!(secure, Ok((443, true, "tang.home.arpa".into())));
        } else {
            assert!(matches!(secure, Err(Error::Url { .. })));
        }
    }
}
