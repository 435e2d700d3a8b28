//! `pc-ovs ovn create`: the databases of a cluster that has none. A person says so, once: a node that finds none cannot tell a
//! new cluster from one whose other nodes are off.

use std::path::Path;

use anyhow::Result;
use pc_cli::{log, refused};

use super::daemon::first_line;
use super::database::{self, Answer};
use super::want::{Side, Want};

/// Makes what is missing here, if nobody has it; true when something was made.
pub fn create(root: &Path, want: Option<&Want>, without: &[String]) -> Result<bool> {
    let Some(want) = want else {
        return Err(refused("the file has no zone, so OVN is for nothing\n  add a gateway to a network"));
    };
    let Some(own) = want.own() else {
        return Err(refused(format!("OVN's databases belong on {}\n  run it on one of them", want.names())));
    };
    if let Some(stranger) = without.iter().find(|name| !want.others().any(|other| other.name == **name)) {
        return Err(refused(format!(
            "--without {stranger}: not another node that holds the databases\n  they are {}",
            want.names()
        )));
    }
    database::trusted(want)?;
    let mut missing = Vec::new();
    for side in Side::ALL {
        if !database::is_made(root, own, side)? {
            missing.push(side);
        }
    }
    for side in &missing {
        for other in want.others().filter(|other| !without.contains(&other.name)) {
            let name = side.database();
            match database::ask(want, other, *side)? {
                Answer::HasNot => {}
                Answer::Has(_) => {
                    return Err(refused(format!(
                        "{} has {name} already: this node joins it by itself\n  pc-ovs ovn apply",
                        other.name
                    )));
                }
                Answer::Unknown(why) => {
                    return Err(refused(format!(
                        "{} does not say whether it has {name}: {}\n  if it never had it: pc-ovs ovn create --without {}",
                        other.name,
                        first_line(&why),
                        other.name
                    )));
                }
            }
        }
    }
    for side in &missing {
        database::create(root, own, *side)?;
        log::info(format_args!("make {}", side.database()));
    }
    Ok(!missing.is_empty())
}
