//! What this node's libvirt has, and the changes of a plan.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cluster::NodeView;
use pc_cli::{Common, refused, together, try_again, write_atomic};
use pc_plan::{Carried, Plan, Step};

use crate::domain::{Definition, Guest, Rehearsal, render, render_copy};
use crate::facts::HostFacts;
use crate::had;
use crate::hypervisor::Hypervisor;
use crate::listen::{self, Wanted};
use crate::places::{DEFINITIONS, own_definition};
use crate::plan::{Action, Have, Outcome, Want, plan};

/// This node: its libvirt and its root directory.
#[derive(Debug)]
pub struct Host<'a> {
    /// Flags of the command line; `root` is the machine.
    pub common: &'a Common,
    /// The node's view of the file.
    pub view: &'a NodeView<'a>,
    /// The node's libvirt.
    pub hypervisor: Hypervisor,
    /// What it can run.
    pub facts: HostFacts,
}

impl<'a> Host<'a> {
    /// Looks at the host.
    pub fn new(common: &'a Common, view: &'a NodeView<'a>, hypervisor: Hypervisor) -> Result<Host<'a>> {
        let cpuinfo = fs::read_to_string(common.under_root("/proc/cpuinfo")).unwrap_or_default();
        let facts = HostFacts::parse(&hypervisor.capabilities()?, &cpuinfo)?;
        Ok(Host { common, view, hypervisor, facts })
    }

    /// The definition of one VM on this host.
    pub fn definition(&self, guest: &Guest) -> Definition {
        render(guest, &self.facts)
    }

    /// That of a copy of a VM.
    pub fn copy(&self, guest: &Guest, copy: &Rehearsal) -> String {
        render_copy(guest, &self.facts, copy)
    }

    fn want(&self, listen: &Wanted) -> Want {
        let cluster = self.view.cluster;
        let guests = cluster.vms.iter().map(|(name, vm)| Guest { cluster, name, vm });
        Want {
            node: self.view.node.name.to_string(),
            definitions: guests.map(|guest| self.definition(&guest)).collect(),
            listen: if let Wanted::Listen(want) = listen { Some(want.clone()) } else { None },
        }
    }

    fn have(&self) -> Result<Have> {
        Ok(Have {
            domains: self.hypervisor.domains()?,
            files: definitions(&self.common.under_root(DEFINITIONS))?,
            listening: listen::listening(&self.common.root),
        })
    }

    /// What is to be done, and what stands in the way.
    pub fn outcome(&self) -> Result<Outcome> {
        let listen = listen::wanted(&self.common.root, self.view)?;
        let mut outcome = plan(&self.want(&listen), &self.have()?);
        if let Wanted::Waiting(reason) = listen {
            outcome.notices.push(format!("libvirt does not listen for the other nodes: {reason}"));
        }
        Ok(outcome)
    }

    /// Brings this node to the file and says in `done` by which steps; `printed` is a plan that somebody filtered.
    pub fn apply(&self, printed: Option<&Plan<Action>>, done: &mut Vec<String>) -> Result<()> {
        let outcome = self.outcome()?;
        let steps = match printed {
            None => outcome.plan.steps,
            Some(printed) => printed.still_true(&outcome.plan).map_err(refused)?,
        };
        let mut carried = self.carry_out(&steps);
        done.append(&mut carried.done);
        let mut errors: Vec<anyhow::Error> = carried.failed.into_iter().map(|(_, error)| error).collect();
        if printed.is_none() {
            if let Wanted::Waiting(reason) = listen::wanted(&self.common.root, self.view)? {
                errors.push(try_again(format!("libvirt does not listen for the other nodes: {reason}")));
            }
            errors.extend(outcome.conflicts.into_iter().map(refused));
        }
        together(errors)
    }

    fn carry_out(&self, steps: &[Step<Action>]) -> Carried {
        let perform =
            |step: &Step<Action>| self.perform(&step.action).with_context(|| step.action.to_string());
        pc_plan::carry_out(steps, perform)
    }

    fn perform(&self, action: &Action) -> Result<()> {
        match action {
            Action::Render { vm, .. } => self.write_definition(&self.named(vm)?),
            Action::Define { vm, .. } => self.hypervisor.define(&self.named(vm)?.xml),
            Action::AutostartOff { vm } => self.hypervisor.autostart_off(&self.named(vm)?.uuid),
            Action::Forget { vm, uuid } => {
                if let Some(uuid) = uuid {
                    self.hypervisor.undefine(uuid)?;
                }
                had::forget(&self.common.root, vm)?;
                remove_if_there(&self.common.under_root(&own_definition(vm)))
            }
            Action::Listen { .. } => match listen::wanted(&self.common.root, self.view)? {
                Wanted::Listen(want) => listen::listen(&self.common.root, &want),
                Wanted::Nothing | Wanted::Waiting(_) => Err(try_again("the certificate has gone")),
            },
        }
    }

    fn named(&self, vm: &str) -> Result<Definition> {
        let cluster = self.view.cluster;
        let (name, vm) = cluster.vms.get_key_value(vm).with_context(|| format!("no vm is called {vm}"))?;
        Ok(self.definition(&Guest { cluster, name, vm }))
    }

    fn write_definition(&self, definition: &Definition) -> Result<()> {
        let directory = self.common.under_root(DEFINITIONS);
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let path = self.common.under_root(&own_definition(&definition.name));
        write_atomic(&path, definition.xml.as_bytes(), 0o644)
    }

    /// Has this one VM defined as the file says, before it is started.
    pub fn define(&self, definition: &Definition) -> Result<()> {
        let have = Have { listening: listen::Listening { drop_in: None, active: false }, ..self.have()? };
        let want = Want {
            node: self.view.node.name.to_string(),
            definitions: vec![definition.clone()],
            listen: None,
        };
        let outcome = plan(&want, &have);
        if let Some(conflict) = outcome.conflicts.into_iter().next() {
            return Err(refused(conflict));
        }
        let is_its = |step: &Step<Action>| !matches!(step.action, Action::Forget { .. });
        let steps: Vec<Step<Action>> = outcome.plan.steps.into_iter().filter(is_its).collect();
        self.carry_out(&steps).result()
    }
}

/// Removes a file that may have gone already.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes what was done to a name in its directory outlast a power cut.
pub fn sync_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let synced = fs::File::open(parent).and_then(|parent| parent.sync_all());
    synced.with_context(|| format!("writing {} to its disk", parent.display()))
}

/// The definitions on the node's own disk, by VM.
fn definitions(directory: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(error).with_context(|| format!("reading {}", directory.display())),
    };
    for entry in entries {
        let path = entry.with_context(|| format!("reading {}", directory.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(
                name,
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?,
            );
        }
    }
    Ok(files)
}
