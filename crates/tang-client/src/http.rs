//! HTTP/1.1 (RFC 9112) as far as Tang needs it: one request, one answer, one total deadline. No redirects,
//! no proxies, no kept connections, nothing larger than 64 KiB. With the feature `https` also inside TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Error;
pub use crate::answer::{LARGEST, Reader};
use crate::url::Url;

/// What to ask.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// GET.
    Get,
    /// POST of a JWK.
    Post(&'a [u8]),
}

/// Asks `url` + `path` and gives the body of its answer, all within `time`.
pub fn ask(url: &Url, path: &str, request: Request<'_>, time: Duration) -> Result<Vec<u8>, Error> {
    connect(url, time)?.send(path, request)?.read()
}

/// Connects to the server at `url`; question and answer come within the same `time`.
pub fn connect(url: &Url, time: Duration) -> Result<Connection<'_>, Error> {
    let clock = Clock { until: Instant::now() + time, time };
    let stream = dial(url, clock.until).map_err(|error| clock.late(error))?;
    let stream = Timed { stream, until: clock.until, looks: LOOKS };
    let stream: Box<dyn Stream> = match url.secure {
        #[cfg(feature = "https")]
        true => Box::new(crate::tls::over(stream, &url.host).map_err(|error| clock.late(error))?),
        _ => Box::new(stream),
    };
    Ok(Connection { url, stream, clock })
}

/// A server that has not been asked yet.
pub struct Connection<'a> {
    url: &'a Url,
    stream: Box<dyn Stream>,
    clock: Clock,
}

/// A server that has been asked.
pub struct Answer {
    stream: Box<dyn Stream>,
    clock: Clock,
}

impl Connection<'_> {
    /// Sends the one question.
    pub fn send(mut self, path: &str, request: Request<'_>) -> Result<Answer, Error> {
        let head = |method: &str, more: String| {
            let (host, base) = (self.url.authority(), &self.url.path);
            format!(
                "{method} {base}{path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n{more}\r\n"
            )
        };
        let message = match request {
            Request::Get => head("GET", String::new()).into_bytes(),
            Request::Post(body) => {
                let more =
                    format!("Content-Type: application/jwk+json\r\nContent-Length: {}\r\n", body.len());
                [head("POST", more).as_bytes(), body].concat()
            }
        };
        let sent = self.stream.write_all(&message).and_then(|()| self.stream.flush());
        sent.map_err(|error| self.clock.late(broken(&error)))?;
        Ok(Answer { stream: self.stream, clock: self.clock })
    }
}

impl Answer {
    /// Waits for its body. What has arrived is read also when the deadline has passed meanwhile.
    pub fn read(mut self) -> Result<Vec<u8>, Error> {
        let mut reader = Reader::default();
        let mut buffer = [0; 8192];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return reader.close(),
                Ok(count) => {
                    if let Some(body) = reader.push(&buffer[..count])? {
                        return Ok(body);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.clock.late(broken(&error))),
            }
        }
    }
}

/// The one deadline of connection, question and answer.
struct Clock {
    until: Instant,
    time: Duration,
}

impl Clock {
    /// Whatever goes wrong with the connection after the deadline goes wrong because of it.
    fn late(&self, error: Error) -> Error {
        if Instant::now() >= self.until { Error::TimedOut(self.time) } else { error }
    }
}

/// A connection, in the clear or inside TLS.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// How often a connection is looked at after its deadline: enough for the largest answer, and an end to a flood.
const LOOKS: u8 = 32;

/// A connection whose every read and write waits until one total deadline at most, also when it is TLS that reads byte by
/// byte.
#[derive(Debug)]
pub(crate) struct Timed {
    stream: TcpStream,
    until: Instant,
    looks: u8,
}

impl Timed {
    fn left(&self) -> std::io::Result<Duration> {
        remaining(self.until).map_err(|_| ErrorKind::TimedOut.into())
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.left() {
            Ok(left) => self.stream.set_read_timeout(Some(left))?,
            // Who asks multiplies between question and answer, and may have to wait for a CPU: the server is not to blame for
            // that, and its answer may lie here. To look without waiting needs no account of whose time it was.
            Err(late) => {
                self.looks = self.looks.checked_sub(1).ok_or(late)?;
                self.stream.set_nonblocking(true)?;
            }
        }
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

fn remaining(until: Instant) -> Result<Duration, Error> {
    let left = until.saturating_duration_since(Instant::now());
    // A zero time-out would mean "wait for ever" to the socket; the caller names the real one.
    if left.is_zero() { Err(Error::TimedOut(Duration::ZERO)) } else { Ok(left) }
}

fn broken(error: &std::io::Error) -> Error {
    // What TLS finds wrong comes as this kind, with the reason inside.
    if error.kind() == ErrorKind::InvalidData {
        return Error::Tls(error.to_string());
    }
    Error::Connection(error.kind().to_string())
}

/// Tries the host's addresses in turn; each gets its share of the time that is left.
fn dial(url: &Url, until: Instant) -> Result<TcpStream, Error> {
    let addresses = resolve(url, until)?;
    let mut last = Error::Connection("the name has no address".into());
    for (index, address) in addresses.iter().enumerate() {
        let share = remaining(until)? / u32::try_from(addresses.len() - index).unwrap_or(1);
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => {
                // Two small writes at most; a refusal would only cost a delay.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = broken(&error),
        }
    }
    Err(last)
}

/// getaddrinfo(3) has no time-out of its own, so a name is looked up on a thread that may be left behind.
fn resolve(url: &Url, until: Instant) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = url.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, url.port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let (host, port) = (url.host.clone(), url.port);
    let thread = std::thread::Builder::new().spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Nobody listens any more when the deadline has passed.
        let _ = sender.send(found);
    });
    thread.map_err(|error| Error::Connection(format!("starting a thread: {error}")))?;
    match receiver.recv_timeout(remaining(until)?) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(Error::Connection(format!("looking up {}: {error}", url.host))),
        Err(_) => Err(Error::TimedOut(Duration::ZERO)),
    }
}
