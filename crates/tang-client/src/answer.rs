//! An HTTP/1.1 answer (RFC 9112), read as it arrives; no I/O.

use crate::Error;

/// The largest answer that is read, headers included.
pub const LARGEST: usize = 64 << 10;
/// Interim answers before the one that counts; nobody sends more than one or two.
const MOST_INTERIM: u8 = 8;

/// Reads an answer as it arrives. Sans-IO: bytes go in through [`Reader::push`].
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// Where the present answer begins, behind the interim ones.
    start: usize,
    interim: u8,
    head: Option<Head>,
    /// Up to where the chunked body has been taken apart.
    position: usize,
    chunks: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    status: u16,
    body: Body,
}

#[derive(Debug, Clone, Copy)]
enum Body {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Reader {
    /// Takes the next bytes; gives the body when it is complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if self.bytes.len() + bytes.len() > LARGEST {
            return Err(Error::AnswerTooLarge(LARGEST));
        }
        // The end of the header may straddle two reads by three bytes.
        let seen = self.bytes.len().saturating_sub(3);
        self.bytes.extend_from_slice(bytes);
        if self.head.is_none() {
            self.head = self.find_head(seen)?;
            self.position = self.head.map_or(0, |head| head.length);
        }
        let Some(head) = self.head else { return Ok(None) };
        match head.body {
            Body::UntilClose => Ok(None),
            Body::Length(length) if length > LARGEST => Err(Error::AnswerTooLarge(LARGEST)),
            Body::Length(length) => Ok(self.bytes.get(head.length..head.length + length).map(<[u8]>::to_vec)),
            Body::Chunked => self.next_chunks(),
        }
    }

    /// The header of the answer that counts, when it is complete. Interim ones (RFC 9110, section 15.2) have no body and are
    /// skipped, except a change of the protocol, which nobody asked for.
    fn find_head(&mut self, seen: usize) -> Result<Option<Head>, Error> {
        let mut from = seen.max(self.start);
        while let Some(end) = find(&self.bytes[from..], b"\r\n\r\n").map(|end| from + end) {
            let head = parse_head(&self.bytes[self.start..end + 2], end + 4)?;
            match head.status {
                200 => return Ok(Some(head)),
                100 | 102..=199 if self.interim == MOST_INTERIM => {
                    return Err(Error::NotHttp("endless interim answers"));
                }
                100 | 102..=199 => self.interim += 1,
                300..=399 => return Err(Error::Redirect(head.status)),
                _ => return Err(Error::Status(head.status)),
            }
            self.start = head.length;
            from = head.length;
        }
        Ok(None)
    }

    /// The peer has closed the connection: gives the body if that is how it ends.
    pub fn close(self) -> Result<Vec<u8>, Error> {
        match self.head {
            Some(Head { body: Body::UntilClose, length, .. }) => Ok(self.bytes[length..].to_vec()),
            _ => Err(Error::Truncated),
        }
    }

    fn next_chunks(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let rest = &self.bytes[self.position..];
            let Some(line_end) = find(rest, b"\r\n") else {
                // A size is at most 8 digits; extensions are not used by anyone.
                return if rest.len() > 256 {
                    Err(Error::NotHttp("an endless chunk size"))
                } else {
                    Ok(None)
                };
            };
            let size = chunk_size(&rest[..line_end]).ok_or(Error::NotHttp("a malformed chunk size"))?;
            if size > LARGEST {
                return Err(Error::AnswerTooLarge(LARGEST));
            }
            let start = line_end + 2;
            if size == 0 {
                return Ok(self.trailer(start));
            }
            let Some(chunk) = rest.get(start..start + size + 2) else { return Ok(None) };
            let Some(data) = chunk.strip_suffix(b"\r\n") else {
                return Err(Error::NotHttp("a chunk of another length than it says"));
            };
            self.chunks.extend_from_slice(data);
            self.position += start + size + 2;
        }
    }

    /// After the last chunk: lines up to an empty one.
    fn trailer(&self, start: usize) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.position + start..];
        let done = rest.starts_with(b"\r\n") || find(rest, b"\r\n\r\n").is_some();
        done.then(|| self.chunks.clone())
    }
}

fn find(text: &[u8], pattern: &[u8]) -> Option<usize> {
    text.windows(pattern.len()).position(|window| window == pattern)
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn parse_head(text: &[u8], length: usize) -> Result<Head, Error> {
    let text = std::str::from_utf8(text).map_err(|_| Error::NotHttp("its header is not text"))?;
    let mut lines = text.split("\r\n");
    let status = status(lines.next().unwrap_or_default()).ok_or(Error::NotHttp("no status line"))?;
    let (mut content_length, mut encoding) = (None, None);
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Error::NotHttp("a header line without a colon"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            if !value.bytes().all(|byte| byte.is_ascii_digit())
                || content_length.is_some_and(|old| old != value)
            {
                return Err(Error::NotHttp("a malformed Content-Length"));
            }
            content_length = Some(value);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if encoding.is_some() || !value.eq_ignore_ascii_case("chunked") {
                return Err(Error::NotHttp("an unknown Transfer-Encoding"));
            }
            encoding = Some(value);
        }
    }
    let body = match (content_length, encoding) {
        (Some(_), Some(_)) => return Err(Error::NotHttp("Content-Length and Transfer-Encoding")),
        (None, Some(_)) => Body::Chunked,
        (Some(size), None) => Body::Length(size.parse().map_err(|_| Error::AnswerTooLarge(LARGEST))?),
        (None, None) => Body::UntilClose,
    };
    Ok(Head { length, status, body })
}

fn status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.0 ").or_else(|| line.strip_prefix("HTTP/1.1 "))?;
    let (code, reason) = rest.split_at_checked(3)?;
    if !(reason.is_empty() || reason.starts_with(' ')) || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    code.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], closes: bool, step: usize) -> Result<Option<Vec<u8>>, Error> {
        let mut reader = Reader::default();
        for bytes in text.chunks(step) {
            if let Some(body) = reader.push(bytes)? {
                return Ok(Some(body));
            }
        }
        if closes { reader.close().map(Some) } else { Ok(None) }
    }

    #[test]
    fn all_framings_at_every_cut() {
        let texts: [(&[u8], bool); 6] = [
            (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody", false),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n03;x=y\r\nody\r\n0\r\n\r\n",
                false,
            ),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nA: b\r\n\r\n", false),
            (b"HTTP/1.0 200 \r\n\r\nbody", true),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", false),
            (b"HTTP/1.1 102 \r\n\r\nHTTP/1.1 103 \r\nLink: </>\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody", true),
        ];
        for (text, closes) in texts {
            for step in 1..=text.len() {
                assert_eq!(read(text, closes, step), Ok(Some(b"body".to_vec())), "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn faults_have_names() {
        let cases: [(&[u8], Error); 15] = [
            (b"SSH-2.0-x\r\n\r\n", Error::NotHttp("no status line")),
            (b"HTTP/1.1 2000\r\n\r\n", Error::NotHttp("no status line")),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", Error::Status(404)),
            (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Error::Status(101)),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\n\r\n", Error::Status(503)),
            (b"HTTP/1.1 100 Continue\r\n\r\n", Error::Truncated),
            (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", Error::Redirect(302)),
            (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", Error::NotHttp("a header line without a colon")),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Error::NotHttp("a malformed Content-Length")),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                Error::NotHttp("a malformed Content-Length"),
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", Error::AnswerTooLarge(LARGEST)),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Error::NotHttp("Content-Length and Transfer-Encoding"),
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                Error::NotHttp("an unknown Transfer-Encoding"),
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
                Error::NotHttp("a malformed chunk size"),
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody", Error::Truncated),
        ];
        for (text, error) in cases {
            assert_eq!(read(text, true, text.len()), Err(error), "{text:?}");
        }
        let interim =
            |count| [b"HTTP/1.1 100 \r\n\r\n".repeat(count), b"HTTP/1.1 200 \r\n\r\n".to_vec()].concat();
        assert_eq!(read(&interim(8), true, 7), Ok(Some(Vec::new())));
        assert_eq!(read(&interim(9), true, 7), Err(Error::NotHttp("endless interim answers")));
        assert_eq!(read(&vec![b'x'; LARGEST + 1], true, 4096), Err(Error::AnswerTooLarge(LARGEST)));
    }
}
