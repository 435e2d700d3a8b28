//! corosync-quorumtool -s: votes and quorum of this node's membership (corosync-quorumtool(8)).

use anyhow::{Result, bail};

use crate::metric::{Samples, families};

families! {
    QUORATE: Gauge "pc_corosync_quorate" [] "1 when this node's part of the cluster has quorum.";
    EXPECTED: Gauge "pc_corosync_expected_votes" [] "Votes that there are when every node is there.";
    TOTAL: Gauge "pc_corosync_present_votes" [] "Votes that are there.";
    NEEDED: Gauge "pc_corosync_quorum_votes" [] "Votes that quorum needs.";
}

/// The lines `Quorate:`, `Expected votes:`, `Total votes:`, `Quorum:`; its exit code is 2 without quorum.
pub fn read(text: &str) -> Result<Samples> {
    let mut samples = Samples::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let first = value.split_whitespace().next().unwrap_or_default();
        let family = match key.trim() {
            "Quorate" => {
                samples.truth(&QUORATE, &[], first == "Yes");
                continue;
            }
            "Expected votes" => &EXPECTED,
            "Total votes" => &TOTAL,
            "Quorum" => &NEEDED,
            _ => continue,
        };
        // "Quorum: 2 Activity blocked" is a number with a word behind it.
        if let Ok(votes) = first.parse() {
            samples.count(family, &[], votes);
        }
    }
    if samples.0.is_empty() {
        bail!("corosync-quorumtool says nothing of a quorum");
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout of `display_nodes_data` and `show_status` in corosync 3.1, tools/corosync-quorumtool.c.
    const CUT_OFF: &str = "\
Quorum information
------------------
Date:             Sat Nov 21 18:00:00 2026
Quorum provider:  corosync_votequorum
Nodes:            1
Node ID:          1
Ring ID:          1.2a
Quorate:          No

Votequorum information
----------------------
Expected votes:   3
Highest expected: 3
Total votes:      1
Quorum:           2 Activity blocked
Flags:            \n";

    #[test]
    fn a_node_that_is_cut_off() {
        let samples = read(CUT_OFF).unwrap();
        let seen: Vec<_> = samples.0.iter().map(|sample| (sample.family.name, sample.value)).collect();
        let expected = [
            ("pc_corosync_quorate", 0.0),
            ("pc_corosync_expected_votes", 3.0),
            ("pc_corosync_present_votes", 1.0),
            ("pc_corosync_quorum_votes", 2.0),
        ];
        let same = seen.iter().zip(expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-9);
        assert!(same && seen.len() == 4, "{seen:?}");
        assert!(read("Cannot initialize QUORUM service\n").is_err());
    }
}
