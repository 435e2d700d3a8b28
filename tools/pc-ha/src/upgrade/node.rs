//! What a node says of itself while it is upgraded, and the upgrade itself, which a unit of its own runs: whoever asked for
//! it may be gone, with the network, before it ends. Pure but for what says otherwise.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Schema of what `pc-ha engine report` answers.
pub const SCHEMA: &str = "pc.ha.upgrade.node/1";

/// A node's own word: `pc.ha.upgrade.node/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// `pc.ha.upgrade.node/1`.
    pub schema: String,
    /// The kernel's name for this boot.
    pub boot_id: String,
    /// systemd's word: `running`, `degraded`, `starting`, ...
    pub state: String,
    /// Units that have failed.
    pub failed_units: Vec<String>,
    /// Memory that the kernel has.
    pub memory_bytes: u64,
    /// What an upgrade runs here, one after the other.
    pub commands: Vec<Vec<String>>,
    /// The unit that upgrades is at work.
    pub active: bool,
    /// The last upgrade that was asked for.
    pub last: Option<Record>,
}

/// `/var/lib/personal-cluster/ha/upgrade-node.json`: the last upgrade of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What whoever asked calls it.
    pub run: String,
    /// The boot in which it was asked for, then the one in which it began.
    pub boot_id: String,
    /// How far it came.
    pub state: State,
    /// Why it failed.
    pub reason: Option<String>,
    /// Packages that the package manager did not upgrade.
    pub kept_back: Vec<String>,
}

/// How far an upgrade came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The unit was asked to start.
    Asked,
    /// The unit has begun.
    Running,
    /// Every command ended well.
    Done,
    /// One did not.
    Failed,
}

/// An upgrade as the one who asked for it sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// The node knows nothing of it, or was asked and has not begun.
    Unknown,
    /// It is under way.
    Under,
    /// It ended well.
    Done {
        /// In this boot.
        boot_id: String,
        /// Without these packages.
        kept_back: Vec<String>,
    },
    /// It did not.
    Failed(String),
}

impl Report {
    /// What became of an upgrade.
    pub fn run(&self, run: &str) -> Run {
        let Some(last) = self.last.as_ref().filter(|last| last.run == run) else { return Run::Unknown };
        match last.state {
            State::Done => Run::Done { boot_id: last.boot_id.clone(), kept_back: last.kept_back.clone() },
            State::Failed => Run::Failed(last.reason.clone().unwrap_or_else(|| "it does not say why".into())),
            // Whoever was to start its unit was killed first, or the unit ended before it had begun: nothing is half done.
            State::Asked if !self.active => Run::Unknown,
            State::Running if last.boot_id != self.boot_id => {
                Run::Failed("the node was restarted in the middle of it".into())
            }
            State::Running if !self.active => Run::Failed("it was killed".into()),
            State::Asked | State::Running => Run::Under,
        }
    }

    /// What is wrong with the machine itself, beyond what was before.
    pub fn unwell(&self, node: &str, before: &[String]) -> Vec<String> {
        let mut reasons = Vec::new();
        if !["running", "degraded"].contains(&self.state.as_str()) {
            reasons.push(format!("{node} is {}, by its systemd", self.state));
        }
        let new = self.failed_units.iter().filter(|unit| !before.contains(unit));
        reasons
            .extend(new.map(|unit| format!("{unit} failed on {node}\n  on {node}: systemctl status {unit}")));
        reasons
    }
}

/// What to say of a node that is in the middle of it.
pub fn still(node: &str) -> String {
    format!("{node} still upgrades itself\n  on {node}: journalctl -fu pc-ha-upgrade-node.service")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, boot {}", self.state, self.boot_id)
    }
}

/// A configuration file that somebody changed stays as it is, one that nobody changed follows its package.
const CONFFILES: [&str; 2] = ["--force-confdef", "--force-confold"];

/// What Debian's upgrade is made of: first what an earlier one left half done; new packages come in where an upgrade needs
/// them (a kernel does), nothing is removed. Another apt is waited for before each, and here for one that came in between.
pub fn debian() -> Vec<Vec<String>> {
    let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
    let mut configure = words("dpkg --configure -a");
    configure.extend(CONFFILES.map(String::from));
    let mut upgrade = words("apt-get --assume-yes -o DPkg::Lock::Timeout=600 upgrade --with-new-pkgs");
    for option in CONFFILES {
        upgrade.extend(["-o".to_string(), format!("Dpkg::Options::={option}")]);
    }
    vec![configure, words("apt-get update"), upgrade]
}

/// For every command: nobody is there to answer a question, and the node is restarted anyway.
pub const ENVIRONMENT: [(&str, &str); 5] = [
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
    ("UCF_FORCE_CONFFOLD", "1"),
    ("NEEDRESTART_SUSPEND", "1"),
    ("LC_ALL", "C.UTF-8"),
];

/// What an upgrade runs: the file's words, one a line, else Debian's where there is apt-get, else nothing.
pub fn commands(file: Option<&str>, has_apt: bool) -> Vec<Vec<String>> {
    let line = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let words: Option<Vec<String>> =
        file.map(|text| text.lines().filter(line).map(|line| line.trim().to_string()).collect());
    match words.filter(|words| !words.is_empty()) {
        Some(words) => vec![words],
        None if has_apt => debian(),
        None => Vec::new(),
    }
}

/// Packages that apt-get would not upgrade: held ones, and those that would take another one away.
pub fn kept_back(said: &str) -> Vec<String> {
    let mut lines = said.lines().skip_while(|line| !line.contains("have been kept back:"));
    lines.next();
    let names = lines.take_while(|line| line.starts_with(' ')).flat_map(str::split_whitespace);
    names.map(String::from).collect()
}

/// The name of an upgrade, as it comes over the network: letters, digits, dots and dashes, at most 200.
pub fn run_name(text: &str) -> Option<&str> {
    let name = text.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (!name.is_empty() && name.len() <= 200 && name.bytes().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: State, boot: &str, active: bool) -> Report {
        Report {
            schema: SCHEMA.into(),
            boot_id: "b1".into(),
            state: "running".into(),
            failed_units: vec!["a.service".into(), "b.service".into()],
            memory_bytes: 1,
            commands: debian(),
            active,
            last: Some(Record {
                run: "w.n2.1".into(),
                boot_id: boot.into(),
                state,
                reason: None,
                kept_back: vec!["linux".into()],
            }),
        }
    }

    #[test]
    fn an_upgrade_is_known_by_its_name_and_its_boot() {
        let run = |state, boot, active| report(state, boot, active).run("w.n2.1");
        assert_eq!(report(State::Done, "b1", false).run("w.n2.2"), Run::Unknown, "another attempt");
        assert_eq!(run(State::Asked, "b1", false), Run::Unknown, "its unit was not started");
        assert_eq!(run(State::Asked, "b0", false), Run::Unknown, "and nothing is half done");
        assert_eq!(run(State::Asked, "b1", true), Run::Under, "the unit is about to begin");
        assert_eq!(run(State::Running, "b1", true), Run::Under);
        assert_eq!(run(State::Running, "b1", false), Run::Failed("it was killed".into()));
        let restarted = Run::Failed("the node was restarted in the middle of it".into());
        assert_eq!(run(State::Running, "b0", true), restarted);
        // Done before somebody restarted it: nothing is lost.
        let done = Run::Done { boot_id: "b0".into(), kept_back: vec!["linux".into()] };
        assert_eq!(run(State::Done, "b0", false), done);
    }

    #[test]
    fn a_report_is_what_is_documented() {
        let recorded: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/upgrade-node.json")).unwrap();
        let report: Report = serde_json::from_value(recorded.clone()).unwrap();
        assert_eq!(serde_json::to_value(&report).unwrap(), recorded);
        assert_eq!(report.run("node1-1763773200.node2.1"), Run::Failed("apt-get: exit status: 100".into()));
    }

    #[test]
    fn a_machine_is_unwell_by_what_is_new() {
        let report = report(State::Done, "b1", false);
        let before = ["a.service".to_string()];
        let told = report.unwell("n2", &before);
        assert_eq!(told, ["b.service failed on n2\n  on n2: systemctl status b.service"]);
        let starting = Report { state: "starting".into(), failed_units: Vec::new(), ..report };
        assert_eq!(starting.unwell("n2", &before), ["n2 is starting, by its systemd"]);
    }

    #[test]
    fn a_file_says_what_an_upgrade_runs_word_by_word() {
        let file = "# of the NixOS module\nnixos-rebuild\nboot\n\n--flake\n/etc/nixos#a b\n";
        assert_eq!(commands(Some(file), true), [["nixos-rebuild", "boot", "--flake", "/etc/nixos#a b"]]);
        assert_eq!(commands(Some("# nothing\n"), true), debian());
        assert_eq!(commands(None, true), debian());
        assert_eq!(commands(None, false), Vec::<Vec<String>>::new());
    }

    #[test]
    fn debian_asks_no_question_and_removes_nothing() {
        let upgrade = debian().pop().unwrap().join(" ");
        assert_eq!(
            upgrade,
            "apt-get --assume-yes -o DPkg::Lock::Timeout=600 upgrade --with-new-pkgs \
             -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
        );
        assert_eq!(debian()[0].join(" "), "dpkg --configure -a --force-confdef --force-confold");
    }

    #[test]
    fn what_is_kept_back_is_named() {
        let said = "Reading package lists...\nThe following packages have been kept back:\n  glusterfs-server linux-image-amd64\n  \
                    pc-held\nThe following packages will be upgraded:\n  bash\n";
        assert_eq!(kept_back(said), ["glusterfs-server", "linux-image-amd64", "pc-held"]);
        assert_eq!(kept_back("0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n"), [""; 0]);
    }

    #[test]
    fn a_name_from_the_network_is_a_name() {
        assert_eq!(run_name("node1-1763773200.node2.1\n"), Some("node1-1763773200.node2.1"));
        for bad in ["", "a b", "../x/y", "x\ny", &"a".repeat(201)] {
            assert_eq!(run_name(bad), None, "{bad}");
        }
    }
}
