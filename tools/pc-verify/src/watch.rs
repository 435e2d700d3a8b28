//! A view that one can leave open: looks again and again, on a thread beside the terminal, and shows what has changed.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::Question;
use crate::screen::{View, draw};
use crate::terminal::{Key, Terminal, keys};
use crate::verdict::Verdict;

/// What a look has found, or why it has not.
type Found = Result<Verdict, String>;

/// Shows until somebody ends it. A look begins so long after the last one has ended.
pub fn watch(question: Question, every: Duration) -> Result<()> {
    // What is refused is refused on the terminal as it is.
    question.read()?;
    let patience = every + question.budget() * 2;
    // Before any thread begins, so that they come here only.
    let signals = signals()?;
    let (woken, wake) = UnixStream::pair().context("making a pair of sockets")?;
    let (order, orders) = channel();
    let (sender, found) = channel();
    let mut terminal = Terminal::open()?;
    let worker = std::thread::spawn(move || look(&question, every, &orders, &sender, wake));
    let mut session = Session {
        found,
        order,
        verdict: None,
        error: None,
        late: None,
        every,
        from: 0,
        colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let ended = session.run(&mut terminal, &signals, woken, patience);
    // The terminal is free at once; the programs that were asked are waited for, and each has its deadline.
    drop(terminal);
    drop(session);
    let joined = worker.join();
    ended?;
    joined.map_err(|_| anyhow::anyhow!("looking ended badly"))
}

fn signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGWINCH] {
        mask.add(signal);
    }
    mask.thread_block().context("blocking signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("waiting for signals")
}

/// Looks until nobody listens; an order shortens the pause.
fn look(
    question: &Question,
    every: Duration,
    orders: &Receiver<()>,
    found: &Sender<Found>,
    mut wake: UnixStream,
) {
    loop {
        let answer = question.ask().map_err(|error| format!("{error:#}"));
        if found.send(answer).is_err() || wake.write_all(&[1]).is_err() {
            return;
        }
        match orders.recv_timeout(every) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // Who has asked several times is answered once.
        while orders.try_recv().is_ok() {}
    }
}

struct Session {
    found: Receiver<Found>,
    order: Sender<()>,
    verdict: Option<Verdict>,
    error: Option<String>,
    late: Option<u64>,
    every: Duration,
    from: usize,
    colour: bool,
}

impl Session {
    /// Draws and waits, until a key or a signal ends it.
    fn run(
        &mut self,
        terminal: &mut Terminal,
        signals: &SignalFd,
        mut woken: UnixStream,
        patience: Duration,
    ) -> Result<()> {
        woken.set_nonblocking(true).context("preparing a socket")?;
        let stdin = std::io::stdin();
        let mut heard = Instant::now();
        let mut due = heard + patience;
        loop {
            let room = self.draw(terminal)?;
            let left = due.saturating_duration_since(Instant::now());
            let mut ready = [
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(woken.as_fd(), PollFlags::POLLIN),
            ];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut ready, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("waiting for the terminal"),
            }
            let is = |at: usize| ready[at].revents().is_some_and(|events| !events.is_empty());
            let (typed, answered) = (is(0), is(2));
            if typed && self.typed(&read(&stdin)?, room) {
                return Ok(());
            }
            while let Some(signal) = signals.read_signal().context("reading signals")? {
                if signal.ssi_signo != Signal::SIGWINCH as u32 {
                    return Ok(());
                }
                terminal.resized()?;
            }
            if answered {
                if !drain(&mut woken)? {
                    anyhow::bail!("looking ended badly");
                }
                self.take();
                (heard, self.late) = (Instant::now(), None);
                due = heard + patience;
            } else if Instant::now() >= due {
                self.late = Some(heard.elapsed().as_secs());
                due = Instant::now() + patience;
            }
        }
    }

    fn take(&mut self) {
        for found in self.found.try_iter() {
            match found {
                Ok(verdict) => (self.verdict, self.error) = (Some(verdict), None),
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// Shows what is known; so many rows are one screen.
    fn draw(&mut self, terminal: &mut Terminal) -> Result<usize> {
        let (columns, rows) = Terminal::size();
        let view = View {
            verdict: self.verdict.as_ref(),
            error: self.error.as_deref(),
            late: self.late,
            every: self.every.as_secs(),
            from: self.from,
            colour: self.colour,
        };
        let (lines, most) = draw(&view, columns, rows);
        self.from = self.from.min(most);
        terminal.show(lines)?;
        Ok(rows.saturating_sub(1))
    }

    /// Whether that was the end.
    fn typed(&mut self, bytes: &[u8], screen: usize) -> bool {
        // The terminal has gone.
        let mut ends = bytes.is_empty();
        for key in keys(bytes) {
            match key {
                Key::Quit => ends = true,
                // A worker that has ended is told of by its socket.
                Key::Again => drop(self.order.send(())),
                Key::Lines(count) => self.from = self.from.saturating_add_signed(count),
                Key::Screens(count) => {
                    let lines = isize::try_from(screen).unwrap_or(isize::MAX).saturating_mul(count);
                    self.from = self.from.saturating_add_signed(lines);
                }
            }
        }
        ends
    }
}

fn read(stdin: &std::io::Stdin) -> Result<Vec<u8>> {
    let mut bytes = [0; 256];
    match nix::unistd::read(stdin, &mut bytes) {
        Ok(count) => Ok(bytes[..count].to_vec()),
        // A terminal that has gone.
        Err(Errno::EIO) => Ok(Vec::new()),
        Err(error) => Err(error).context("reading from the terminal"),
    }
}

/// Whether somebody is still at the other end.
fn drain(woken: &mut UnixStream) -> Result<bool> {
    let mut bytes = [0; 64];
    loop {
        match woken.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("reading from a socket"),
        }
    }
}
