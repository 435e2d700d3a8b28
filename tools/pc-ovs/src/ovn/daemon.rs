//! The daemons that a holder runs: the servers of the two databases, and ovn-northd between them. The unit's process becomes
//! the daemon itself, once what it needs is there.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use pc_cli::{log, try_again};

use super::database::{self, Answer};
use super::want::{Member, Side, Want};

/// What can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Daemon {
    /// The server of OVN's northbound database
    Nb,
    /// The server of OVN's southbound database
    Sb,
    /// ovn-northd
    Northd,
}

impl Daemon {
    /// All of them, in the order in which one needs the other.
    pub const ALL: [Daemon; 3] = [Daemon::Nb, Daemon::Sb, Daemon::Northd];

    /// Its unit.
    pub fn unit(self) -> String {
        let instance = match self {
            Daemon::Nb => "nb",
            Daemon::Sb => "sb",
            Daemon::Northd => "northd",
        };
        format!("pc-ovs-ovn@{instance}.service")
    }

    fn side(self) -> Option<Side> {
        match self {
            Daemon::Nb => Some(Side::Nb),
            Daemon::Sb => Some(Side::Sb),
            Daemon::Northd => None,
        }
    }
}

/// Becomes the daemon; comes back only with an error, or where there is nothing to run.
pub fn run(daemon: Daemon, root: &Path, want: Option<&Want>) -> Result<()> {
    let Some(want) = want else {
        log::info("the file has no zone: there is nothing to run");
        return Ok(());
    };
    let Some(own) = want.own() else {
        log::info(format_args!("OVN's databases are on {}: there is nothing to run here", want.names()));
        return Ok(());
    };
    database::trusted(want)?;
    if let Some(side) = daemon.side() {
        prepare(root, want, own, side)?;
    }
    let sockets = root.join("run/personal-cluster/ovn");
    std::fs::create_dir_all(&sockets).with_context(|| format!("making {}", sockets.display()))?;
    let (program, arguments) = command(daemon, root, want, own);
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("starting {program}\n  apt-get install ovn-central"))
}

/// The file of the database: of the only holder it is made, of another one joined to those that have it.
fn prepare(root: &Path, want: &Want, own: &Member, side: Side) -> Result<()> {
    if database::is_made(root, own, side)? {
        return Ok(());
    }
    let name = side.database();
    if want.members.len() == 1 {
        database::create(root, own, side)?;
        log::info(format_args!("make {name}"));
        return Ok(());
    }
    let mut silent = Vec::new();
    for other in want.others() {
        match database::ask(want, other, side)? {
            Answer::Has(cluster) => {
                database::join(root, want, own, side, &cluster)?;
                log::info(format_args!("join {name}, which {} has", other.name));
                return Ok(());
            }
            Answer::HasNot => silent.push(format!("{} has none", other.name)),
            Answer::Unknown(why) => silent.push(format!("{} does not say: {}", other.name, first_line(&why))),
        }
    }
    Err(try_again(format!(
        "no node gives {name}: {}\n  once for the whole cluster, on one of {}: pc-ovs ovn create",
        silent.join("; "),
        want.names()
    )))
}

/// What a longer error begins with.
pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The program and its arguments. Logs go to stderr, which is the journal.
fn command(daemon: Daemon, root: &Path, want: &Want, own: &Member) -> (&'static str, Vec<String>) {
    let below = |path: &str| root.join(path).display().to_string();
    let name = match daemon {
        Daemon::Nb => "nb",
        Daemon::Sb => "sb",
        Daemon::Northd => "northd",
    };
    let control = below(&format!("run/personal-cluster/ovn/{name}.ctl"));
    let mut arguments: Vec<String> =
        vec!["-vconsole:info".into(), "-vsyslog:off".into(), format!("--unixctl={control}")];
    arguments.extend(want.tls.options());
    let Some(side) = daemon.side() else {
        arguments.push(format!("--ovnnb-db={}", want.remotes(Side::Nb)));
        arguments.push(format!("--ovnsb-db={}", want.remotes(Side::Sb)));
        return ("ovn-northd", arguments);
    };
    arguments.push(format!("--remote=punix:{}", database::socket(root, side).display()));
    // On the address of the nodes, and for those who have a certificate of the cluster.
    let address = own.address;
    let address = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    arguments.push(format!("--remote=pssl:{}:{address}", side.port()));
    arguments.push(database::file(root, side).display().to_string());
    ("ovsdb-server", arguments)
}

#[cfg(test)]
mod tests {
    use super::super::want::tests::{file, wanted};
    use super::*;

    fn told(daemon: Daemon) -> (&'static str, Vec<String>) {
        let want = wanted(&file(3), "node2").unwrap();
        command(daemon, Path::new("/"), &want, want.own().unwrap())
    }

    #[test]
    fn servers_listen_for_nodes_and_for_root_of_this_one() {
        let (program, arguments) = told(Daemon::Sb);
        assert_eq!(program, "ovsdb-server");
        assert_eq!(
            arguments,
            [
                "-vconsole:info",
                "-vsyslog:off",
                "--unixctl=/run/personal-cluster/ovn/sb.ctl",
                "--private-key=/run/personal-cluster/secrets/node.key",
                "--certificate=/etc/personal-cluster/trust/node.crt",
                "--ca-cert=/etc/personal-cluster/trust/ca.crt",
                "--remote=punix:/run/personal-cluster/ovn/sb.sock",
                "--remote=pssl:6642:10.0.0.2",
                "/var/lib/personal-cluster/ovn/sb.db",
            ]
        );
    }

    #[test]
    fn northd_follows_the_leader_wherever_it_is() {
        let (program, arguments) = told(Daemon::Northd);
        assert_eq!(program, "ovn-northd");
        assert_eq!(
            arguments[6..],
            [
                "--ovnnb-db=ssl:10.0.0.1:6641,ssl:10.0.0.2:6641,ssl:10.0.0.3:6641",
                "--ovnsb-db=ssl:10.0.0.1:6642,ssl:10.0.0.2:6642,ssl:10.0.0.3:6642",
            ]
        );
    }
}
