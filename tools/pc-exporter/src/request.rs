//! What a client asks: a line and a few headers, within bounds.

use std::io::{self, Read};

use zeroize::Zeroizing;

/// A request is a line and a few headers.
const LONGEST_REQUEST: usize = 8 << 10;

/// What was asked.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub struct Request {
    /// Without what follows a question mark.
    pub path: String,
    /// Only the head of the answer is wanted.
    pub head: bool,
    /// All that is accepted.
    pub accept: String,
    /// What is shown to be let in.
    pub authorization: Option<Zeroizing<String>>,
}

/// Reads up to the empty line, within bounds of size and time; the inner error is what the client is told.
pub fn request(stream: &mut impl Read) -> io::Result<Result<Request, &'static str>> {
    const PART: usize = 1024;
    // Never moved, as it may hold a token.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_REQUEST + PART));
    let mut part = Zeroizing::new([0; PART]);
    loop {
        match stream.read(&mut *part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Err("408 Request Timeout")),
            Err(error) => return Err(error),
        }
        if bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            return Ok(parse(&bytes));
        }
        if bytes.len() >= LONGEST_REQUEST {
            return Ok(Err("431 Request Header Fields Too Large"));
        }
    }
}

/// The request line, the `Accept` headers and that of the token (RFC 9112, RFC 9110).
fn parse(bytes: &[u8]) -> Result<Request, &'static str> {
    let bad = "400 Bad Request";
    let text = std::str::from_utf8(bytes).map_err(|_| bad)?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad);
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(bad);
    }
    if !matches!(method, "GET" | "HEAD") {
        return Err("405 Method Not Allowed");
    }
    let (mut accept, mut authorization) = (Vec::new(), None);
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(bad)?;
        if name.eq_ignore_ascii_case("accept") {
            accept.push(value.trim());
        }
        // A second one is none: nobody has two.
        if name.eq_ignore_ascii_case("authorization")
            && authorization.replace(Zeroizing::new(value.trim().to_string())).is_some()
        {
            return Err(bad);
        }
    }
    let path = target.split('?').next().unwrap_or(target).to_string();
    Ok(Request { path, head: method == "HEAD", accept: accept.join(","), authorization })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_what_is_none() {
        let get = |path: &str, accept: &str| Request {
            path: path.into(),
            head: false,
            accept: accept.into(),
            authorization: None,
        };
        assert_eq!(
            parse(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nACCEPT: text/plain\r\naccept:*/*\r\n\r\n"),
            Ok(get("/metrics", "text/plain,*/*"))
        );
        assert!(parse(b"HEAD / HTTP/1.0\r\n\r\n").is_ok_and(|request| request.head));
        let shown = parse(b"GET / HTTP/1.1\r\nauthorization:  Bearer x y \r\n\r\n").unwrap().authorization;
        assert_eq!(shown.as_ref().map(|shown| shown.as_str()), Some("Bearer x y"));
        assert_eq!(parse(b"POST /metrics HTTP/1.1\r\n\r\n"), Err("405 Method Not Allowed"));
        for bad in [
            &b"GET\r\n\r\n"[..],
            b"GET / HTTP/2\r\n\r\n",
            b"GET x HTTP/1.1\r\n\r\n",
            b"\xff\r\n\r\n",
            b"GET / HTTP/1.1\r\nx\r\n\r\n",
            b"GET / HTTP/1.1\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
        ] {
            assert_eq!(parse(bad), Err("400 Bad Request"), "{bad:?}");
        }
    }
}
