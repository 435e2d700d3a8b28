//! Names and inode numbers of the view. An inode number depends on name and index alone, so that it is the same in
//! every run; numbers ascend in the order in which a backup should read.

use segment_map::Digest;

/// The mount point itself (FUSE fixes it).
pub const ROOT: u64 = 1;
/// Bits of an inode number that count segments.
const INDEX_BITS: u32 = 40;
/// A disk's number is below this, so that lists, manifest and sentinel come after all segments.
const DISKS: u64 = 0x3f_ffff;
const LISTS: u64 = 0x40_0000 << INDEX_BITS;
/// `manifest.json`.
pub const MANIFEST: u64 = 0x41_0000 << INDEX_BITS;
/// `sentinel`.
pub const SENTINEL: u64 = MANIFEST + 1;

/// What an inode number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// The mount point.
    Root,
    /// A disk's directory.
    Directory(u64),
    /// A segment of a disk.
    Segment(u64, u64),
    /// The list of a disk's digests.
    List(u64),
    /// `manifest.json`.
    Manifest,
    /// `sentinel`.
    Sentinel,
}

/// A disk's number, out of its name; two names of one view can have the same, by one chance in four million.
pub fn number(name: &str) -> u64 {
    let [a, b, c, ..] = Digest::of(name.as_bytes()).0;
    u64::from_be_bytes([0, 0, 0, 0, 0, a, b, c]) % DISKS + 1
}

impl Node {
    /// The inode number.
    pub fn inode(self) -> u64 {
        match self {
            Node::Root => ROOT,
            Node::Directory(disk) => disk << INDEX_BITS,
            Node::Segment(disk, index) => (disk << INDEX_BITS) + 1 + index,
            Node::List(disk) => LISTS + disk,
            Node::Manifest => MANIFEST,
            Node::Sentinel => SENTINEL,
        }
    }

    /// What has this inode number; that such a disk exists is not said.
    pub fn of(inode: u64) -> Option<Node> {
        let (high, low) = (inode >> INDEX_BITS, inode & ((1 << INDEX_BITS) - 1));
        match (inode, high) {
            (ROOT, _) => Some(Node::Root),
            (MANIFEST, _) => Some(Node::Manifest),
            (SENTINEL, _) => Some(Node::Sentinel),
            (_, 1..=DISKS) if low == 0 => Some(Node::Directory(high)),
            (_, 1..=DISKS) => Some(Node::Segment(high, low - 1)),
            (_, 0x40_0000) => Some(Node::List(low)),
            _ => None,
        }
    }
}

/// Name of a segment: ten digits, so that names sort as numbers do.
pub fn segment_name(index: u64) -> String {
    format!("{index:010}")
}

/// The segment of a name; other spellings of the number are no names.
pub fn segment_index(name: &str) -> Option<u64> {
    let index = name.parse().ok()?;
    (segment_name(index) == name).then_some(index)
}

/// One line of a list, as sha256sum(1) writes and checks it.
pub fn list_line(digest: &Digest, disk: &str, index: u64) -> String {
    format!("{digest}  {disk}/{}\n", segment_name(index))
}

/// Bytes of each line of a list.
pub fn line_length(disk: &str) -> u64 {
    64 + 2 + disk.len() as u64 + 1 + 10 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_numbers_of_ten_digits() {
        assert_eq!(segment_index("0000000017"), Some(17));
        for wrong in ["17", "00000000017", "+000000017", "", "manifest", "-000000001"] {
            assert_eq!(segment_index(wrong), None, "{wrong}");
        }
        let line = list_line(&Digest::of(b""), "vda", 1);
        assert_eq!(
            line,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  vda/0000000001\n"
        );
        assert_eq!(line_length("vda"), line.len() as u64);
    }

    #[test]
    fn inode_numbers_of_names_never_change() {
        // borg and restic know a segment by it: another formula makes every archive read everything once.
        // printf vda | sha256sum begins with 6c4aba.
        assert_eq!(number("vda"), 0x6c_4aba % 0x3f_ffff + 1);
        assert_eq!(Node::Segment(number("vda"), 3).inode(), (number("vda") << 40) + 4);
    }

    proptest! {
        #[test]
        fn every_number_is_one_node(disk in 1..=DISKS, index in 0_u64..1 << 39) {
            for node in [Node::Directory(disk), Node::Segment(disk, index), Node::List(disk)] {
                prop_assert_eq!(Node::of(node.inode()), Some(node));
                prop_assert!(node.inode() < SENTINEL);
            }
            prop_assert!(Node::Segment(disk, index).inode() < Node::List(1).inode());
        }

        #[test]
        fn no_number_is_two_nodes(inode in any::<u64>()) {
            if let Some(node) = Node::of(inode) {
                prop_assert_eq!(node.inode(), inode);
            }
        }
    }
}
