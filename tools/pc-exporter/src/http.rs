//! The listener: a thread per connection, few of them, each with a short life. What it serves is text that is made
//! of what is known already.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pc_cli::log;

use crate::exposition::Format;

/// Connections at a time; more are closed unheard.
const AT_ONCE: usize = 32;
/// Connections of one address at a time: who holds these keeps nobody else out.
const PER_ADDRESS: usize = 8;
/// A request is a line and a few headers.
const LONGEST_REQUEST: usize = 8 << 10;
/// A client has this long to send its request,
const ASKING: Duration = Duration::from_secs(5);
/// and this long to take the answer.
const ANSWERING: Duration = Duration::from_secs(10);

/// What the listener counts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Scrapes that were answered.
    pub scrapes: AtomicU64,
    /// Connections that were closed unheard.
    pub refused: AtomicU64,
}

/// What is served.
pub struct Answers {
    /// The scrape in a format.
    pub scrape: Box<dyn Fn(Format) -> String + Send + Sync>,
    /// The page for people, where there is one.
    pub page: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

struct Host {
    answers: Answers,
    counts: Arc<Counts>,
    busy: Mutex<Vec<IpAddr>>,
}

/// Serves for ever. `tick` is called at least so often, and shows the watchdog that connections are still taken.
pub fn serve(
    listener: &TcpListener,
    answers: Answers,
    counts: Arc<Counts>,
    every: Duration,
    mut tick: impl FnMut(),
) -> Result<()> {
    listener.set_nonblocking(true).context("preparing the socket")?;
    let host = Arc::new(Host { answers, counts, busy: Mutex::default() });
    let moment = PollTimeout::try_from(every).context("waiting for connections")?;
    loop {
        tick();
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, moment) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error).context("waiting for connections"),
        }
        match listener.accept() {
            Ok((socket, peer)) => welcome(&host, socket, peer.ip().to_canonical()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                // The peer has gone again, or descriptors are short: neither ends the service, and a shortage is no
                // reason to spin.
                log::debug(format_args!("accepting: {error}"));
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Host {
    /// Who is being served. The list is whole after every statement.
    fn busy(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, peer: IpAddr) -> bool {
        let mut busy = self.busy();
        let room = busy.len() < AT_ONCE && busy.iter().filter(|other| **other == peer).count() < PER_ADDRESS;
        if room {
            busy.push(peer);
        }
        room
    }

    fn release(&self, peer: IpAddr) {
        let mut busy = self.busy();
        if let Some(index) = busy.iter().position(|other| *other == peer) {
            busy.swap_remove(index);
        }
    }
}

fn welcome(host: &Arc<Host>, socket: TcpStream, peer: IpAddr) {
    if !host.reserve(peer) {
        host.counts.refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let guest = Arc::clone(host);
    let thread = std::thread::Builder::new().name("scrape".into()).stack_size(256 << 10);
    let spawned = thread.spawn(move || {
        if let Err(error) = converse(&guest, &socket) {
            log::debug(format_args!("{peer}: {error}"));
        }
        // Before the connection is closed: who asks again at the sight of its end finds the place free.
        guest.release(peer);
        drop(socket);
    });
    if let Err(error) = spawned {
        log::warning(format_args!("serving {peer}: {error}"));
        host.release(peer);
    }
}

/// One request, one answer, the end.
fn converse(host: &Host, socket: &TcpStream) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    let response = match request(socket, Instant::now() + ASKING)? {
        Ok(request) => respond(host, &request),
        Err(status) => Response::plain(status, "text/plain; charset=utf-8", format!("{status}\n")),
    };
    send(socket, &response.bytes(), Instant::now() + ANSWERING)
}

/// What was asked.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    path: String,
    head: bool,
    accept: String,
}

/// Reads up to the empty line, within bounds of size and time; the inner error is what the client is told.
fn request(mut socket: &TcpStream, until: Instant) -> io::Result<Result<Request, &'static str>> {
    let mut bytes = Vec::new();
    let mut part = [0; 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err("408 Request Timeout"));
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut part) {
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

/// The request line and the `Accept` headers (RFC 9112, RFC 9110).
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
    let mut accept = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(bad)?;
        if name.eq_ignore_ascii_case("accept") {
            accept.push(value.trim());
        }
    }
    let path = target.split('?').next().unwrap_or(target).to_string();
    Ok(Request { path, head: method == "HEAD", accept: accept.join(",") })
}

struct Response {
    status: &'static str,
    content_type: &'static str,
    body: String,
    head: bool,
}

impl Response {
    fn plain(status: &'static str, content_type: &'static str, body: String) -> Response {
        Response { status, content_type, body, head: false }
    }

    fn bytes(&self) -> Vec<u8> {
        let allow = if self.status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let mut text = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
             Content-Security-Policy: {POLICY}\r\nReferrer-Policy: no-referrer\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len(),
        );
        if !self.head {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

/// Whatever is shown: it runs nothing, asks nobody, sends nothing, and is shown in no other page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const INDEX: &str = "pc-exporter: what is known of this node\n\n  /metrics\n\n\
                     There is no page for people yet: systemctl enable --now pc-verify.timer\n";

fn respond(host: &Host, request: &Request) -> Response {
    let text = "text/plain; charset=utf-8";
    let response = match request.path.as_str() {
        "/metrics" => {
            let format = Format::accepted(&request.accept);
            host.counts.scrapes.fetch_add(1, Ordering::Relaxed);
            Response::plain("200 OK", format.content_type(), (host.answers.scrape)(format))
        }
        "/" => match (host.answers.page)() {
            Some(page) => Response::plain("200 OK", "text/html; charset=utf-8", page),
            None => Response::plain("200 OK", text, INDEX.into()),
        },
        _ => Response::plain("404 Not Found", text, "404 Not Found\n".into()),
    };
    Response { head: request.head, ..response }
}

/// Everything, by then.
fn send(mut socket: &TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_write_timeout(Some(left))?;
        match socket.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_what_is_none() {
        let get =
            |path: &str, accept: &str| Request { path: path.into(), head: false, accept: accept.into() };
        assert_eq!(
            parse(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nACCEPT: text/plain\r\naccept:*/*\r\n\r\n"),
            Ok(get("/metrics", "text/plain,*/*"))
        );
        assert!(parse(b"HEAD / HTTP/1.0\r\n\r\n").is_ok_and(|request| request.head));
        assert_eq!(parse(b"POST /metrics HTTP/1.1\r\n\r\n"), Err("405 Method Not Allowed"));
        for bad in [
            &b"GET\r\n\r\n"[..],
            b"GET / HTTP/2\r\n\r\n",
            b"GET x HTTP/1.1\r\n\r\n",
            b"\xff\r\n\r\n",
            b"GET / HTTP/1.1\r\nx\r\n\r\n",
        ] {
            assert_eq!(parse(bad), Err("400 Bad Request"), "{bad:?}");
        }
    }
}
