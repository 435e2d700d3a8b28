//! Which connections of this machine go to a node's storage, as a filter of ss(8). Here alone pc-ha knows that it is Gluster.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// glusterd: every client asks it for its volume, and every other glusterd is connected to it.
pub const GLUSTERD: u16 = 24007;
/// Bricks (glusterd.vol's `base-port` and `max-port`).
const BRICKS: (u16, u16) = (49152, 60999);

/// The ports on which this machine takes connections, by `ss -H -l -t -n`: State, Recv-Q, Send-Q, Local Address:Port, ...
pub fn listened(ss: &str) -> BTreeSet<u16> {
    let local = ss.lines().filter_map(|line| line.split_whitespace().nth(3));
    local.filter_map(|address| address.rsplit_once(':')?.1.parse().ok()).collect()
}

/// Connections that this machine opened to a node's glusterd and bricks. By numbers alone one that the node opened to a brick here
/// could look the same, for both sides may have any high port: what it was taken on is a port that is listened on, and the
/// port of a connection that was opened here never is.
pub fn filter(node: IpAddr, listened: &BTreeSet<u16>) -> Vec<String> {
    let (first, last) = (format!(":{}", BRICKS.0), format!(":{}", BRICKS.1));
    let glusterd = format!(":{GLUSTERD}");
    let node = match node {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let mut words = vec!["state", "established", "dst", &node, "and", "(", "dport", "=", &glusterd, "or"];
    words.extend(["(", "dport", ">=", &first, "and", "dport", "<=", &last, ")", ")"]);
    let mut words: Vec<String> = words.into_iter().map(String::from).collect();
    for port in listened {
        words.extend(["and", "sport", "!="].map(String::from));
        words.push(format!(":{port}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// iproute2 6.1.
    #[test]
    fn what_is_listened_on() {
        let text = "LISTEN 0      128               0.0.0.0:22        0.0.0.0:*          \n\
                    LISTEN 0      1024        192.168.0.50:24007     0.0.0.0:*          \n\
                    LISTEN 0      4096           127.0.0.1%lo:53    0.0.0.0:*          \n\
                    LISTEN 0      128                  [::]:22           [::]:*          \n\
                    LISTEN 0      4096                   *:49153             *:*          \n";
        assert_eq!(listened(text), BTreeSet::from([22, 53, 24007, 49153]));
        assert!(listened("").is_empty());
    }

    #[test]
    fn the_filter() {
        let words = filter("192.168.0.52".parse().unwrap(), &BTreeSet::from([22, 49152]));
        assert_eq!(
            words.join(" "),
            "state established dst 192.168.0.52 and ( dport = :24007 or ( dport >= :49152 and dport <= :60999 ) ) \
             and sport != :22 and sport != :49152"
        );
        assert!(
            filter("fd00::3".parse().unwrap(), &BTreeSet::new()).join(" ").contains(" dst [fd00::3] and ")
        );
    }
}
