//! The listener: a thread per connection, few of them, each with a short life. What it serves is text that is made
//! of what is known already.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pc_cli::log;
use rustls::{ServerConnection, StreamOwned};

use crate::exposition::Format;
use crate::request::{Request, request};
use crate::tls::Tls;
use crate::token::Token;

/// Connections at a time; more are closed unheard.
const AT_ONCE: usize = 32;
/// Connections of one address at a time: who holds these keeps nobody else out.
const PER_ADDRESS: usize = 8;
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
    /// Over TLS only.
    pub tls: Option<Tls>,
    /// Only to who shows it.
    pub token: Option<Token>,
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
    let thread = std::thread::Builder::new().name("scrape".into()).stack_size(512 << 10);
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
    let until = Cell::new(Instant::now() + ASKING);
    let mut timed = Timed { socket, until: &until };
    let Some(tls) = &host.answers.tls else { return exchange(host, &mut timed, &until) };
    let mut connection = ServerConnection::new(tls.config()).map_err(io::Error::other)?;
    // Before anything is asked: who speaks no TLS is told so by its alert, and hears nothing else.
    while connection.is_handshaking() {
        connection.complete_io(&mut timed)?;
    }
    let mut stream = StreamOwned::new(connection, timed);
    exchange(host, &mut stream, &until)?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn exchange<S: Read + Write>(host: &Host, stream: &mut S, until: &Cell<Instant>) -> io::Result<()> {
    let response = match request(stream)? {
        Ok(request) => respond(host, &request),
        Err(status) => Response::plain(status, "text/plain; charset=utf-8", format!("{status}\n")),
    };
    until.set(Instant::now() + ANSWERING);
    stream.write_all(&response.bytes())?;
    stream.flush()
}

/// A connection whose every wait ends at one moment.
struct Timed<'a> {
    socket: &'a TcpStream,
    until: &'a Cell<Instant>,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.get().saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        let mut socket = self.socket;
        socket.read(bytes)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        let mut socket = self.socket;
        socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
        let more = match self.status.get(..3) {
            Some("405") => "Allow: GET, HEAD\r\n",
            Some("401") => CHALLENGE,
            _ => "",
        };
        let mut text = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{more}Cache-Control: no-store\r\n\
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

/// Prometheus sends a bearer token; a browser asks its user for a password.
const CHALLENGE: &str = "WWW-Authenticate: Bearer realm=\"pc-exporter\"\r\n\
                         WWW-Authenticate: Basic realm=\"pc-exporter, the token is the password\", charset=\"UTF-8\"\r\n";

const INDEX: &str = "pc-exporter: what is known of this node\n\n  /metrics\n\n\
                     There is no page for people yet: systemctl enable --now pc-verify.timer\n";

fn respond(host: &Host, request: &Request) -> Response {
    let text = "text/plain; charset=utf-8";
    let shown = request.authorization.as_ref().map(|shown| shown.as_str());
    let response = match request.path.as_str() {
        _ if host.answers.token.as_ref().is_some_and(|token| !token.allows(shown)) => {
            Response::plain("401 Unauthorized", text, "401 Unauthorized\n".into())
        }
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
