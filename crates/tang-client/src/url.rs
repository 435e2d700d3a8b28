//! The few URLs that make sense for a Tang server: `http://host[:port][/path]`.

use crate::Error;

/// A server's address and base path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Host name or address, IPv6 without brackets.
    pub host: String,
    /// TCP port, 80 when not given.
    pub port: u16,
    /// Base path without a slash at its end; empty for the root.
    pub path: String,
}

impl Url {
    /// Reads one. A URL without a scheme is taken as http, as curl (and so Clevis) does.
    pub fn parse(text: &str) -> Result<Url, Error> {
        let wrong = |why| Error::Url { url: text.into(), why };
        let rest = match text.split_once("://") {
            None => text,
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err(wrong("https is not built in; Tang needs none")),
            Some(_) => return Err(wrong("only http is spoken")),
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("it holds white space or is not ASCII"));
        }
        if rest.contains(['?', '#', '@']) {
            return Err(wrong("user names, queries and fragments have no meaning here"));
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let (host, port) = split_port(authority).ok_or_else(|| wrong("its host or port is malformed"))?;
        Ok(Url { host, port, path: path.trim_end_matches('/').into() })
    }

    /// `host:port` as a request names it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }
}

fn split_port(authority: &str) -> Option<(String, u16)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, port.strip_prefix(':').or(port.is_empty().then_some("80"))?)
    } else {
        authority.split_once(':').unwrap_or((authority, "80"))
    };
    if host.is_empty() || host.contains(['[', ']']) || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((host.into(), port.parse().ok().filter(|port| *port != 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let table = [
            ("http://192.168.0.2", "192.168.0.2", 80, "", "192.168.0.2"),
            ("tang.home.arpa:8080", "tang.home.arpa", 8080, "", "tang.home.arpa:8080"),
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
            "https://a",
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
    }
}
