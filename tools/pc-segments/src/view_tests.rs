use super::*;
use crate::decide::Decided;
use segment_map::{Format, Image, LOST, Source};

const SEGMENT: u64 = 1 << 16;
const STAMP: u64 = 1_795_000_000 * SECOND + 5;

fn view(directory: &std::path::Path, contents: &[(&str, &[u8])]) -> View {
    let disk = |(name, content): &(&str, &[u8])| {
        let path = directory.join(name);
        std::fs::write(&path, content).unwrap();
        let image = Image::open(&Source { name: (*name).into(), format: Format::Raw(path) }).unwrap();
        let geometry = Geometry { size: content.len() as u64, segment: SEGMENT };
        let count = usize::try_from(geometry.segments()).unwrap();
        let decided = Decided { records: vec![LOST; count], dirty: vec![true; count], everything: None };
        Disk::new((*name).into(), geometry, image, &decided)
    };
    View::new("5-1".into(), STAMP, contents.iter().map(disk).collect()).unwrap()
}

fn read(view: &View, node: Node, step: u64) -> Vec<u8> {
    let mut all = Vec::new();
    let size = view.look(node).unwrap().size;
    while (all.len() as u64) < size + step {
        let before = all.len();
        view.read(node, before as u64, step, |bytes| all.extend_from_slice(bytes)).unwrap();
        if all.len() == before {
            break;
        }
    }
    assert_eq!(all.len() as u64, size, "{node:?} is as long as it says");
    all
}

#[test]
fn everything_that_is_listed_can_be_looked_up_and_ascends() {
    let directory = tempfile::tempdir().unwrap();
    let view = view(directory.path(), &[("vda", &vec![1; 3 << 16]), ("vdb", b""), ("vdc", b"x")]);
    let list = |node: Node| -> Vec<(Node, String)> { (0..).map_while(|nth| view.entry(node, nth)).collect() };
    let root = list(Node::Root);
    assert_eq!(root.len(), 8);
    let mut inodes = Vec::new();
    for (node, name) in &root {
        assert_eq!(view.lookup(Node::Root, name), Some(*node), "{name}");
        inodes.push(node.inode());
        for (inner, name) in list(*node) {
            assert_eq!(view.lookup(*node, &name), Some(inner));
            inodes.push(inner.inode());
        }
    }
    assert_eq!(inodes.len(), 8 + 3 + 1);
    assert!(inodes.is_sorted(), "the order of reading: {inodes:?}");
    for wrong in ["vdd", "vda.sha512", "0000000000", ".sha256"] {
        assert_eq!(view.lookup(Node::Root, wrong), None, "{wrong}");
    }
    let vda = view.lookup(Node::Root, "vda").unwrap();
    assert_eq!(view.lookup(vda, "0000000003"), None);
}

#[test]
fn the_sentinel_is_newer_than_all_else() {
    let directory = tempfile::tempdir().unwrap();
    let view = view(directory.path(), &[("vda", &[1; 9])]);
    let newest = view.look(Node::Sentinel).unwrap().stamp;
    for nth in 0..3 {
        let (node, _) = view.entry(Node::Root, nth).unwrap();
        assert!(view.look(node).unwrap().stamp < newest);
    }
}

#[test]
fn lists_and_manifest_say_what_sha256sum_says_in_pieces_of_any_size() {
    let directory = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..(2 << 16) + 77_u32).map(|at| u8::try_from(at % 253).unwrap()).collect();
    let view = view(directory.path(), &[("vda", &content), ("vdb", b"")]);
    let expected: String = content
        .chunks(1 << 16)
        .enumerate()
        .flat_map(|(index, part)| [segment_map::Digest::of(part).to_string(), format!("  vda/{index:010}\n")])
        .collect();
    let list = view.lookup(Node::Root, "vda.sha256").unwrap();
    for step in [1, 7, 80, 81, 4096] {
        assert_eq!(String::from_utf8(read(&view, list, step)).unwrap(), expected, "by {step}");
    }
    let manifest = read(&view, Node::Manifest, 100);
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let vda = manifest["disks"].as_array().unwrap().iter().find(|disk| disk["name"] == "vda").unwrap();
    assert_eq!(vda["digests_sha256"], segment_map::Digest::of(expected.as_bytes()).to_string());
    assert_eq!((&vda["segments"], &vda["size_bytes"]), (&3.into(), &(content.len() as u64).into()));
    assert_eq!(manifest["taken"], "2026-11-18T11:06:40Z");
    assert_eq!(read(&view, Node::Sentinel, 3), b"5-1 2026-11-18T11:06:40Z\n");
    // That was no backup: nothing counts as saved.
    assert!(view.committed(&State::default(), None).disks[0].records.iter().all(|record| *record == LOST));
}
