//! A node that loses its power answers nobody, and Gluster's clients wait for it: twice `network.ping-timeout`, in which every write
//! to a volume hangs. corosync knows earlier, and what Gluster would do then is done now: the connections to it are closed.

pub mod cmap;
mod connections;
mod roll;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cluster::timing::ELECTION_MS;
use pc_cli::{Common, Exit, log, refused, try_again};

use crate::host::cmap::{Heard, Tracker};
use crate::host::peers::{Knock, knock};
use crate::host::{self, logind, sockets};
use crate::want::{Member, Want};
use roll::{Found, Roll};

/// A machine that runs answers a SYN at once.
const KNOCK: Duration = Duration::from_secs(1);
/// corosync answers out of its memory. It has agreed on who is left by the time that it is asked.
const QUORUM: Duration = Duration::from_secs(3);

/// Follows corosync's members, and closes what leads to one that is lost. Ends when corosync does.
pub fn follow(common: &Common) -> Result<Exit> {
    sockets::proven()?;
    let (_, mut want) = crate::wanted(common)?;
    let patience = Duration::from_millis(want.timing.fencing_ms + ELECTION_MS);
    let mut roll = Roll::new(me(&want)?.id, patience);
    // Changes are told from here on, so that none is missed between the list and the first of them.
    let tracker = Tracker::start()?;
    for change in host::cmap::list()? {
        roll.note(change, Instant::now());
    }
    logind::ready("follows corosync's members");
    loop {
        let news = hear(&tracker, &mut roll)?;
        let due = roll.due(Instant::now());
        if due.is_empty() {
            continue;
        }
        if news {
            // A node may have come into the file since.
            match crate::wanted(common) {
                Ok((_, read)) => want = read,
                Err(error) => log::warning(format_args!("going on with the file as it was: {error:#}")),
            }
        }
        let found = ask(&want, &due, news);
        // It may be back by now.
        while let Some(heard) = tracker.heard(Some(Duration::ZERO)) {
            note(&mut roll, heard)?;
        }
        let silent = found.iter().any(|(_, found)| *found == Found::Silent);
        let quorate = silent && quorate(news);
        for id in roll.plan(&found, quorate) {
            let Some(member) = by_id(&want, id) else { continue };
            match close(member) {
                Ok(_) => roll.closed(id),
                Err(error) => log::error(format_args!("{}: {error:#}", member.name)),
            }
        }
        roll.later(&due, Instant::now());
    }
}

/// The same for one node that is said to be lost, and the end of it.
pub fn lost(want: &Want, name: &str) -> Result<Exit> {
    let member = want.member(name).ok_or_else(|| refused(format!("node {name}: not in the file")))?;
    if member.name == want.node {
        return Err(refused(format!("node {name}: this one")));
    }
    match knock(address(member)?, connections::GLUSTERD, KNOCK) {
        Knock::Answers => {
            log::info(format_args!("{name} answers: its connections stay"));
            return Ok(Exit::Done);
        }
        Knock::Unknown(error) => return Err(error).with_context(|| format!("asking {name}")),
        Knock::Silent => {}
    }
    if !host::quorum_within(QUORUM)?.quorate {
        return Err(try_again("no quorum here: this side is the lost one"));
    }
    close(member)?;
    Ok(Exit::Done)
}

/// Waits for corosync's next word, or until somebody is to be asked again; whether a member has left.
fn hear(tracker: &Tracker, roll: &mut Roll) -> Result<bool> {
    let mut news = false;
    let mut pause = roll.pause(Instant::now());
    while let Some(heard) = tracker.heard(pause) {
        news |= note(roll, heard)?;
        // Several at once are one event.
        pause = Some(Duration::ZERO);
    }
    Ok(news)
}

fn note(roll: &mut Roll, heard: Heard) -> Result<bool> {
    match heard {
        Heard::Change(change) => Ok(roll.note(change, Instant::now())),
        Heard::End => Err(try_again("corosync has ended")),
    }
}

/// Whether they answer, all at the same time.
fn ask(want: &Want, due: &[u16], news: bool) -> Vec<(u16, Found)> {
    let asked = |id: u16| {
        let Some(member) = by_id(want, id) else {
            log::debug(format_args!("member {id}: not in the file"));
            return Found::Unknown;
        };
        match address(member).map(|address| knock(address, connections::GLUSTERD, KNOCK)) {
            Ok(Knock::Silent) => Found::Silent,
            Ok(Knock::Answers) => {
                if news {
                    log::info(format_args!(
                        "{}: has left corosync, and answers: its connections stay",
                        member.name
                    ));
                }
                Found::Answers
            }
            Ok(Knock::Unknown(error)) => {
                log::warning(format_args!("asking {}: {error}", member.name));
                Found::Unknown
            }
            Err(error) => {
                log::warning(format_args!("{error:#}"));
                Found::Unknown
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = due.iter().map(|id| (*id, scope.spawn(|| asked(*id)))).collect();
        threads.into_iter().map(|(id, thread)| (id, thread.join().unwrap_or(Found::Unknown))).collect()
    })
}

/// Not known is no.
fn quorate(news: bool) -> bool {
    match host::quorum_within(QUORUM) {
        Ok(quorum) => {
            if !quorum.quorate && news {
                log::info("no quorum here: this side is the lost one, its connections stay");
            }
            quorum.quorate
        }
        Err(error) => {
            log::warning(format_args!("{error:#}"));
            false
        }
    }
}

fn close(member: &Member) -> Result<usize> {
    let listened = connections::listened(&sockets::listening()?);
    let closed = sockets::close(&connections::filter(address(member)?, &listened))?;
    let told = format!("{}: lost, and silent: connections to its Gluster closed: {closed}", member.name);
    // None: there was none when this started, or Gluster was faster.
    if closed == 0 {
        log::info(told);
    } else {
        log::warning(told);
    }
    Ok(closed)
}

fn me(want: &Want) -> Result<&Member> {
    want.member(&want.node).ok_or_else(|| refused(format!("node {}: not in the file", want.node)))
}

fn by_id(want: &Want, id: u16) -> Option<&Member> {
    want.members.iter().find(|member| member.id == id)
}

fn address(member: &Member) -> Result<IpAddr> {
    member.address.parse().with_context(|| format!("node {}: {:?}", member.name, member.address))
}
