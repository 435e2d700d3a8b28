//! The machine as this tool sees it: the switch, the host's devices and routes, whatever else configures them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use pc_cli::Common;

use crate::claims;
use crate::ip;
use crate::model::Have;
use crate::refusal::ip as bare;
use crate::switch::Switch;
use crate::want::{Want, nics_of};

/// Where things are.
#[derive(Debug, Clone)]
pub struct Host {
    /// The machine's root.
    pub root: PathBuf,
}

impl Host {
    /// The machine that the flags mean.
    pub fn new(common: &Common) -> Host {
        Host { root: common.root.clone() }
    }

    /// An absolute path of the machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The socket of ovsdb-server.
    pub fn socket(&self) -> PathBuf {
        self.path("/run/openvswitch/db.sock")
    }

    /// Our state that survives a reboot.
    pub fn state(&self) -> PathBuf {
        self.path("/var/lib/personal-cluster/ovs")
    }

    /// The machine itself, not a directory that stands for one.
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Everything a plan is made of.
    pub fn have(&self, switch: &Switch, want: &Want) -> Result<Have> {
        let mut have = Have { bridges: switch.bridges(), ..Have::default() };
        let mut devices = want.devices();
        let ours = have.bridges.iter().filter(|have| have.ours).flat_map(|have| &have.bridge.ports);
        devices.extend(ours.flat_map(|port| &port.interfaces).map(|interface| interface.name.clone()));
        let mut links = ip::links()?;
        // Devices of VMs come and go: a plan must not depend on them.
        links.retain(|name, link| {
            let node = link.addresses.iter().any(|one| bare(one).is_some() && bare(one) == want.node_address);
            devices.contains(name) || link.other_names.iter().any(|other| devices.contains(other)) || node
        });
        have.links = links;
        have.routes = ip::routes()?;
        have.routes.retain(|route| route.ours || devices.contains(&route.interface));
        let nics: Vec<String> = want.bridges.iter().flat_map(nics_of).map(str::to_string).collect();
        let ports: Vec<String> = want.devices().into_iter().filter(|device| !nics.contains(device)).collect();
        have.claims = claims::scan(&self.root, &nics, &ports, &have.links);
        Ok(have)
    }
}
