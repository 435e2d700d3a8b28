//! `pc-ha upgrade`: walks the nodes, one at a time, the one that walks last. Everything that it decides is in `walk`;
//! `course` carries it out; this begins one, takes one up again, or gives it up.

mod ahead;
mod answer;
mod course;
pub mod ground;
mod lease;
pub mod node;
mod walk;

use anyhow::Result;
use pc_cli::{Common, Exit, emit, log, refused, try_again};
use time::OffsetDateTime;

use crate::Patience;
use crate::host::upgrade::{self as files, WALK};
use crate::host::{self, siblings};
use crate::want::Want;
use course::{Course, stopped};
use walk::{Doubt, Resumed, Walk};

/// Arguments of `upgrade`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Nodes, in this order; without one all of the file, this one last
    // Not `node`: clap would take it for the flag --node, which says who we are.
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// Print what would be done, and what is in the way, and do nothing
    #[arg(long, conflicts_with_all = ["abandon", "resume"])]
    plan: bool,
    /// Give up the upgrade that this node walks, or, where it walks none, that of another node; what is drained stays drained
    #[arg(long, conflicts_with_all = ["nodes", "resume"])]
    abandon: bool,
    /// Go on with an upgrade that this node was restarted in (pc-ha-upgrade.service)
    #[arg(long = "continue", hide = true, conflicts_with = "nodes")]
    resume: bool,
    #[command(flatten)]
    patience: Patience,
}

/// `pc-ha upgrade`.
pub fn upgrade(common: &Common, want: &Want, options: &Options) -> Result<Exit> {
    if options.plan {
        let walk: Option<Walk> = files::read(common, WALK)?;
        let left = walk.map(|walk| walk.nodes.into_iter().skip(walk.done.len()).collect());
        let ahead = ahead::look(common, want, &left.unwrap_or(ahead::order(want, &options.nodes)?));
        return emit(common.json, &ahead.plan(&want.node)).map(|()| Exit::Done);
    }
    let _lock = files::lock(common)?;
    if options.abandon {
        return abandon(common, want);
    }
    let walk = match (files::read::<Walk>(common, WALK)?, options.resume) {
        (None, true) => return Ok(Exit::Done),
        (None, false) => begin(common, want, options)?,
        (Some(walk), by_unit) => match take_up(common, walk, options, !by_unit)? {
            Some(walk) => walk,
            None => return Ok(Exit::Done),
        },
    };
    Course::new(common, want, walk).run()
}

/// Nothing is begun while anything is in the way, on any node.
fn begin(common: &Common, want: &Want, options: &Options) -> Result<Walk> {
    let nodes = ahead::order(want, &options.nodes)?;
    let ahead = ahead::look(common, want, &nodes);
    if !ahead.in_the_way.is_empty() {
        let Doubt { reason, remedy, .. } = Doubt::of(&ahead.in_the_way, false, "pc-ha upgrade --plan");
        return Err(try_again(format!("nothing was begun: {reason}\n  {remedy}")));
    }
    let known = siblings::verdict()?.map(|verdict| ground::known(&verdict));
    if known.is_none() {
        log::warning("pc-verify is not installed: only pacemaker, the storage and systemd are asked");
    }
    let id = format!("{}-{}", want.node, OffsetDateTime::now_utc().unix_timestamp());
    lease::take(&id)?;
    let walk = Walk {
        id,
        walker: want.node.clone(),
        boot_id: files::boot_id(common)?,
        timeout_seconds: options.patience.timeout,
        nodes,
        running: ahead.running,
        known,
        done: Vec::new(),
        current: None,
        stopped: None,
    };
    files::write(common, WALK, &walk)?;
    log::info(format_args!("upgrading {}, in this order", walk.nodes.join(", ")));
    Ok(walk)
}

/// Goes on with what was begun; `None` when that waits for a person.
fn take_up(common: &Common, mut walk: Walk, options: &Options, by_hand: bool) -> Result<Option<Walk>> {
    if !options.nodes.is_empty() && options.nodes != walk.nodes {
        return Err(refused(format!(
            "an upgrade of {} is under way: {}\n  pc-ha upgrade (goes on with it), or pc-ha upgrade --abandon",
            walk.nodes.join(", "),
            walk.standing()
        )));
    }
    match walk.resume(&files::boot_id(common)?, by_hand) {
        Resumed::Go => {}
        Resumed::Rests => {
            log::info(format_args!("an upgrade has stopped, {}\n  pc-ha upgrade --plan", walk.standing()));
            return Ok(None);
        }
        Resumed::Stop(doubt) => {
            walk.stopped = Some(doubt);
            files::write(common, WALK, &walk)?;
            return Err(stopped(&walk));
        }
    }
    if by_hand {
        walk.timeout_seconds = options.patience.timeout;
    }
    files::write(common, WALK, &walk)?;
    log::info(format_args!("going on: {}", walk.standing()));
    Ok(Some(walk))
}

fn abandon(common: &Common, want: &Want) -> Result<Exit> {
    // Where a walk of this node has ended, the lease of another one that goes on is not its to give back.
    let own = files::read::<Walk>(common, WALK)?.map(|walk| walk.id);
    let had = lease::release(own.as_deref())?.filter(|had| own.as_ref().is_none_or(|own| own == had));
    files::remove(common, WALK)?;
    match had {
        Some(id) => log::info(format_args!("the upgrade that {} walked is given up", lease::walker(&id))),
        None if own.is_some() => log::info("the upgrade that this node walked is given up"),
        None => log::info("no upgrade was under way"),
    }
    let engine = host::engine()?;
    for node in engine.nodes.iter().filter(|node| node.drained && want.member(&node.name).is_some()) {
        let name = &node.name;
        let busy = node.online
            && files::upgrades(common, &want.node, name).unwrap_or_else(|error| {
                log::debug(format_args!(
                    "whether {name} is in the middle of its upgrade is not known: {error:#}"
                ));
                false
            });
        if busy {
            log::warning(format_args!(
                "{name} stays drained, and {}; then: pc-ha undrain {name}",
                node::still(name)
            ));
        } else {
            log::warning(format_args!("{name} stays drained\n  pc-ha undrain {name}"));
        }
    }
    Ok(Exit::Done)
}
