//! What putting a file in force changes on this node: pure.

use std::fmt;

use cluster::Cluster;

use crate::generation::{Generation, countable};
use crate::hosts;

/// What the machine has, before.
#[derive(Debug, Default)]
pub struct Have {
    /// The generation in force, and whether it is signed.
    pub kept: Option<(Generation, bool)>,
    /// `generation.json`.
    pub generation: Option<String>,
    /// The number that `status` told last.
    pub told: Option<u64>,
    /// `applied.json`, byte for byte as all that follows: what is not text must not be lost.
    pub applied: Option<Vec<u8>>,
    /// `cluster.toml`.
    pub file: Option<Vec<u8>>,
    /// `/etc/hosts`.
    pub hosts: Vec<u8>,
}

/// What is to be in force.
pub struct Want<'a> {
    /// The file, understood.
    pub cluster: &'a Cluster,
    /// The file, numbered.
    pub generation: &'a Generation,
    /// `generation.json`: the signed text, or the generation itself.
    pub record: &'a str,
}

/// A file that is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `cluster.toml.previous`.
    Previous,
    /// `cluster.toml.edited`: what somebody had begun to write when another file came.
    Edited,
    /// `cluster.toml`.
    File,
    /// `applied.json`: from here on the node boots with the new file.
    Applied,
    /// `/etc/hosts`.
    Hosts,
    /// `generation.json`: the last one, so that a put that was cut short is repeated in full.
    Generation,
}

/// One replacement.
#[derive(Debug, PartialEq, Eq)]
pub struct Write {
    /// Which file.
    pub place: Place,
    /// Its new content.
    pub content: Vec<u8>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

impl Place {
    /// Where it stands.
    pub fn path(self) -> &'static str {
        match self {
            Place::Previous => "/etc/personal-cluster/cluster.toml.previous",
            Place::Edited => "/etc/personal-cluster/cluster.toml.edited",
            Place::File => pc_cli::CLUSTER_FILE,
            Place::Applied => pc_cli::APPLIED_FILE,
            Place::Hosts => "/etc/hosts",
            Place::Generation => "/var/lib/personal-cluster/generation.json",
        }
    }
}

/// The replacements that bring the machine to the file, in the order that is safe to be cut short.
pub fn plan(want: &Want<'_>, have: &Have) -> anyhow::Result<Vec<Write>> {
    let mut writes = Vec::new();
    let mut put = |place: Place, have: Option<&[u8]>, content: Vec<u8>| {
        if have != Some(content.as_slice()) {
            writes.push(Write { place, content });
        }
    };
    let text = want.generation.file.as_bytes();
    let before = have.kept.as_ref().map(|(kept, _)| kept.file.as_bytes()).or(have.file.as_deref());
    if let Some(before) = before.filter(|before| *before != text) {
        put(Place::Previous, None, before.into());
    }
    if let Some(edited) = have.file.as_deref().filter(|file| *file != text && before != Some(*file)) {
        put(Place::Edited, None, edited.into());
    }
    put(Place::File, have.file.as_deref(), text.into());
    let applied = serde_json::to_string_pretty(want.cluster)? + "\n";
    put(Place::Applied, have.applied.as_deref(), applied.into_bytes());
    put(Place::Hosts, Some(&have.hosts), hosts::with_block(&have.hosts, want.cluster));
    put(Place::Generation, have.generation.as_deref().map(str::as_bytes), want.record.into());
    Ok(writes)
}

/// Which number a received generation may have: newer, or the very same.
pub fn accepts(have: &Have, received: &Generation) -> Result<(), String> {
    countable(received.generation)?;
    let known = have.known_number();
    if received.generation < known {
        return Err(format!(
            "generation {} is older than {known}, which is in force\n  push the file again from a node that has the newest",
            received.generation
        ));
    }
    let Some((kept, _)) = &have.kept else { return Ok(()) };
    if received.generation == kept.generation && received.sha256 != kept.sha256 {
        return Err(format!(
            "generation {} is in force here with another content\n  compare the two files; `pc-config put` what is to be of both on one node, which gives it the next number, and push there",
            kept.generation
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(text: &str) -> Cluster {
        cluster::parse("test", text).unwrap()
    }

    fn places(writes: &[Write]) -> Vec<Place> {
        writes.iter().map(|write| write.place).collect()
    }

    /// What the machine has after the writes.
    fn done(mut have: Have, writes: &[Write], generation: &Generation) -> Have {
        for write in writes {
            let content = Some(write.content.clone());
            match write.place {
                Place::Previous | Place::Edited => {}
                Place::File => have.file = content,
                Place::Applied => have.applied = content,
                Place::Hosts => have.hosts.clone_from(&write.content),
                Place::Generation => {
                    have.generation = content.map(|content| String::from_utf8(content).unwrap());
                    have.kept = Some((generation.clone(), false));
                }
            }
        }
        have
    }

    #[test]
    fn every_prefix_of_the_plan_can_be_repeated_and_the_second_does_nothing() {
        let one = "schema = \"personal-cluster/1\"\nname = \"home\"\n[[node]]\nname = \"n1\"\naddress = \"10.0.0.1\"\n";
        let two = format!("{one}# changed\n");
        let old = Generation::new(1, one);
        let new = Generation::new(2, &two);
        let (old_file, new_file) = (cluster(one), cluster(&two));
        let (old_record, new_record) = (old.to_text().unwrap(), new.to_text().unwrap());
        let first = Want { cluster: &old_file, generation: &old, record: &old_record };
        let writes = plan(&first, &Have::default()).unwrap();
        assert_eq!(places(&writes), [Place::File, Place::Applied, Place::Hosts, Place::Generation]);
        let second = Want { cluster: &new_file, generation: &new, record: &new_record };
        for cut in 0..=3 {
            let have = done(Have::default(), &writes, &old);
            assert!(plan(&first, &have).unwrap().is_empty());
            let next = plan(&second, &have).unwrap();
            assert_eq!(places(&next), [Place::Previous, Place::File, Place::Generation]);
            assert_eq!(next[0].content, one.as_bytes());
            let have = done(have, &next[..cut], &new);
            let again = plan(&second, &have).unwrap();
            let have = done(have, &again, &new);
            assert!(plan(&second, &have).unwrap().is_empty());
            assert_eq!(have.kept.unwrap().0.generation, 2);
        }
    }

    #[test]
    fn an_edit_that_was_never_put_is_kept() {
        let one = "schema = \"personal-cluster/1\"\nname = \"home\"\n[[node]]\nname = \"n1\"\naddress = \"10.0.0.1\"\n";
        let two = format!("{one}# from elsewhere\n");
        let (file, kept, new) = (cluster(one), Generation::new(1, one), Generation::new(2, &two));
        let have = Have { kept: Some((kept, false)), file: Some(b"# mine".into()), ..Have::default() };
        let writes = plan(&Want { cluster: &file, generation: &new, record: "" }, &have).unwrap();
        assert_eq!(places(&writes)[..3], [Place::Previous, Place::Edited, Place::File]);
        assert_eq!(
            (writes[0].content.as_slice(), writes[1].content.as_slice()),
            (one.as_bytes(), &b"# mine"[..])
        );
    }

    #[test]
    fn an_older_or_a_different_generation_is_refused() {
        let none = Have::default();
        assert!(accepts(&none, &Generation::new(1 << 53, "a")).is_ok());
        assert!(accepts(&none, &Generation::new((1 << 53) + 1, "a")).unwrap_err().contains("the largest"));
        let have = Have { kept: Some((Generation::new(3, "a"), false)), ..Have::default() };
        assert!(accepts(&none, &Generation::new(1, "a")).is_ok());
        assert!(accepts(&have, &Generation::new(4, "b")).is_ok());
        assert!(accepts(&have, &Generation::new(3, "a")).is_ok());
        assert!(accepts(&have, &Generation::new(3, "b")).unwrap_err().contains("another content"));
        assert!(accepts(&have, &Generation::new(2, "a")).unwrap_err().contains("older"));
        let lost = Have { told: Some(3), ..Have::default() };
        assert!(accepts(&lost, &Generation::new(3, "a")).is_ok());
        assert!(accepts(&lost, &Generation::new(2, "a")).unwrap_err().contains("older"));
    }
}
