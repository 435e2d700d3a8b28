//! The resident: collectors on threads of their own, and the listener.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use cluster::Exporter;
use pc_cli::{Common, log, refused, try_again};

use crate::collectors::{BUILD, Board, Collector, REFUSED, SCRAPES};
use crate::exposition::{Format, render};
use crate::http::{self, Answers, Counts};
use crate::metric::Samples;
use crate::supplies::Supplies;
use crate::targets::PORT;
use crate::tls::Tls;
use crate::token::Token;
use crate::{budgets, clock, page, reader, tang, units};

/// The node's certificate, as pc-trust leaves it.
const CERTIFICATE: &str = "node.crt";
/// Its key, and the token: secrets of the node, and credentials of the unit.
const KEY: &str = "node.key";
const TOKEN: &str = "exporter.token";
/// So often the files of the siblings are looked at.
const FILES: Duration = Duration::from_secs(5);

/// How it is served, where the command line says so.
#[derive(Debug, Default, clap::Args)]
pub struct Manner {
    /// Another address and port than the node's address and 19100
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Serve over TLS with this certificate (PEM), also where the file does not say so
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Answer only who shows the token in this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Serves until it is ended.
pub fn serve(common: &Common, manner: Manner) -> Result<()> {
    // With an address of its own the exporter needs no file; one that is there counts all the same.
    let file = (manner.listen.is_none() || common.cluster_file().exists()).then(|| crate::load(common));
    let file = file.transpose()?;
    let address = match (manner.listen, &file) {
        (Some(address), _) => address,
        (None, Some(file)) => {
            let view = file.view(&common.node_name()?).map_err(refused)?;
            SocketAddr::new(crate::targets::address(view.node)?, PORT)
        }
        (None, None) => anyhow::bail!("there is no address to listen on"),
    };
    let wanted = file.and_then(|file| file.exporter).unwrap_or_default();
    let (tls, token) = guards(common, &wanted, manner, address)?;
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
        tls,
        token,
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

/// What a scrape must come through: out of the command line, else out of the file.
fn guards(
    common: &Common,
    wanted: &Exporter,
    manner: Manner,
    address: SocketAddr,
) -> Result<(Option<Tls>, Option<Token>)> {
    let files = manner.tls_certificate.zip(manner.tls_key).or_else(|| {
        let certificate = common.under_root(cluster::paths::TRUST).join(CERTIFICATE);
        wanted.tls.then(|| (certificate, credential(common, KEY)))
    });
    let token = manner.token_file.or_else(|| wanted.token.then(|| credential(common, TOKEN)));
    if token.is_some() && files.is_none() && !address.ip().is_loopback() {
        return Err(refused(format!(
            "a token on {address} without TLS: it would cross the network in clear\n  \
             write tls = true in [exporter], or add --tls-certificate and --tls-key"
        )));
    }
    if let Some((certificate, _)) = &files {
        log::info(format_args!("over TLS, with {}", certificate.display()));
    }
    let tls = files.map(|(certificate, key)| Tls::new(&certificate, &key)).transpose()?;
    Ok((tls, token.map(|path| Token::read(&path)).transpose()?))
}

/// Where systemd has put a secret for this unit (systemd.exec(5)); for a person, where it lies open.
fn credential(common: &Common, name: &str) -> PathBuf {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    directory.unwrap_or_else(|| common.under_root(cluster::paths::SECRETS)).join(name)
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
