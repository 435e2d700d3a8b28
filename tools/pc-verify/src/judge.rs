//! judge(reports) -> verdict: what a node's tools and its machine have said, as findings. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::lints::{self, Ours};
use crate::machine::Machine;
use crate::there;
use crate::told::Told;
use crate::tools::{self, Around, TOOLS};
use crate::verdict::{Check, Finding, Looked, Severity, State, Verdict};

/// How a tool answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// With its status.
    Status(Value),
    /// It is not installed.
    Absent,
    /// Not, or not in time; why.
    Silent(String),
}

/// One tool that was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The check: `brick` is `pc-brick status`.
    pub name: &'static str,
    /// How long it took.
    pub seconds: f64,
    /// What it said.
    pub answer: Answer,
}

/// All that is known of this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Reports {
    /// The cluster's name.
    pub cluster: String,
    /// This node.
    pub node: String,
    /// When everything was known, RFC 3339 UTC.
    pub measured_at: String,
    /// How long that took.
    pub seconds: f64,
    /// Of what the file has, each tool once.
    pub asked: Vec<Asked>,
    /// Warnings about the file itself: what is wrong, what to do.
    pub file: Vec<(String, String)>,
    /// The machine, as far as it could be looked at.
    pub machine: Machine,
    /// Why its files could not be looked at in time.
    pub unseen: Option<String>,
    /// What the rules have to know of the file.
    pub ours: Ours,
}

/// The node's verdict.
pub fn judge(reports: &Reports) -> Verdict {
    let answered: BTreeSet<&str> = reports
        .asked
        .iter()
        .filter(|asked| matches!(&asked.answer, Answer::Status(value) if tools::is_ours(asked.name, value)))
        .map(|asked| asked.name)
        .collect();
    let around = Around { answered: &answered, ours: &reports.ours };
    let (mut checks, mut findings) = (Vec::new(), Vec::new());
    let mut add = |name: &str, seconds: f64, silent: Option<State>, told: Vec<Told>| {
        let worst = told.iter().map(|told| told.severity).min();
        let state = silent.unwrap_or(match worst {
            Some(Severity::Problem) => State::Problem,
            Some(Severity::Warning) => State::Warning,
            None => State::Well,
        });
        checks.push(Check { name: name.into(), state, seconds });
        findings.extend(told.into_iter().map(|Told { severity, fault, remedy }| {
            let (check, nodes) = (name.to_string(), vec![reports.node.clone()]);
            Finding { severity, check, nodes, fault, remedy }
        }));
    };
    for tool in TOOLS {
        let Some(asked) = reports.asked.iter().find(|asked| asked.name == tool.name) else { continue };
        let command = format!("{} status", tool.program);
        let (silent, told) = match &asked.answer {
            Answer::Status(value) => match tools::told(tool, value.clone(), around) {
                Ok(told) => (None, told),
                Err(error) => (Some(State::Silent), vec![Told::problem(format!("{error:#}"), command)]),
            },
            Answer::Absent => {
                let fault = format!("{} is not installed, and the file has what it is for", tool.program);
                (Some(State::Absent), vec![Told::problem(fault, format!("apt-get install {}", tool.program))])
            }
            Answer::Silent(why) => {
                let told = Told::sentence(Severity::Problem, &format!("gives no status: {why}"), &command);
                (Some(State::Silent), vec![told])
            }
        };
        add(tool.name, asked.seconds, silent, told);
    }
    let file = reports.file.iter().map(|(fault, remedy)| Told::warning(fault, remedy)).collect();
    add("file", 0.0, None, file);
    let (silent, told) = machine(reports);
    add("machine", 0.0, silent, told);
    let there = there::of(&reports.asked);
    let looked = Looked {
        node: reports.node.clone(),
        reachable: true,
        measured_at: Some(reports.measured_at.clone()),
        version: Some(env!("CARGO_PKG_VERSION").into()),
        generation: of_config(reports, "generation").and_then(Value::as_u64),
        sha256: of_config(reports, "sha256").and_then(Value::as_str).map(String::from),
        seconds: reports.seconds,
        checks,
        volumes: there.volumes,
        vms: there.vms,
        backups: there.backups,
    };
    Verdict::new(&reports.cluster, &reports.node, reports.measured_at.clone(), vec![looked], findings)
}

/// The rules over the machine; a daemon that does not say what they need is a problem of its own.
fn machine(reports: &Reports) -> (Option<State>, Vec<Told>) {
    let silent = |why: &str, remedy: &str| Told::problem(why.lines().next().unwrap_or_default(), remedy);
    let machine = &reports.machine;
    let mut told: Vec<Told> = lints::RULES.iter().flat_map(|rule| rule(machine, &reports.ours)).collect();
    let units = machine.units.as_ref().and_then(|units| units.as_ref().err());
    if let Some(why) = units {
        told.push(silent(why, "systemctl status dbus.service"));
    }
    // Without the bus itself both say the same.
    if let Some(Err(why)) = machine.clock.as_ref().filter(|clock| clock.as_ref().err() != units) {
        told.push(silent(why, "systemctl status systemd-timedated.service"));
    }
    // Others have asked unlock servers and power supplies meanwhile.
    if let Some(why) = &reports.unseen {
        told.insert(0, silent(why, "dmesg"));
    }
    (reports.unseen.as_ref().map(|_| State::Silent), told)
}

fn of_config<'a>(reports: &'a Reports, key: &str) -> Option<&'a Value> {
    reports.asked.iter().find(|asked| asked.name == "config").and_then(|asked| match &asked.answer {
        Answer::Status(value) => value.get(key),
        _ => None,
    })
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
