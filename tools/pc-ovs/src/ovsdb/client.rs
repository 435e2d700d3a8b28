//! One connection to an OVSDB server on a unix socket: calls with a deadline, echoes answered, updates kept.
//!
//! Knows no table. A server that is silent, slow, talks nonsense or hangs up ends in an [`Error`] within the
//! deadline of the call, however it spreads its bytes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

use super::wire::{Malformed, Message, Splitter};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there: the server is not running, or not yet.
    #[error("connecting to {path}: {reason}")]
    NotThere {
        /// The socket.
        path: String,
        /// What the kernel said.
        reason: std::io::Error,
    },
    /// Only root and the openvswitch group may talk to it.
    #[error("connecting to {0}: permission denied\n  {remedy}", remedy = pc_cli::as_root())]
    Denied(String),
    /// No answer in time.
    #[error("asking ovsdb-server for {method}: no answer within {} s", deadline.as_secs())]
    TimedOut {
        /// The method that was called.
        method: String,
        /// How long it was given.
        deadline: Duration,
    },
    /// The connection broke.
    #[error("asking ovsdb-server for {method}: {reason}")]
    Broken {
        /// The method that was called.
        method: String,
        /// What the kernel said.
        reason: std::io::Error,
    },
    /// The server talks something else.
    #[error("reading what ovsdb-server says: {0}")]
    Malformed(#[from] Malformed),
    /// The server says no.
    #[error("ovsdb-server refuses {method}: {error}")]
    Refused {
        /// The method that was called.
        method: String,
        /// Its error object.
        error: String,
    },
    /// What was read is no longer so: nothing was changed.
    #[error("the database has changed since it was read")]
    Stale,
    /// One operation of a transaction failed: nothing was changed.
    #[error("transaction refused: {0}")]
    Transaction(String),
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    splitter: Splitter,
    news: VecDeque<Value>,
    last_id: u64,
    deadline: Duration,
}

impl Client {
    /// Connects; every later call may take `deadline`.
    pub fn connect(path: &Path, deadline: Duration) -> Result<Client, Error> {
        pc_run::timed(|| Client::reach(path, deadline))
    }

    fn reach(path: &Path, deadline: Duration) -> Result<Client, Error> {
        let name = path.display().to_string();
        let until = Instant::now() + deadline;
        let failed = |reason: std::io::Error| match reason.kind() {
            ErrorKind::PermissionDenied => Error::Denied(name.clone()),
            _ => Error::NotThere { path: name.clone(), reason },
        };
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        let address = SockAddr::unix(path).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        // A server that accepts nobody fills its backlog: connect(2) then says EAGAIN, or would block for ever.
        loop {
            match socket.connect(&address) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(failed(error)),
            }
        }
        socket.set_nonblocking(false).map_err(failed)?;
        let stream = UnixStream::from(std::os::fd::OwnedFd::from(socket));
        Ok(Client { stream, splitter: Splitter::default(), news: VecDeque::new(), last_id: 0, deadline })
    }

    /// Calls `method` and waits for its answer.
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, Error> {
        pc_run::timed(|| self.ask(method, params))
    }

    fn ask(&mut self, method: &str, params: &Value) -> Result<Value, Error> {
        self.last_id += 1;
        let number = self.last_id;
        let until = Instant::now() + self.deadline;
        self.send(method, &json!({"id": number, "method": method, "params": params}), until)?;
        loop {
            match self.receive(method, until)? {
                // An answer to a call that was given up earlier is of no use to anyone.
                Some(Message::Reply { id, .. }) if id != number => {}
                Some(Message::Reply { result: Ok(answer), .. }) => return Ok(answer),
                Some(Message::Reply { result: Err(error), .. }) => {
                    return Err(Error::Refused { method: method.into(), error: explain(&error) });
                }
                Some(other) => self.attend(other, until)?,
                None => return Err(Error::TimedOut { method: method.into(), deadline: self.deadline }),
            }
        }
    }

    /// The next `update` (its parameters), `None` when none comes before `until`.
    pub fn next_update(&mut self, until: Instant) -> Result<Option<Value>, Error> {
        loop {
            if let Some(update) = self.news.pop_front() {
                return Ok(Some(update));
            }
            match pc_run::timed(|| self.receive("update", until))? {
                Some(Message::Reply { .. }) => {}
                Some(other) => self.attend(other, until)?,
                None => return Ok(None),
            }
        }
    }

    /// Answers echoes, keeps updates.
    fn attend(&mut self, message: Message, until: Instant) -> Result<(), Error> {
        match message {
            Message::Call { id, method, params } if method == "echo" => {
                self.send("echo", &json!({"id": id, "result": params, "error": null}), until)
            }
            Message::Call { id, method, .. } => {
                self.send(&method, &json!({"id": id, "result": null, "error": "unknown method"}), until)
            }
            Message::News { method, params } => {
                if method == "update" {
                    self.news.push_back(params);
                }
                Ok(())
            }
            Message::Reply { .. } => Ok(()),
        }
    }

    fn send(&mut self, method: &str, message: &Value, until: Instant) -> Result<(), Error> {
        let bytes = message.to_string().into_bytes();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let Some(left) = left(until) else {
                return Err(Error::TimedOut { method: method.into(), deadline: self.deadline });
            };
            let written = self.stream.set_write_timeout(Some(left)).and_then(|()| self.stream.write(rest));
            match written {
                Ok(count) => rest = &rest[count..],
                Err(error) if again(&error) => {}
                Err(reason) => return Err(Error::Broken { method: method.into(), reason }),
            }
        }
        Ok(())
    }

    /// The next message, `None` when none is complete before `until`.
    fn receive(&mut self, method: &str, until: Instant) -> Result<Option<Message>, Error> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            if let Some(message) = self.splitter.next()? {
                return Ok(Some(message));
            }
            let Some(left) = left(until) else { return Ok(None) };
            match self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut chunk)) {
                Ok(0) => {
                    let reason = std::io::Error::new(ErrorKind::UnexpectedEof, "connection closed");
                    return Err(Error::Broken { method: method.into(), reason });
                }
                Ok(count) => self.splitter.push(&chunk[..count]),
                Err(error) if again(&error) => {}
                Err(reason) => return Err(Error::Broken { method: method.into(), reason }),
            }
        }
    }
}

/// What is left until then; `None` when nothing is (a zero time-out would mean "for ever" to the kernel).
fn left(until: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

fn again(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// `error: details` of an error object (RFC 7047, section 3.1).
pub fn explain(error: &Value) -> String {
    let field = |key: &str| error.get(key).and_then(Value::as_str);
    match (field("error"), field("details")) {
        (Some(error), Some(details)) => format!("{error}: {details}"),
        (Some(error), None) => error.into(),
        _ => error.to_string(),
    }
}
