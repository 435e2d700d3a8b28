//! A verdict as tables for people: nodes, volumes, virtual machines, backups. Pure; html.rs and screen.rs draw them.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use crate::there::{Backup, Vm, Volume};
use crate::verdict::{Looked, Severity, Verdict, counted};

/// How a row is to be taken, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Something is lost or stands still.
    Bad,
    /// It works, with less than it should have.
    Weak,
    /// Nobody knows.
    Unknown,
    /// As it should be.
    Well,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// How it is to be taken; its words say the same.
    pub tone: Tone,
    /// A cell for each heading.
    pub cells: Vec<String>,
}

/// Things of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Their kind.
    pub title: &'static str,
    /// What each column tells.
    pub headings: &'static [&'static str],
    /// One row each.
    pub rows: Vec<Row>,
}

impl Table {
    fn row(&mut self, tone: Tone, cells: impl Into<Vec<String>>) {
        let cells = cells.into();
        debug_assert_eq!(cells.len(), self.headings.len());
        self.rows.push(Row { tone, cells });
    }
}

/// What is there. A kind of which there is nothing has no table.
pub fn tables(verdict: &Verdict) -> Vec<Table> {
    let mut tables = vec![nodes(verdict), volumes(verdict), vms(verdict), backups(verdict)];
    tables.retain(|table| !table.rows.is_empty());
    tables
}

fn table(title: &'static str, headings: &'static [&'static str]) -> Table {
    Table { title, headings, rows: Vec::new() }
}

fn nodes(verdict: &Verdict) -> Table {
    let mut table = table("Nodes", &["node", "state", "file", "version"]);
    for node in &verdict.nodes {
        let name = node.node.clone();
        if !node.reachable {
            table.row(Tone::Bad, [name, "gives no verdict".into(), String::new(), String::new()]);
            continue;
        }
        let of_node = |severity| {
            let told = verdict.findings.iter().filter(|finding| finding.severity == severity);
            told.filter(|finding| finding.nodes.contains(&node.node)).count()
        };
        let (problems, warnings) = (of_node(Severity::Problem), of_node(Severity::Warning));
        let mut words: Vec<String> = Vec::new();
        words.extend((problems > 0).then(|| counted(problems, "problem")));
        words.extend((warnings > 0).then(|| counted(warnings, "warning")));
        let (tone, state) = match (problems, warnings) {
            (0, 0) => (Tone::Well, "well".to_string()),
            (0, _) => (Tone::Weak, words.join(", ")),
            _ => (Tone::Bad, words.join(", ")),
        };
        let file = node.generation.map_or("none".into(), |number| format!("generation {number}"));
        table.row(tone, [name, state, file, node.version.clone().unwrap_or_default()]);
    }
    table
}

/// Everything of a kind that the nodes tell, by its name and in the order in which it is told first.
fn by_name<'a, T>(
    verdict: &'a Verdict,
    told: impl Fn(&'a Looked) -> &'a [T],
    name: impl Fn(&'a T) -> String,
) -> Vec<(String, Vec<(&'a str, &'a T)>)> {
    let mut all: Vec<(String, Vec<(&str, &T)>)> = Vec::new();
    for node in &verdict.nodes {
        for one in told(node) {
            let (key, entry) = (name(one), (node.node.as_str(), one));
            match all.iter_mut().find(|(known, _)| *known == key) {
                Some((_, entries)) => entries.push(entry),
                None => all.push((key, vec![entry])),
            }
        }
    }
    all
}

fn named<'a, T>(entries: &[(&'a str, &T)], when: impl Fn(&T) -> bool) -> Vec<&'a str> {
    entries.iter().filter(|(_, one)| when(one)).map(|(node, _)| *node).collect()
}

/// The worst that any node sees of each: two sides of a cut network do not see the same.
fn volumes(verdict: &Verdict) -> Table {
    let mut table = table("Volumes", &["volume", "state", "bricks", "waits for healing", "mounted on"]);
    for (name, seen) in
        by_name(verdict, |node| node.volumes.as_slice(), |volume: &Volume| volume.name.clone())
    {
        let views = || seen.iter().map(|(_, volume)| *volume);
        let bricks = views().map(|volume| volume.bricks).max().unwrap_or_default();
        let online = views().map(|volume| volume.bricks_online).min().unwrap_or_default();
        let heal = views().filter_map(|volume| volume.heal_pending).max();
        let split = views().filter_map(|volume| volume.split_brain).max().unwrap_or_default();
        let not_mounted = named(&seen, |volume| !volume.mounted);
        let (tone, state) = if views().any(|volume| !volume.started) {
            (Tone::Bad, "not started".to_string())
        } else if views().any(|volume| !volume.quorum) {
            let nodes = named(&seen, |volume| !volume.quorum);
            (Tone::Bad, format!("no quorum{}", only(&nodes, seen.len())))
        } else if split > 0 {
            (Tone::Bad, format!("split-brain: {split}"))
        } else if !not_mounted.is_empty() {
            (Tone::Bad, format!("not mounted{}", only(&not_mounted, seen.len())))
        } else if online < bricks {
            (Tone::Weak, "works without a brick".into())
        } else if heal.is_some_and(|heal| heal > 0) {
            (Tone::Weak, "heals".into())
        } else if heal.is_none() {
            (Tone::Unknown, "healing not known".into())
        } else {
            (Tone::Well, "well".into())
        };
        let waits = match heal {
            None => "not known".into(),
            Some(0) => "nothing".into(),
            Some(1) => "1 entry".into(),
            Some(heal) => format!("{heal} entries"),
        };
        let mounted = named(&seen, |volume| volume.mounted).join(", ");
        table.row(tone, [name, state, format!("{online} of {bricks}"), waits, mounted]);
    }
    table
}

/// ` on node1` where not all say so.
fn only(nodes: &[&str], all: usize) -> String {
    if nodes.len() == all { String::new() } else { format!(" on {}", nodes.join(", ")) }
}

fn vms(verdict: &Verdict) -> Table {
    let mut table = table("Virtual machines", &["vm", "state", "on"]);
    // Where a node says nothing, a machine may run.
    let silent: Vec<&str> =
        verdict.nodes.iter().filter(|node| node.vms.is_empty()).map(|node| node.node.as_str()).collect();
    for (name, seen) in by_name(verdict, |node| node.vms.as_slice(), |vm: &Vm| vm.name.clone()) {
        let here: Vec<&(&str, &Vm)> = seen.iter().filter(|(_, vm)| vm.here).collect();
        let on = named(&seen, |vm| vm.here).join(", ");
        let unknown: Vec<&str> = [named(&seen, |vm| vm.state == "unknown"), silent.clone()].concat();
        let (tone, state) = match here.as_slice() {
            [] if !unknown.is_empty() => (Tone::Unknown, format!("may run on {}", unknown.join(", "))),
            [] if seen.iter().any(|(_, vm)| vm.should_run_here == Some(true)) => {
                (Tone::Bad, "does not run, and should".into())
            }
            [] if verdict.is_whole() => (Tone::Unknown, "does not run".into()),
            [] => (Tone::Unknown, "not on this node".into()),
            [(_, vm)] => of_running(vm, &seen),
            _ => (Tone::Bad, "in several places at once".into()),
        };
        table.row(tone, [name, state, on]);
    }
    table
}

fn of_running(vm: &Vm, seen: &[(&str, &Vm)]) -> (Tone, String) {
    let reason = vm.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    if vm.state != "running" {
        return (Tone::Bad, format!("{}{reason}", vm.state));
    }
    let elsewhere = named(seen, |vm| vm.should_run_here == Some(true) && !vm.here);
    match elsewhere.as_slice() {
        [node, ..] if vm.should_run_here == Some(false) => {
            (Tone::Weak, format!("running, and should on {node}"))
        }
        _ => (Tone::Well, "running".into()),
    }
}

fn backups(verdict: &Verdict) -> Table {
    let mut table = table("Backups", &["vm", "policy", "newest", "state", "read back", "rehearsed"]);
    let now = time_of(Some(&verdict.measured_at));
    let key = |backup: &Backup| format!("{}\u{0}{}", backup.vm, backup.policy);
    for (_, seen) in by_name(verdict, |node| node.backups.as_slice(), key) {
        let entries = || seen.iter().map(|(_, backup)| *backup);
        // A node whose volume is not mounted knows less than the others.
        let known = entries().max_by_key(|one| (one.overdue.is_some(), time_of(one.taken_at.as_deref())));
        let Some(Backup { vm, policy, taken_at, overdue, last_error, .. }) = known else { continue };
        let newest = match (time_of(taken_at.as_deref()), now) {
            (Some(taken), Some(now)) => format!("{}, {} old", minute(taken), span(now - taken)),
            _ if overdue.is_none() => "not known".into(),
            _ => "none".into(),
        };
        let (tone, state) = match (overdue, last_error) {
            (Some(true), _) => (Tone::Bad, "overdue".to_string()),
            (_, Some(why)) => {
                let why = why.lines().next().unwrap_or_default();
                (Tone::Weak, format!("the last attempt failed: {why}"))
            }
            (Some(false), None) => (Tone::Well, "in time".into()),
            (None, None) => (Tone::Unknown, "not known".into()),
        };
        let verified = entries().filter_map(|one| time_of(one.verified_at.as_deref())).max();
        let read_back = match (verified, now) {
            (Some(verified), Some(now)) => format!("{} ago", span(now - verified)),
            _ => "never".into(),
        };
        let drilled = seen.iter().filter_map(|(_, one)| Some((time_of(one.drilled_at.as_deref())?, *one)));
        let rehearsed = rehearsed(known, drilled.max_by_key(|(at, _)| *at), now);
        let tone =
            if known.is_some_and(|one| one.drill_error.is_some()) { tone.min(Tone::Weak) } else { tone };
        table.row(tone, [vm.clone(), policy.clone(), newest, state, read_back, rehearsed]);
    }
    table
}

/// Whether a restored copy came up, when last, and how fast.
fn rehearsed(
    known: Option<&Backup>,
    last: Option<(OffsetDateTime, &Backup)>,
    now: Option<OffsetDateTime>,
) -> String {
    if let Some(why) = known.and_then(|one| one.drill_error.as_deref()) {
        return format!("failed: {}", why.lines().next().unwrap_or_default());
    }
    match (last, now) {
        (Some((at, one)), Some(now)) => {
            let took = one.drill_rto_seconds.and_then(|seconds| i64::try_from(seconds).ok());
            let took = took.map(|seconds| format!(", up after {}", span(Duration::seconds(seconds))));
            format!("{} ago{}", span(now - at), took.unwrap_or_default())
        }
        _ if known.is_some_and(|one| one.drill_wanted == Some(false)) => "not wanted".into(),
        _ => "never".into(),
    }
}

/// RFC 3339.
pub fn time_of(text: Option<&str>) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text?, &Rfc3339).ok()
}

/// `2026-01-02 03:04 UTC`.
pub fn minute(time: OffsetDateTime) -> String {
    let form = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    time.to_offset(time::UtcOffset::UTC).format(form).unwrap_or_default()
}

/// When the verdict was made: `2026-01-02 03:04 UTC`.
pub fn made(verdict: &Verdict) -> String {
    time_of(Some(&verdict.measured_at)).map_or_else(|| verdict.measured_at.clone(), minute)
}

/// `45 s`, `12 min`, `5 h`, `3 d`. A clock that was set back makes nothing younger than new.
pub fn span(time: Duration) -> String {
    let seconds = time.whole_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
