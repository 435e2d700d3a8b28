//! `list` and `mount`: what a repository really holds.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use pc_cli::{refused, together};
use serde::Serialize;
use time::OffsetDateTime;

use crate::archive::{self, rfc3339};
use crate::restore::policy_of;
use crate::session::{self, Session};
use crate::site::{Site, now};

/// How `list` is asked.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only archives of this VM
    pub vm: Option<String>,
    /// Only this policy's repository
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    #[command(flatten)]
    pub lock: session::LockOptions,
}

/// `pc.borg.list/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct List {
    /// `pc.borg.list/1`.
    pub schema: &'static str,
    /// This node.
    pub node: String,
    /// Policy by policy, oldest first.
    pub archives: Vec<Listed>,
}

/// One archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Whose repository it is in.
    pub policy: String,
    /// Its name.
    pub name: String,
    /// The VM; null: somebody else made it, in the same repository.
    pub vm: Option<String>,
    /// RFC 3339 UTC.
    pub taken_at: String,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Listed { policy, name, vm, taken_at } in &self.archives {
            match vm {
                Some(vm) => writeln!(f, "{policy}  {vm}  {taken_at}")?,
                None => writeln!(f, "{policy}  -  {taken_at}  {name}")?,
            }
        }
        Ok(())
    }
}

/// Lists.
pub fn list(site: &Site, options: &Options) -> Result<(List, Result<()>)> {
    let policies: Vec<_> = match &options.policy {
        Some(policy) => vec![site.policy(policy)?],
        None => site.policies.iter().collect(),
    };
    let (mut archives, mut errors) = (Vec::new(), Vec::new());
    for policy in policies {
        let listed = Session::open(site, policy, "list", &options.lock).and_then(|session| {
            let guard = session.guard(site);
            session.borg(site, policy, &guard).list()
        });
        match listed {
            Err(error) => errors.push(error),
            Ok(listed) => {
                for archive in listed {
                    if options.vm.is_some() && options.vm != archive.vm {
                        continue;
                    }
                    archives.push(Listed {
                        policy: policy.name.to_string(),
                        taken_at: rfc3339(archive.taken_at)?,
                        vm: archive.vm,
                        name: archive.name,
                    });
                }
            }
        }
    }
    Ok((List { schema: "pc.borg.list/1", node: site.node().into(), archives }, together(errors)))
}

/// How `mount` is asked.
#[derive(Debug, clap::Args)]
pub struct MountOptions {
    /// The VM
    pub vm: String,
    /// An empty directory
    pub directory: PathBuf,
    /// The newest archive that is not later: 2026-11-21, "2026-11-21 18:00", 2026-11-21T18:00:00Z (UTC)
    #[arg(long, value_name = "TIME", value_parser = archive::parse_at)]
    pub at: Option<OffsetDateTime>,
    /// Out of this policy's repository
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    #[command(flatten)]
    pub lock: session::LockOptions,
}

/// Mounts an archive, read-only, until Ctrl-C or `umount`.
pub fn mount(site: &Site, options: &MountOptions) -> Result<()> {
    let directory = &options.directory;
    let mut entries =
        std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    if entries.next().is_some() {
        return Err(refused(format!("{}: is not empty", directory.display())));
    }
    let policy = policy_of(site, &options.vm, options.policy.as_deref())?;
    let session = Session::open(site, policy, "mount", &options.lock)?;
    let guard = session.guard(site);
    let borg = session.borg(site, policy, &guard);
    let archives = borg.list()?;
    let chosen = archive::choose(&archives, &options.vm, options.at, now())?;
    pc_cli::log::info(format_args!("{} at {}: Ctrl-C or umount ends it", chosen.name, directory.display()));
    borg.mount(&chosen.name, directory)
}
