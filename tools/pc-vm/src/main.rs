//! pc-vm: libvirt domains, disks, cloud-init seeds, migration and consoles.
//!
//! Never starts a VM that another node may be running, never writes to a disk that exists, never touches a domain
//! that it did not make, never deletes a disk that it was not told to in so many words, never edits the distribution's libvirt configuration.

mod baseline;
mod cpu;
mod curl;
mod descriptor;
mod devices;
mod disk;
mod domain;
mod emulator;
mod facts;
mod fencing;
mod gather;
mod had;
mod handover;
mod host;
mod hypervisor;
mod idle;
mod image;
mod image_lock;
mod kernel;
mod listen;
mod machine;
mod migrate;
mod nodes;
mod one_disk;
mod order;
mod others;
mod owner;
mod pending;
mod places;
mod plan;
mod probe;
mod qemu_img;
mod reboot;
mod report;
mod resume;
mod seed;
mod site;
mod spare;
mod start;
mod stop;
mod store;
mod systemd;
mod together;
mod virsh;
mod volumes;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use pc_cli::{Common, Exit, emit, emit_raw, refused, require_root};
use pc_plan::{Applied, Plan};
use pc_run::Cost;

use crate::domain::{Guest, Rehearsal};
use crate::nodes::{Nodes, Uris};
use crate::places::Places;
use crate::site::Site;

/// Schema of what `apply` answers.
const APPLIED: &str = "pc.vm.apply/1";

/// Virtual machines: define, start, stop, move, look
#[derive(Parser)]
#[command(name = "pc-vm", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    uris: Uris,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Print what apply would do on this node
    Plan {
        /// Exit with 3 when there is something to do
        #[arg(long)]
        exit_code: bool,
    },
    /// Define every VM of the file on this node, and have libvirt listen for the other nodes
    Apply {
        /// `-`: a plan from standard input, perhaps filtered, instead of a new one
        #[arg(value_parser = ["-"])]
        plan: Option<String>,
    },
    /// Print the VMs of this node and what is wrong with them
    Status {
        /// Exit with 3 when anything is not healthy
        #[arg(long)]
        exit_code: bool,
    },
    /// Print all VMs of the cluster and where they run
    List,
    /// Print which processor every node can give a guest, as `cpu` of a VM is written
    Baseline,
    /// Start a VM on this node, unless another node may be running it
    Start {
        /// The VM
        name: String,
        #[command(flatten)]
        options: start::Options,
    },
    /// Stop a VM: power button, patience, then the plug
    Stop {
        /// The VM
        #[arg(required_unless_present = "all")]
        name: Option<String>,
        /// Every VM that runs on this node
        #[arg(long, conflicts_with = "name")]
        all: bool,
        #[command(flatten)]
        options: stop::Options,
    },
    /// Restart what runs inside a VM, wherever it runs, and wait until it begins to boot
    Reboot {
        /// The VM
        name: String,
        #[command(flatten)]
        options: reboot::Options,
    },
    /// Say whether a VM's QEMU is on this node, also while libvirt hangs; 75 when that is not known
    Probe {
        /// The VM
        #[arg(required_unless_present = "all")]
        name: Option<String>,
        #[command(flatten)]
        options: probe::Options,
    },
    /// Move a running VM to another node
    Migrate {
        /// The VM
        name: String,
        /// Where to
        // Not `node`: clap would take it for the flag --node, which says who we are.
        #[arg(value_name = "NODE")]
        to: String,
        #[command(flatten)]
        options: migrate::Options,
    },
    /// Note that a VM runs nowhere, so that pacemaker may start it on any node (pc-ha start --owner-is-dead)
    #[command(hide = true)]
    Disown {
        /// The VM
        name: String,
        /// NODE is switched off for certain: its silence means nothing. Once for each node
        #[arg(long, value_name = "NODE")]
        owner_is_dead: Vec<String>,
    },
    /// Note that the VMs that run on this node are pacemaker's (pc-ha apply, once the node can be fenced)
    #[command(hide = true)]
    Adopt,
    /// Note that no VM is pacemaker's any more: a node that is silent has to be asked again (pc-ha maintenance on)
    #[command(hide = true)]
    Release,
    /// Have a VM of this node go on that was paused for an I/O error, when its volume answers (pacemaker's agent)
    #[command(hide = true)]
    Resume {
        /// The VM
        name: String,
        /// Exit with 3 when it cannot go on: its disk is on a mount that is no more
        #[arg(long)]
        exit_code: bool,
    },
    #[command(flatten)]
    Disk(disk::Verb),
    /// Attach to a VM's serial console; Ctrl-] leaves
    Console {
        /// The VM
        name: String,
    },
    /// Print a VM's definition as this node would have it
    Xml {
        /// The VM
        name: String,
        /// Of a copy instead whose files are in this directory: without network card, UUID and mark (pc-borg drill)
        #[arg(long, value_name = "DIRECTORY", requires = "called")]
        copy: Option<PathBuf>,
        /// What the copy is called: with a dot, as no VM is
        #[arg(long = "as", id = "called", value_name = "NAME", requires = "copy")]
        called: Option<String>,
        /// Where the copy's serial console is written to: console.log beside its disk when this is not said
        #[arg(long, value_name = "FILE", requires = "copy")]
        console: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    pc_cli::main::<Cli>(run)
}

fn run(cli: Cli) -> Result<Exit> {
    let common = cli.common;
    pc_cli::log::set_verbosity(common.verbose);
    if matches!(cli.verb, Verb::Probe { name: None, .. }) {
        require_root()?;
        return probe::all(&common);
    }
    let path = common.cluster_file();
    let file = if common.applied { cluster::load_applied(&path) } else { cluster::load(&path) };
    let file = file.map_err(refused)?;
    let view = file.view(&common.node_name()?).map_err(refused)?;
    let site = Site { common: &common, nodes: Nodes { view, uris: &cli.uris } };
    verb(&site, cli.verb)
}

fn verb(site: &Site, verb: Verb) -> Result<Exit> {
    let json = site.common.json;
    match verb {
        Verb::Plan { exit_code } => {
            let outcome = site.host()?.outcome()?;
            emit(json, &outcome)?;
            Ok(Exit::of_answer(exit_code, !outcome.plan.steps.is_empty()))
        }
        Verb::Apply { plan } => {
            let printed = plan.map(|_| Plan::from_stdin()).transpose()?;
            require_root()?;
            let (started, mut done) = (Instant::now(), Vec::new());
            let result = site.host()?.apply(printed.as_ref(), &mut done);
            gather::leave_status(site);
            Applied::new(APPLIED, site.nodes.me(), done, Cost::since(started)).end(json, result)
        }
        Verb::Status { exit_code } => {
            let status = gather::status(site)?;
            // The answer is what was asked for: a status that cannot be left (full disk) changes nothing of it.
            if require_root().is_ok() {
                if let Err(error) = pc_cli::write_status(&site.common.root, "vm", &status) {
                    pc_cli::log::warning(format_args!("leaving the status: {error:#}"));
                }
            }
            emit(json, &status)?;
            Ok(Exit::of_answer(exit_code, !status.healthy))
        }
        Verb::List => {
            emit(json, &gather::list(site))?;
            Ok(Exit::Done)
        }
        Verb::Baseline => {
            require_root()?;
            baseline::baseline(site)
        }
        Verb::Start { name, options } => {
            require_root()?;
            site.require_self()?;
            let result = start::start(site, &name, &options);
            gather::leave_status(site);
            result
        }
        Verb::Stop { name, options, .. } => {
            require_root()?;
            // What runs here is stopped whoever we are; where else it runs depends on who that is.
            if name.is_some() && !options.here {
                site.require_self()?;
            }
            let result = match name {
                Some(name) => stop::stop(site, &name, &options),
                None => stop::stop_all(site, &options),
            };
            gather::leave_status(site);
            result
        }
        Verb::Reboot { name, options } => {
            require_root()?;
            reboot::reboot(site, &name, &options)
        }
        Verb::Probe { name, options } => {
            require_root()?;
            probe::probe(site, &name.unwrap_or_default(), options)
        }
        Verb::Migrate { name, to, options } => {
            require_root()?;
            site.require_self()?;
            migrate::migrate(site, &name, &to, &options)
        }
        Verb::Disown { name, owner_is_dead } => {
            require_root()?;
            site.require_self()?;
            handover::disown(site, &name, &owner_is_dead)
        }
        Verb::Adopt => {
            require_root()?;
            site.require_self()?;
            handover::adopt(site)
        }
        Verb::Release => {
            require_root()?;
            site.require_self()?;
            handover::release(site)
        }
        Verb::Resume { name, exit_code } => {
            require_root()?;
            resume::resume(site, &name, exit_code)
        }
        Verb::Disk(verb) => disk::run(site, verb),
        Verb::Console { name } => console(site, &name),
        Verb::Xml { name, copy, called, console } => {
            let guest = site.guest(&name)?;
            let xml = match copy.as_deref().zip(called.as_deref()) {
                None => site.host()?.definition(&guest).xml,
                Some((directory, called)) => copy_of(site, &guest, directory, called, console)?,
            };
            emit_raw(xml.as_bytes())?;
            Ok(Exit::Done)
        }
    }
}

/// The definition of a copy, out of what lies in its directory.
fn copy_of(
    site: &Site,
    guest: &Guest,
    directory: &Path,
    called: &str,
    console: Option<PathBuf>,
) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if !called.contains('.') || !called.chars().all(plain) {
        return Err(refused(format!(
            "--as {called:?}: may be a VM\n  write for example copy.{}",
            guest.name
        )));
    }
    let place = absolute("--copy", directory)?;
    let console = console.unwrap_or_else(|| directory.join("console.log"));
    let console = absolute("--console", &console)?;
    let seed = Places::of_copy(place).seed;
    let seed = Path::new(&seed).try_exists().with_context(|| format!("looking for {seed}"))?;
    Ok(site.host()?.copy(guest, &Rehearsal { name: called, directory: place, seed, console }))
}

fn absolute<'a>(flag: &str, path: &'a Path) -> Result<&'a str> {
    path.to_str()
        .filter(|_| path.is_absolute())
        .ok_or_else(|| refused(format!("{flag} {}: is not an absolute path", path.display())))
}

/// Becomes `virsh console`, on the node where the VM runs.
fn console(site: &Site, name: &str) -> Result<Exit> {
    let guest = site.guest(name)?;
    let node = site.nodes.runs_on(&guest.uuid()).with_context(|| format!("vm {name}"))?;
    let Some(node) = node else {
        return Err(refused(format!("vm {name}: runs nowhere\n  pc-vm start {name}")));
    };
    Err(virsh::console(&site.nodes.uri_from_here(node)?, name))
}
