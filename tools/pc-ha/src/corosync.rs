//! corosync.conf(5) out of the file, and whose file it is that is there.

use std::fmt::Write;

use crate::want::Want;

/// Where corosync reads it.
pub const PATH: &str = "/etc/corosync/corosync.conf";
/// The cluster's key, open only while the unlock servers vouch for this node.
pub const KEY: &str = "/run/personal-cluster/secrets/corosync.authkey";
/// There while the cluster file names the host of a third vote: corosync-qdevice starts only then.
pub const QUORUM_DEVICE: &str = "/var/lib/personal-cluster/ha/quorum-device";
/// What connects to that host.
pub const QDEVICE: &str = "corosync-qdevice.service";
const MARK: &str = "# Made by pc-ha out of the cluster file: it is written again when that changes.";

/// How often a token is sent again before it counts as lost, and pings while it may be on its way. With corosync's 4 of each a
/// bad cable at one node, which loses every third packet, has all nodes leave and come again until their watchdogs end them
/// (docs/decisions/loss.md).
const RETRANSMITS: u64 = 10;
const PINGS: u64 = 20;

/// The whole file, the same on every node.
pub fn render(want: &Want) -> String {
    let mut text = format!("{MARK}\n");
    let timing = &want.timing;
    let totem = [
        ("version", "2".to_string()),
        ("cluster_name", want.cluster.clone()),
        ("transport", "knet".into()),
        ("crypto_cipher", "aes256".into()),
        ("crypto_hash", "sha256".into()),
        ("keyfile", KEY.into()),
        ("token", timing.token_ms.to_string()),
        // What is written is what holds: otherwise 650 ms are added for each node beyond two.
        ("token_coefficient", "0".into()),
        ("consensus", timing.consensus_ms.to_string()),
        ("token_retransmits_before_loss_const", RETRANSMITS.to_string()),
    ];
    let link = [
        ("linknumber", 0),
        ("knet_ping_interval", timing.token_ms / PINGS),
        // corosync's own, which goes with an interval of its own only.
        ("knet_ping_timeout", timing.token_ms / 2),
    ];
    section(&mut text, 0, "totem", |text| {
        for (key, value) in &totem {
            line(text, 1, key, value);
        }
        section(text, 1, "interface", |text| {
            for (key, value) in &link {
                line(text, 2, key, &value.to_string());
            }
        });
    });
    section(&mut text, 0, "nodelist", |text| {
        for member in &want.members {
            section(text, 1, "node", |text| {
                line(text, 2, "name", &member.name);
                line(text, 2, "nodeid", &member.id.to_string());
                line(text, 2, "ring0_addr", &member.address);
            });
        }
    });
    section(&mut text, 0, "quorum", |text| {
        line(text, 1, "provider", "corosync_votequorum");
        if let Some(host) = &want.quorum_device {
            device(text, host, timing.quorum_device_ms);
        }
    });
    section(&mut text, 0, "logging", |text| {
        line(text, 1, "to_stderr", "no");
        line(text, 1, "to_logfile", "no");
        line(text, 1, "to_syslog", "yes");
    });
    text
}

/// The file that lets corosync-qdevice start.
pub fn quorum_device(host: &str) -> String {
    format!("{MARK}\n{host}\n")
}

/// corosync-qdevice(8). Its certificates are made once, by hand (docs/tools/pc-ha.md): without them it does not connect.
fn device(text: &mut String, host: &str, patience_ms: u64) {
    section(text, 1, "device", |text| {
        line(text, 2, "model", "net");
        line(text, 2, "votes", "1");
        // sbd does not trust a quorum that may take longer than its watchdog to be told.
        line(text, 2, "timeout", &patience_ms.to_string());
        line(text, 2, "sync_timeout", &patience_ms.to_string());
        section(text, 2, "net", |text| {
            line(text, 3, "host", host);
            line(text, 3, "algorithm", "ffsplit");
            line(text, 3, "tls", "required");
        });
    });
}

fn section(text: &mut String, depth: usize, name: &str, body: impl FnOnce(&mut String)) {
    let indent = "    ".repeat(depth);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{indent}{name} {{");
    body(text);
    let _ = writeln!(text, "{indent}}}");
}

fn line(text: &mut String, depth: usize, key: &str, value: &str) {
    let _ = writeln!(text, "{}{key}: {value}", "    ".repeat(depth));
}

/// A file that this tool wrote.
pub fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

/// `totem.token` of a file that was written before.
pub fn token_ms(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.trim().strip_prefix("token: ")?.parse().ok())
}

/// A file that nobody has made his own: none, ours, or the example that distributions ship (Debian calls its cluster
/// `debian`). Any other is somebody's cluster.
pub fn is_free(text: Option<&str>) -> bool {
    let Some(text) = text else { return true };
    is_ours(text) || text.lines().any(|line| line.trim() == "cluster_name: debian")
}
