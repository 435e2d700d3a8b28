//! `pc-borg status` as findings: what it calls a problem, what failed last, what has not been proven for long.

use std::collections::BTreeSet;

use serde::Deserialize;
use time::Duration;

use crate::tables::time_of;
use crate::told::Told;
use crate::tools;

/// Days after which a check or a rehearsal is late: those of the alerts (telemetry/rules/backups.yml).
const SELDOM: i64 = 45;
const REHEARSED: i64 = 21;

/// `pc.borg.status/1`.
#[derive(Deserialize)]
pub struct Status {
    problems: Vec<String>,
    #[serde(default)]
    measured_at: Option<String>,
    #[serde(default)]
    policies: Vec<Policy>,
    backups: Vec<Backup>,
}

#[derive(Deserialize)]
struct Policy {
    name: String,
    checked_at: Option<String>,
}

#[derive(Deserialize)]
struct Backup {
    vm: String,
    policy: String,
    /// None: another node has its records, or nobody can look at them.
    #[serde(default)]
    overdue: Option<bool>,
    last_error: Option<String>,
    #[serde(default)]
    verified_at: Option<String>,
    #[serde(default)]
    drill_wanted: bool,
    #[serde(default)]
    drilled_at: Option<String>,
}

/// What is wrong, and what is late.
pub fn read(status: &Status) -> Vec<Told> {
    let Status { problems, measured_at, policies, backups } = status;
    let mut told = tools::sentences("borg", problems);
    let age = |then: Option<&str>| Some(time_of(measured_at.as_deref())? - time_of(then)?);
    let late = |then: Option<&str>, days: i64| age(then).filter(|age| *age > Duration::days(days));
    // Where each node has records of its own, the one that makes the archives knows when they were read last.
    let ours = || backups.iter().filter(|backup| backup.overdue.is_some());
    let none = |policy: &str| {
        backups.iter().any(|one| one.policy == policy) && ours().all(|one| one.policy != policy)
    };
    for Policy { name, checked_at } in policies.iter().filter(|policy| !none(&policy.name)) {
        if let Some(age) = late(checked_at.as_deref(), SELDOM) {
            let fault = format!("the repository of {name} was last checked {} days ago", age.whole_days());
            told.push(Told::warning(fault, format!("pc-borg check {name}")));
        }
    }
    // Out of whichever repository it was.
    let newest = |of: &str| {
        let drills = ours().filter(|one| one.vm == of && one.drill_wanted);
        drills.filter_map(|one| one.drilled_at.as_deref()).max_by_key(|then| time_of(Some(then)))
    };
    let names: BTreeSet<&str> = backups.iter().map(|backup| backup.vm.as_str()).collect();
    for vm in names {
        if let Some(age) = late(newest(vm), REHEARSED) {
            let fault = format!("a restore of vm {vm} was last rehearsed {} days ago", age.whole_days());
            told.push(Told::warning(fault, format!("pc-borg drill {vm}")));
        }
    }
    for Backup { vm, policy, overdue, last_error, verified_at, .. } in backups {
        if let Some(age) = late(verified_at.as_deref(), SELDOM).filter(|_| overdue.is_some()) {
            let fault =
                format!("vm {vm}: an archive in {policy} was last read {} days ago", age.whole_days());
            told.push(Told::warning(fault, format!("pc-borg verify {vm}")));
        }
        if let Some(error) = last_error {
            let why = error.lines().next().unwrap_or_default();
            told.push(Told::warning(
                format!("vm {vm} in {policy}: the last attempt failed: {why}"),
                "journalctl -u pc-borg.service",
            ));
        }
    }
    told
}
