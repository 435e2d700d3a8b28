//! HTTP/1.1 (RFC 9112) as far as Tang needs it: one request, one answer, one total deadline. No redirects,
//! no proxies, no kept connections, nothing larger than 64 KiB.

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
    let until = Instant::now() + time;
    let late = |error: Error| if Instant::now() >= until { Error::TimedOut(time) } else { error };
    let mut stream = connect(url, until).map_err(late)?;
    let head = |method: &str, more: String| {
        let (host, base) = (url.authority(), &url.path);
        format!(
            "{method} {base}{path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nConnection: close\r\n{more}\r\n"
        )
    };
    let message = match request {
        Request::Get => head("GET", String::new()).into_bytes(),
        Request::Post(body) => {
            let more = format!("Content-Type: application/jwk+json\r\nContent-Length: {}\r\n", body.len());
            [head("POST", more).as_bytes(), body].concat()
        }
    };
    exchange(&mut stream, &message, until).map_err(late)
}

fn exchange(stream: &mut TcpStream, message: &[u8], until: Instant) -> Result<Vec<u8>, Error> {
    stream.set_write_timeout(Some(remaining(until)?)).map_err(|error| broken(&error))?;
    stream.write_all(message).map_err(|error| broken(&error))?;
    let mut reader = Reader::default();
    let mut buffer = [0; 8192];
    loop {
        stream.set_read_timeout(Some(remaining(until)?)).map_err(|error| broken(&error))?;
        match stream.read(&mut buffer) {
            Ok(0) => return reader.close(),
            Ok(count) => {
                if let Some(body) = reader.push(&buffer[..count])? {
                    return Ok(body);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(&error)),
        }
    }
}

fn remaining(until: Instant) -> Result<Duration, Error> {
    let left = until.saturating_duration_since(Instant::now());
    // A zero time-out would mean "wait for ever" to the socket; the caller names the real one.
    if left.is_zero() { Err(Error::TimedOut(Duration::ZERO)) } else { Ok(left) }
}

fn broken(error: &std::io::Error) -> Error {
    Error::Connection(error.kind().to_string())
}

/// Tries the host's addresses in turn; each gets its share of the time that is left.
fn connect(url: &Url, until: Instant) -> Result<TcpStream, Error> {
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
    std::thread::spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Nobody listens any more when the deadline has passed.
        let _ = sender.send(found);
    });
    match receiver.recv_timeout(remaining(until)?) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(Error::Connection(format!("looking up {}: {error}", url.host))),
        Err(_) => Err(Error::TimedOut(Duration::ZERO)),
    }
}
