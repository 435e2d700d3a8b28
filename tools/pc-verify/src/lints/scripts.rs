//! Backups that somebody starts beside pc-borg. Views of ours are made for that (pc-segments).

use super::Ours;
use crate::machine::Machine;
use crate::told::Told;

/// What only says words.
const TALK: [&str; 3] = ["echo", "printf", "logger"];
/// What copies.
const COPIES: [&str; 6] = ["borg", "restic", "rsync", "tar", "cp", "qemu-img"];

/// The commands of a line of a shell, without what they only say.
fn commands(line: &str) -> Vec<Vec<&str>> {
    let (mut parts, mut begin, mut quote) = (Vec::new(), 0, None);
    for (at, byte) in line.char_indices() {
        match (quote, byte) {
            (None, '"' | '\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            (None, ';' | '|' | '&') => {
                parts.push(&line[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&line[begin..]);
    parts.into_iter().map(|part| words(part).take_while(|word| !TALK.contains(word)).collect()).collect()
}

/// Words and paths; a path begins where it begins, whatever stands before it (`if=/mnt/vms`).
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || "\"'=:(){}`$,<>".contains(c)).filter(|word| !word.is_empty())
}

/// The program of `/usr/bin/borg`.
fn is_program(word: &str, name: &str) -> bool {
    word.rsplit('/').next() == Some(name)
}

fn is_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub fn jobs(machine: &Machine, ours: &Ours) -> Vec<Told> {
    let mut places: Vec<String> = ours.volumes.iter().map(|volume| format!("/mnt/{volume}")).collect();
    places.push("/srv/bricks".into());
    let by_hand = |line: &str| {
        let commands = commands(line);
        let has = |command: &[&str], name: &str| command.iter().any(|word| is_program(word, name));
        let copies = commands.iter().any(|command| COPIES.iter().any(|name| has(command, name)));
        let touches = commands.iter().flatten().any(|word| places.iter().any(|place| is_below(word, place)));
        let snapshots = commands
            .iter()
            .any(|command| ["gluster", "snapshot", "create"].iter().all(|name| has(command, name)));
        (copies && touches) || snapshots
    };
    let ours = |line: &str| line.contains("pc-segments") || line.contains("pc-borg");
    let lines = |text: &str| {
        text.lines().map(str::trim).any(|line| !line.starts_with('#') && !ours(line) && by_hand(line))
    };
    let found = machine.jobs.iter().filter(|(_, text)| lines(text));
    found
        .map(|(path, _)| {
            let fault = format!(
                "{path} copies volumes by itself: without the VMs' definitions, and nobody is told when it fails"
            );
            Told::warning(fault, format!("remove that from {path}; [backup.NAME] in the cluster file does it"))
        })
        .collect()
}
