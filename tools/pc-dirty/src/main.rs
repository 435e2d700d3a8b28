//! What changed on a VM's disks, or on an image, since a state was committed.
//!
//! Never writes to a disk, never starts or stops anything; never says "unchanged" of what it does not know: the answer
//! names the method that was used, and why. Never needs the cluster file.

#![forbid(unsafe_code)]

mod choose;
mod domain;
mod host;
mod look;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use pc_cli::{Exit, refused};
use segment_map::{EXTENTS_SCHEMA, Extents, Lock, Method, Source, State};

use crate::look::{Asked, Looked};

/// What changed on a VM's disks, or on an image, since a state was committed
#[derive(Debug, clap::Parser)]
#[command(name = "pc-dirty", version)]
struct Cli {
    /// VM, as libvirt on this node calls it
    #[arg(required_unless_present = "image", conflicts_with = "image")]
    vm: Option<String>,
    /// `[NAME=]IMAGE`: a raw file or block device, qcow2:PATH, or `nbd+unix:///EXPORT?socket=PATH`; more than once for more
    #[arg(long, value_name = "IMAGE")]
    image: Vec<String>,
    /// State file of pc-segments; without it everything counts as changed
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Where to begin; what is not possible falls back to the next
    #[arg(long, value_name = "METHOD", default_value = "digest", value_parser = method)]
    method: Method,
    /// Bitmap to read, when it is not called as the state's checkpoint (`backup-vda` of a libvirt backup job)
    #[arg(long, value_name = "NAME")]
    bitmap: Option<String>,
    /// Name of the checkpoint that belongs to what is being read; pc-segments keeps it when it commits
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// Size of a segment: 64KiB to 64MiB, a power of two
    ///
    /// Default: the state's; without one 1MiB, for a disk above 2 TiB 4MiB.
    #[arg(long, value_name = "SIZE", value_parser = segment_map::parse_segment)]
    segment: Option<u64>,
    /// After the answer take what was read as the new state
    #[arg(long, requires = "state")]
    update: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// libvirt to ask for the VM
    #[arg(long, value_name = "URI", default_value = "qemu:///system", hide = true)]
    connect: String,
    /// Log what is being done
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn method(text: &str) -> Result<Method, String> {
    match text {
        "bitmap" => Ok(Method::Bitmap),
        "digest" => Ok(Method::Digest),
        "full" => Ok(Method::Full),
        _ => Err(format!("{text:?} is none of bitmap, digest, full")),
    }
}

fn main() -> ExitCode {
    pc_cli::main::<Cli>(run)
}

fn run(cli: Cli) -> Result<Exit> {
    pc_cli::log::set_verbosity(cli.verbose);
    let _lock = if cli.update { cli.state.as_deref().map(Lock::take).transpose()? } else { None };
    let (sources, running) = match &cli.vm {
        Some(vm) => {
            let domain = host::domain(&cli.connect, vm)?;
            if domain.running {
                pc_cli::log::warning(format_args!(
                    "{vm} runs: its images may change while they are read; a frozen export is one moment"
                ));
            }
            (domain.disks, Some(domain.running))
        }
        None => (named(&cli.image)?, None),
    };
    let taken = host::now();
    let state = cli.state.as_deref().map(|path| (path, State::load(path)));
    let asked = Asked {
        method: cli.method,
        segment: cli.segment,
        bitmap: cli.bitmap.as_deref(),
        digests: cli.update,
    };
    let looked: Vec<Looked> =
        sources.iter().map(|source| look::at(source, state.as_ref(), &asked)).collect::<Result<_>>()?;
    let new = cli
        .update
        .then(|| look::state(state.as_ref(), &looked, cli.checkpoint.as_deref(), host::nanoseconds()));
    let disks: Vec<_> = looked.into_iter().map(|looked| looked.extents).collect();
    let dearest = disks.iter().max_by_key(|disk| disk.method);
    let extents = Extents {
        schema: EXTENTS_SCHEMA.into(),
        vm: cli.vm,
        running,
        taken,
        method: dearest.map_or(Method::Digest, |disk| disk.method),
        reason: dearest.map_or_else(|| "no disks".into(), |disk| format!("{}: {}", disk.name, disk.reason)),
        checkpoint: cli.checkpoint,
        disks,
    };
    // The answer first: a state that is newer than what anybody was told loses changes.
    pc_cli::emit_heard(cli.json, &extents)?;
    if let (Some(new), Some(path)) = (new, &cli.state) {
        new.save(path)?;
    }
    Ok(Exit::Done)
}

fn named(images: &[String]) -> Result<Vec<Source>> {
    let sources =
        images.iter().map(|text| Source::parse(text).map_err(refused)).collect::<Result<Vec<_>>>()?;
    for (index, source) in sources.iter().enumerate() {
        if sources[..index].iter().any(|other| other.name == source.name) {
            let name = &source.name;
            return Err(refused(format!("two disks are called {name}: NAME=IMAGE gives one another name")));
        }
    }
    Ok(sources)
}
