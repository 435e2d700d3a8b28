//! The rules of a segment: which pairs of ports are cut, lose or delay frames, and whether frames are recorded.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// What happens to frames between one pair of ports.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Link {
    /// Nothing passes.
    pub cut: bool,
    /// Share of frames lost, in percent.
    pub loss_percent: f64,
    /// Added to every frame's way.
    pub delay: Duration,
}

/// All rules of one segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    ports: usize,
    links: Vec<Link>,
    /// Where frames are recorded (libpcap's classic format), before any rule is applied.
    pub pcap: Option<PathBuf>,
}

impl Rules {
    /// No rule: everything passes.
    pub fn open(ports: usize) -> Rules {
        Rules { ports, links: vec![Link::default(); ports * ports], pcap: None }
    }

    /// What happens to frames from one port to another.
    pub fn link(&self, from: usize, to: usize) -> Link {
        self.links[from * self.ports + to]
    }

    /// Read the rules file, one rule a line; `#` begins a comment, `*` means every other port:
    ///
    /// ```text
    /// cut node1 node2
    /// cut node3 *
    /// loss node1 * 5         # percent
    /// delay node1 node2 20   # milliseconds, each way
    /// pcap /tmp/lan.pcap
    /// ```
    pub fn parse(text: &str, ports: &[String]) -> Result<Rules> {
        let mut rules = Rules::open(ports.len());
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            rules.add(&words, ports).with_context(|| format!("line {}: {line}", number + 1))?;
        }
        Ok(rules)
    }

    fn add(&mut self, words: &[&str], ports: &[String]) -> Result<()> {
        match *words {
            [] => {}
            ["pcap", path] => self.pcap = Some(PathBuf::from(path)),
            ["cut", a, b] => self.each(a, b, ports, |link| link.cut = true)?,
            ["loss", a, b, percent] => {
                let percent: f64 = percent.parse().context("loss is a number of percent")?;
                self.each(a, b, ports, |link| link.loss_percent = percent)?;
            }
            ["delay", a, b, milliseconds] => {
                let delay =
                    Duration::from_millis(milliseconds.parse().context("delay is whole milliseconds")?);
                self.each(a, b, ports, |link| link.delay = delay)?;
            }
            _ => bail!("is none of: cut A B, loss A B PERCENT, delay A B MS, pcap FILE"),
        }
        Ok(())
    }

    fn each(&mut self, a: &str, b: &str, ports: &[String], change: impl Fn(&mut Link)) -> Result<()> {
        let find = |name: &str| {
            ports.iter().position(|port| port == name).with_context(|| format!("no port is called {name}"))
        };
        let first = find(a)?;
        let others = if b == "*" { (0..ports.len()).collect() } else { vec![find(b)?] };
        for other in others.into_iter().filter(|other| *other != first) {
            change(&mut self.links[first * self.ports + other]);
            change(&mut self.links[other * self.ports + first]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Vec<String> {
        ["node1", "node2", "tang"].map(String::from).to_vec()
    }

    #[test]
    fn a_rule_holds_both_ways_and_only_for_its_pair() {
        let rules =
            Rules::parse("cut node1 node2 # why\n\ndelay node2 tang 20\nloss node2 tang 5\n", &ports())
                .unwrap();
        assert!(rules.link(0, 1).cut && rules.link(1, 0).cut);
        assert!(!rules.link(0, 2).cut && !rules.link(2, 1).cut);
        let link = Link { cut: false, loss_percent: 5.0, delay: Duration::from_millis(20) };
        assert_eq!((rules.link(1, 2), rules.link(2, 1)), (link, link));
    }

    #[test]
    fn a_star_is_every_other_port() {
        let rules = Rules::parse("cut tang *\npcap /tmp/x", &ports()).unwrap();
        assert!(rules.link(2, 0).cut && rules.link(1, 2).cut && !rules.link(0, 1).cut);
        assert_eq!(rules.pcap, Some(PathBuf::from("/tmp/x")));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, told) in [
            ("cut node1 node9", "line 1: cut node1 node9: no port is called node9"),
            ("\nloss node1 node2 much", "line 2: loss node1 node2 much: loss is a number"),
            ("mangle a", "is none of"),
        ] {
            let error = format!("{:#}", Rules::parse(text, &ports()).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }
}
