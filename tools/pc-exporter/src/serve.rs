//! The resident: collectors on threads of their own, and the listener.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use pc_cli::{Common, log, refused, try_again};

use crate::collectors::{BUILD, Board, Collector, REFUSED, SCRAPES};
use crate::exposition::{Format, render};
use crate::http::{self, Answers, Counts};
use crate::metric::Samples;
use crate::supplies::Supplies;
use crate::targets::PORT;
use crate::{budgets, clock, page, reader, tang, units};

/// So often the files of the siblings are looked at.
const FILES: Duration = Duration::from_secs(5);

/// Serves until it is ended.
pub fn serve(common: &Common, listen: Option<SocketAddr>) -> Result<()> {
    let address = match listen {
        Some(address) => address,
        None => SocketAddr::new(own_address(common)?, PORT),
    };
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrNotAvailable => {
            try_again(format!("{} is on no interface yet\n  pc-ovs status", address.ip()))
        }
        _ => anyhow::Error::new(error).context(format!("listening on {address}")),
    })?;
    log::info(format_args!("listening on {}", listener.local_addr().context("asking for the port")?));
    let board = Arc::new(Board::default());
    collect(common, &board)?;
    let counts = Arc::new(Counts::default());
    let (shared, root) = ((Arc::clone(&board), Arc::clone(&counts)), common.root.clone());
    let answers = Answers {
        scrape: Box::new(move |format| scrape(&shared.0, &shared.1, format)),
        page: Box::new(move || page::page(&root, SystemTime::now())),
    };
    let every = beat();
    // A systemd that is not there is not told.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    let checked = (Arc::clone(&board), Arc::clone(&counts));
    http::serve(&listener, answers, counts, every, || {
        // What is shown to the watchdog is that a scrape can be made and a connection be taken.
        if !scrape(&checked.0, &checked.1, Format::Text).is_empty() {
            let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Watchdog]);
        }
    })
}

/// A third of what the watchdog allows, or five seconds.
fn beat() -> Duration {
    let mut microseconds = 0;
    let enabled = sd_notify::watchdog_enabled(false, &mut microseconds);
    let third = Duration::from_micros(microseconds) / 3;
    if enabled && !third.is_zero() { third.min(FILES) } else { FILES }
}

fn scrape(board: &Board, counts: &Counts, format: Format) -> String {
    let mut samples = Samples(board.samples(SystemTime::now()));
    samples.info(&BUILD, &[env!("CARGO_PKG_VERSION")]);
    samples.count(&SCRAPES, &[], counts.scrapes.load(Ordering::Relaxed));
    samples.count(&REFUSED, &[], counts.refused.load(Ordering::Relaxed));
    render(&samples.0, format)
}

/// The node's address in the file.
fn own_address(common: &Common) -> Result<IpAddr> {
    let file = crate::load(common)?;
    let view = file.view(&common.node_name()?).map_err(refused)?;
    crate::targets::address(view.node)
}

/// Starts every collector. Each is one thread, whatever becomes of it.
fn collect(common: &Common, board: &Arc<Board>) -> Result<()> {
    let seconds = Duration::from_secs;
    // Before anybody can ask: a scrape right after the start has what the tools have left.
    let mut known = Vec::new();
    reader::look(&common.root, board, &mut known);
    let (root, files) = (common.root.clone(), Arc::clone(board));
    std::thread::Builder::new()
        .name("files".into())
        .spawn(move || {
            loop {
                std::thread::sleep(FILES);
                reader::look(&root, &files, &mut known);
            }
        })
        .context("starting a thread")?;
    let collector = |name, every, deadline| Collector { name, every, deadline };
    collector("units", seconds(15), seconds(5))
        .spawn(board, || units::look(&units::system_bus()?).map(Some))
        .context("starting a thread")?;
    collector("clock", seconds(60), seconds(10))
        .spawn(board, || clock::look(&units::system_bus()?).map(Some))
        .context("starting a thread")?;
    let mut supplies = Supplies::default();
    collector("ups", seconds(15), seconds(10))
        .spawn(board, move || supplies.look())
        .context("starting a thread")?;
    let of_file = common.clone();
    collector("budgets", seconds(60), seconds(5))
        .spawn(board, move || {
            if !of_file.cluster_file().exists() {
                return Ok(None);
            }
            Ok(Some(budgets::look(&crate::load(&of_file)?)))
        })
        .context("starting a thread")?;
    let common = common.clone();
    collector("tang", seconds(60), seconds(15))
        .spawn(board, move || {
            // With an address of its own the exporter needs no file, and then there is nobody to ask.
            if !common.cluster_file().exists() {
                return Ok(None);
            }
            let file = crate::load(&common)?;
            let Some(unlock) = file.unlock else { return Ok(None) };
            Ok(Some(tang::look(u64::from(unlock.threshold), &unlock.tang)))
        })
        .context("starting a thread")
}
