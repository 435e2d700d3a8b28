//! When fencing may get faster: never by itself, and never while anything that runs may still be slower. Pure.

use crate::cib::{Cib, Fencing};
use crate::want::Want;

/// A `stonith-watchdog-timeout` that is in force and stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept<'a> {
    /// Longer than the file asks for: seconds.
    Longer(u64),
    /// It may be longer: nobody can tell.
    Unread(&'a str),
}

/// What stays: unless somebody says that it may be shorter, and every node's own watchdog and token say so too.
pub fn kept<'a>(want: &Want, cib: &'a Cib, lower: bool) -> Option<Kept<'a>> {
    let kept = match &cib.fencing {
        Fencing::Seconds(now) if now * 1000 > want.timing.fencing_ms => Kept::Longer(*now),
        Fencing::Unread(text) => Kept::Unread(text),
        _ => return None,
    };
    let allowed = lower && unproven(want, cib).is_empty();
    (!allowed).then_some(kept)
}

/// Nodes whose running watchdog, or corosync's token, may be longer than the file says, and what is known of it. A file says nothing
/// about that: sbd reads it when it starts, corosync when it is told to.
fn unproven(want: &Want, cib: &Cib) -> Vec<String> {
    let watchdog = |node: &String| match cib.watchdogs.get(node) {
        Some(runs) if runs * 1000 <= want.timing.watchdog_ms => None,
        Some(runs) => Some(format!("the watchdog of {node} waits {runs} s")),
        None => Some(format!("nobody knows how long the watchdog of {node} waits")),
    };
    let token = |node: &String| match cib.tokens.get(node) {
        Some(runs) if *runs <= want.timing.token_ms => None,
        Some(runs) => Some(format!("the token of {node} is {runs} ms, not {}", want.timing.token_ms)),
        None => Some(format!("nobody knows the token of {node}")),
    };
    let names = || want.members.iter().map(|member| &member.name);
    names().filter_map(watchdog).chain(names().filter_map(token)).collect()
}

/// Why it stays, and what to do about it.
pub fn fault(want: &Want, cib: &Cib, lower: bool) -> Option<String> {
    let asks = format!("the file asks for {} s", want.timing.fencing_ms / 1000);
    let stays = match kept(want, cib, lower)? {
        Kept::Longer(now) => format!("stonith-watchdog-timeout stays {now} s, {asks}"),
        Kept::Unread(text) => {
            format!("stonith-watchdog-timeout stays {text:?}, no time that could be compared, {asks}")
        }
    };
    Some(if lower {
        format!(
            "{stays}: {}\n  restart these nodes (pc-ha drain), or pc-ha apply on them, then: pc-ha apply --lower",
            unproven(want, cib).join(", ")
        )
    } else {
        format!(
            "{stays}: while any node's watchdog still waits as long as before, its VMs would run twice\n  \
             restart every node in turn (pc-ha drain), then: pc-ha apply --lower"
        )
    })
}
