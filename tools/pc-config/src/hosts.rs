//! The marked block of peer names in /etc/hosts (hosts(5)): no name that storage or migration needs comes
//! from a name server.

use std::fmt::Write;

use cluster::Cluster;

const BEGIN: &str = "# personal-cluster: begin (written by pc-config put; edits between the marks are lost)";
/// What older releases wrote begins alike.
const BEGINNING: &[u8] = b"# personal-cluster: begin";
const END: &str = "# personal-cluster: end";

/// The block for a file.
fn block(cluster: &Cluster) -> String {
    let mut text = format!("{BEGIN}\n");
    for node in &cluster.nodes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {1}.{2} {1}", crate::show::address(node), node.name, cluster.domain);
    }
    text + END + "\n"
}

/// `hosts` with the block of this file: in place of the old one, else before everything else, so that it
/// wins over a line like `127.0.1.1 node1` that Debian's installer writes. Other lines stay byte for byte,
/// whatever they are written in.
pub fn with_block(hosts: &[u8], cluster: &Cluster) -> Vec<u8> {
    let block = if cluster.nodes.is_empty() { String::new() } else { block(cluster) }.into_bytes();
    let lines = || hosts.split_inclusive(|byte| *byte == b'\n');
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let (mut inside, mut found) = (false, false);
    for line in lines() {
        if !found && line.starts_with(BEGINNING) {
            (inside, found) = (true, true);
        } else if inside {
            inside = line.trim_ascii_end() != END.as_bytes();
        } else if found {
            after.extend_from_slice(line);
        } else {
            before.extend_from_slice(line);
        }
    }
    if inside {
        // The end mark is gone: what follows the first mark may be someone else's, so nothing is dropped.
        let others: Vec<&[u8]> = lines().filter(|line| !line.starts_with(BEGINNING)).collect();
        return [block, others.concat()].concat();
    }
    if found { [before, block, after].concat() } else { [&block, hosts].concat() }
}

/// Whether a put was here.
pub fn has_block(hosts: &[u8]) -> bool {
    hosts.split(|byte| *byte == b'\n').any(|line| line.starts_with(BEGINNING))
}

/// Lines of others that give a node's name another address: `(line, name)`.
pub fn rivals(hosts: &[u8], cluster: &Cluster) -> Vec<(usize, String)> {
    let hosts = String::from_utf8_lossy(hosts);
    let ours = if cluster.nodes.is_empty() { String::new() } else { block(cluster) };
    let mut rivals = Vec::new();
    for (index, line) in hosts.lines().enumerate() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next() else { continue };
        let names: Vec<&str> = words.collect();
        for node in &cluster.nodes {
            let is_named = names.contains(&node.name.as_str());
            // A machine's own name at 127.0.1.1 is Debian's habit, and our block comes first.
            if is_named
                && address != crate::show::address(node)
                && !address.starts_with("127.")
                && !ours.contains(line)
            {
                rivals.push((index + 1, node.name.to_string()));
            }
        }
    }
    rivals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(nodes: usize) -> Cluster {
        let mut text = String::from("schema = \"personal-cluster/1\"\nname = \"home\"\n");
        for node in 1..=nodes {
            let _ = write!(text, "[[node]]\nname = \"node{node}\"\naddress = \"10.0.0.{node}/24\"\n");
        }
        cluster::parse("test", &text).unwrap()
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_block_comes_and_goes_and_foreign_lines_stay() {
        let foreign = "127.0.0.1\tlocalhost\n127.0.1.1 node1\n# mine\n10.0.0.9 printer";
        let with_block = |hosts: &str, file: &Cluster| text(with_block(hosts.as_bytes(), file));
        let one = with_block(foreign, &file(1));
        assert_eq!(one, format!("{BEGIN}\n10.0.0.1 node1.home.arpa node1\n{END}\n{foreign}"));
        assert_eq!(with_block(&one, &file(1)), one);
        let two = with_block(&one, &file(2));
        assert!(two.contains("10.0.0.2 node2.home.arpa node2\n") && two.ends_with(foreign));
        assert_eq!(with_block(&two, &file(0)), foreign);
        let moved = format!("a\n{one}\nb\n");
        assert!(with_block(&moved, &file(2)).starts_with("a\n"));
        assert!(with_block(&moved, &file(2)).ends_with("\nb\n"));
    }

    #[test]
    fn a_lost_end_mark_drops_nothing() {
        let broken = format!("x\n{BEGIN}\n10.0.0.1 node1\n10.0.0.9 printer\n");
        let with_block = |hosts: &str, file: &Cluster| text(with_block(hosts.as_bytes(), file));
        let mended = with_block(&broken, &file(1));
        assert!(mended.contains("10.0.0.9 printer\n") && mended.contains("x\n"));
        assert_eq!(with_block(&mended, &file(1)), mended);
    }

    #[test]
    fn lines_that_are_no_text_stay() {
        let foreign = b"10.0.0.9 printer # B\xfcro\n\xff\xfe\n";
        let one = super::with_block(foreign, &file(1));
        assert!(one.ends_with(foreign) && one.len() > foreign.len());
        assert_eq!(super::with_block(&one, &file(1)), one);
        assert_eq!(super::with_block(&one, &file(0)), foreign);
        let lost = [b"\xff\n".as_slice(), BEGINNING, b"\n\xfe\n"].concat();
        assert!(super::with_block(&lost, &file(1)).ends_with(b"\xff\n\xfe\n"));
    }

    #[test]
    fn rivals_are_named() {
        let hosts = "10.0.0.7 node2 x # y\n127.0.1.1 node1\n#10.0.0.8 node2\n10.0.0.1 node1\n";
        assert_eq!(rivals(hosts.as_bytes(), &file(2)), [(1, "node2".to_string())]);
    }
}
