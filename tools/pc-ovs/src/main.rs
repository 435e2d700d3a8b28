//! Open vSwitch bridges, bonds, VLANs and host addresses of one node, and the cluster's zones in OVN, over OVSDB.
//!
//! Never changes or removes a bridge, port, interface or row of OVN that it did not make; never makes OVN's databases a
//! second time by itself; never touches a NIC that
//! somebody else configures without `--take-over`, and then keeps a copy of every file it changes; never
//! depends on a peer, a volume or a name server; never runs `ovs-vsctl`; never decides at boot, by asking the
//! network, whether to go back.

#![forbid(unsafe_code)]

mod action;
mod addresses;
mod apply;
mod change;
mod claims;
mod connection;
mod counters;
mod dns;
mod guard;
mod host;
mod ip;
mod model;
mod ovn;
mod ovsdb;
mod plan;
mod probation;
mod probe;
mod record;
mod refusal;
mod rows;
mod status;
mod switch;
mod systemd;
mod takeover;
mod undo;
mod unreadable;
mod want;
mod zones;

#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use cluster::Cluster;
use pc_cli::{Common, Exit, refused};
use pc_plan::{Applied, Plan};
use pc_run::Cost;

use crate::apply::Options;
use crate::host::Host;
use crate::switch::Switch;
use crate::undo::Occasion;
use crate::want::{Want, want};

/// Open vSwitch bridges, bonds, VLANs and host addresses of this node; zones and routes in OVN
#[derive(Debug, Parser)]
#[command(name = "pc-ovs", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    /// Datapath of new bridges: empty for the kernel's, `netdev` for the userspace one
    #[arg(long, global = true, default_value = "", hide = true, value_name = "TYPE")]
    datapath: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print what apply would do
    Plan {
        /// Plan to take over NICs that somebody else configures
        #[arg(long)]
        take_over: bool,
        /// Exit with 3 when there is something to do
        #[arg(long)]
        exit_code: bool,
    },
    /// Bring this node's network to the cluster file
    Apply {
        /// `-`: only the steps of the plan on standard input
        #[arg(value_name = "-", value_parser = ["-"])]
        plan: Option<String>,
        /// Take over NICs that ifupdown, systemd-networkd, netplan or `NetworkManager` configures; their files
        /// are kept
        #[arg(long)]
        take_over: bool,
        /// Go back after this long (60s, 5m) unless a peer, the router, a Tang server or `pc-ovs confirm` answers
        #[arg(long, value_name = "TIME", value_parser = duration)]
        confirm: Option<Duration>,
        /// This card has just come: nothing is done unless it is one of the file's, and down
        #[arg(long, hide = true, value_name = "NIC", conflicts_with_all = ["plan", "take_over", "confirm"])]
        came: Option<String>,
    },
    /// Keep the change that is on probation
    Confirm,
    /// Undo the change that is on probation
    Rollback {
        /// The probation is over: ask the network a last time first
        #[arg(long, hide = true, conflicts_with = "interrupted")]
        expired: bool,
        /// Only if the machine went down during the probation: nobody confirmed it. A record that cannot be
        /// read is set aside
        #[arg(long, hide = true)]
        interrupted: bool,
    },
    /// Show bridges, links, addresses, and what is wrong with them
    Status {
        /// Exit with 3 when something is wrong
        #[arg(long)]
        exit_code: bool,
    },
    /// Networks with a `gateway`: closed to each other by OVN but for the routes of the file
    Zones {
        #[command(subcommand)]
        verb: zones::Verb,
    },
    /// What zones need of this node: OVN's databases, ovn-northd, settings of ovn-controller
    Ovn {
        #[command(subcommand)]
        verb: ovn::Verb,
    },
    /// Tell which line of the file decides whether a connection is possible
    Explain {
        /// vm:NAME, network:NAME or an address
        from: String,
        /// vm:NAME, network:NAME or an address
        to: String,
        /// tcp/25, udp/53, icmp
        port: String,
        /// Exit with 3 when it is refused
        #[arg(long)]
        exit_code: bool,
    },
    /// Wait, then roll back
    #[command(hide = true)]
    Guard {
        #[arg(long, value_parser = duration)]
        after: Duration,
    },
}

fn main() -> ExitCode {
    pc_cli::main::<Cli>(run)
}

fn run(cli: Cli) -> Result<Exit> {
    let Cli { common, datapath, verb } = cli;
    pc_cli::log::set_verbosity(common.verbose);
    let host = Host::new(&common);
    match verb {
        Verb::Confirm => undo::confirm(&host).map(|()| Exit::Done),
        Verb::Rollback { expired, interrupted } => {
            let occasion = match (expired, interrupted) {
                (true, _) => Occasion::Expired,
                (_, true) => Occasion::Interrupted,
                _ => Occasion::Asked,
            };
            undo::rollback(&host, occasion).map(|()| Exit::Done)
        }
        Verb::Guard { after } => {
            guard::watch(after)?;
            undo::rollback(&host, Occasion::Expired).map(|()| Exit::Done)
        }
        Verb::Zones { verb } => zones::run(&verb, &common, &load(&common)?),
        Verb::Ovn { verb } => ovn::run(&verb, &common, &load(&common)?),
        Verb::Explain { from, to, port, exit_code } => {
            zones::explain(&common, (&from, &to), &port, exit_code)
        }
        Verb::Plan { take_over, exit_code } => print_plan(&common, &host, &datapath, take_over, exit_code),
        Verb::Apply { plan, take_over, confirm, came } => {
            let only = plan.map(|_| Plan::from_stdin()).transpose()?;
            let options = Options { take_over, confirm, only, boot: common.applied, came };
            apply_file(&common, &host, &datapath, &options)
        }
        Verb::Status { exit_code } => print_status(&common, &host, &datapath, exit_code),
    }
}

/// `60s`, `5m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time like 60s or 5m");
    let (digits, factor) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1),
    };
    let seconds: u64 = digits.parse().map_err(|_| wrong())?;
    if seconds == 0 || seconds > 3600 {
        return Err("a probation lasts between 1s and 60m".into());
    }
    Ok(Duration::from_secs(seconds * factor))
}

fn load(common: &Common) -> Result<Cluster> {
    let path = common.cluster_file();
    let loaded = if common.applied { cluster::load_applied(&path) } else { cluster::load(&path) };
    loaded.map_err(refused)
}

/// The node's part of the file. Device names end up in file names and in lines for `ip`: nothing but a
/// device name may stand there.
fn wanted(view: &cluster::NodeView, datapath: &str) -> Result<Want> {
    let want = want(view, datapath);
    let fine = |name: &str| {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !name.is_empty() && name.len() <= 15 && name.bytes().all(safe) && !name.starts_with(['.', '-'])
    };
    match want.devices().iter().find(|name| !fine(name)) {
        Some(name) => Err(refused(format!("{name:?} is not the name of a network card\n  ip -brief link"))),
        None => Ok(want),
    }
}

fn print_plan(
    common: &Common,
    host: &Host,
    datapath: &str,
    take_over: bool,
    exit_code: bool,
) -> Result<Exit> {
    let cluster = load(common)?;
    let view = cluster.view(&common.node_name()?).map_err(refused)?;
    let want = wanted(&view, datapath)?;
    let switch = Switch::open(&host.socket())?;
    let have = host.have(&switch, &want)?;
    let planned = plan::plan(&want, &have, take_over);
    apply::refuse(&planned)?;
    planned.notes.iter().for_each(pc_cli::log::warning);
    let plan = Plan::new(plan::SCHEMA, view.node.name.as_str(), &have, planned.steps);
    pc_cli::emit(common.json, &plan)?;
    Ok(Exit::of_answer(exit_code, !plan.steps.is_empty()))
}

fn apply_file(common: &Common, host: &Host, datapath: &str, options: &Options) -> Result<Exit> {
    let cluster = load(common)?;
    let view = cluster.view(&common.node_name()?).map_err(refused)?;
    let want = wanted(&view, datapath)?;
    let started = Instant::now();
    if let Some(nic) = &options.came {
        if !apply::wants(&want, nic)? {
            return Ok(Exit::Done);
        }
    }
    let applied = apply::apply(host, &view, &want, options);
    // Siblings read it; that it could not be written must not turn a working network into a failed unit.
    let seen = applied.as_ref().ok().and_then(|applied| applied.seen.as_ref());
    let noted = status::status(host, &view, &want, seen)
        .and_then(|status| pc_cli::write_status(&common.root, "ovs", &status));
    if let Err(error) = noted {
        pc_cli::log::warning(format_args!("{error:#}"));
    }
    if options.boot && applied.is_ok() {
        apply::await_carrier(&want)?;
    }
    let done = applied?.done;
    if options.take_over {
        boots_alike(common, &cluster, &view, &want, datapath)?;
    }
    Applied::new("pc.ovs.apply/1", view.node.name.as_str(), done, Cost::since(started))
        .end(common.json, Ok(()))
}

/// After a take-over the boot unit is all that gives this machine its address, and it reads the applied file.
fn boots_alike(
    common: &Common,
    cluster: &Cluster,
    view: &cluster::NodeView,
    want: &Want,
    datapath: &str,
) -> Result<()> {
    let path = common.under_root(pc_cli::APPLIED_FILE);
    if !path.exists() {
        let text = serde_json::to_vec_pretty(cluster).context("writing the file as JSON")?;
        return pc_cli::write_atomic(&path, &text, 0o644);
    }
    let applied = cluster::load_applied(&path).map_err(refused)?;
    let same =
        applied.view(view.node.name.as_str()).is_ok_and(|applied| self::want(&applied, datapath) == *want);
    if !same {
        pc_cli::log::warning(format_args!(
            "the next boot uses {}, whose network differs\n  pc-config put {}",
            path.display(),
            common.cluster_file().display()
        ));
    }
    Ok(())
}

fn print_status(common: &Common, host: &Host, datapath: &str, exit_code: bool) -> Result<Exit> {
    let cluster = load(common)?;
    let view = cluster.view(&common.node_name()?).map_err(refused)?;
    let want = wanted(&view, datapath)?;
    let status = status::status(host, &view, &want, None)?;
    if nix::unistd::geteuid().is_root() {
        // The answer is what was asked for; that nobody else can read it is worth a line at most.
        if let Err(error) = pc_cli::write_status(&common.root, "ovs", &status) {
            pc_cli::log::warning(format_args!("leaving the status: {error:#}"));
        }
    }
    pc_cli::emit(common.json, &status)?;
    Ok(Exit::of_answer(exit_code, !status.healthy || !status.converged))
}
