//! Lines of corosync-cmapctl(8): the keys `runtime.members.ID.status` (`cmap_keys(7)`), as it lists them and as it tells changes.

/// What corosync says of a member. One that was never there since corosync started has no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is a member.
    Joined,
    /// It was one: it left, or it was lost.
    Left,
}

/// What every key begins with.
pub const KEYS: &str = "runtime.members.";
/// The line that corosync-cmapctl begins with once changes are told.
pub const TELLS: &str = "Type \"q\" to finish";

/// A status in a line, with corosync's number of the member; `None` of any other key, and of one that is deleted, which is
/// told with its last value.
pub fn read(line: &str) -> Option<(u16, Presence)> {
    let line = line.trim();
    let line = ["create> ", "modify> "].iter().find_map(|told| line.strip_prefix(told)).unwrap_or(line);
    let (key, value) = line.split_once(" (str) = ")?;
    let id = key.strip_prefix(KEYS)?.strip_suffix(".status")?.parse().ok()?;
    match value {
        "joined" => Some((id, Presence::Joined)),
        "left" => Some((id, Presence::Left)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Presence::{Joined, Left};
    use super::*;

    /// corosync 3.1.7, three nodes in namespaces: node 33333's link was cut and given back, then 22222 was stopped.
    #[test]
    fn what_corosync_lists_and_tells() {
        let all = |text: &str| text.lines().filter_map(read).collect::<Vec<_>>();
        assert_eq!(
            all(include_str!("../../tests/recorded/cmapctl.txt")),
            [(11111, Joined), (22222, Joined), (33333, Joined)]
        );
        let told = include_str!("../../tests/recorded/cmapctl-track.txt");
        assert_eq!(told.lines().next(), Some(TELLS));
        assert_eq!(all(told), [(33333, Left), (33333, Joined), (22222, Left)]);
    }

    #[test]
    fn what_says_nothing() {
        assert_eq!(read("create> runtime.members.7.status (str) = joined"), Some((7, Joined)));
        for line in [
            "",
            TELLS,
            "delete> runtime.members.33333.status (str) = left",
            "modify> runtime.members.33333.join_count (u32) = 2",
            "modify> runtime.members.33333.status (str) = leaving",
            "modify> runtime.members.70000.status (str) = left",
            "modify> runtime.members.node3.status (str) = left",
            "modify> runtime.config.totem.status (str) = left",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
