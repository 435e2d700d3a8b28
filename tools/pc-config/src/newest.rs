//! Which number a file gets that goes to all nodes, and whether it would undo what it never saw. Pure.

use anyhow::Result;
use pc_cli::refused;

use crate::generation::{Generation, next, sha256};
use crate::push::UNCHANGED;
use crate::status::Status;

/// Another text in place of one that this node never had would undo, unseen, what somebody changed there: of a higher number, or
/// of the same one when two were changed at once.
pub fn overtaken(own: &Status, reached: &[Status], generation: &Generation) -> Result<()> {
    let other = |status: &&Status| {
        own.generation.is_some()
            && status.generation == own.generation
            && status.sha256 != own.sha256
            && status.sha256.as_ref() != Some(&generation.sha256)
    };
    if let Some(other) = reached.iter().find(other) {
        return Err(refused(format!(
            "{} and this node have two generations {}: this file lacks what was changed there\n  \
             pc-config show --json, there and here, to compare; `pc-config put` here what is to be of both, with a comment more if it is what \
             is here already, then push; {UNCHANGED}",
            other.node,
            own.generation.unwrap_or_default()
        )));
    }
    let newest = reached.iter().max_by_key(|status| status.generation);
    let Some(newest) = newest.filter(|newest| {
        newest.generation > own.generation && newest.generation < Some(generation.generation)
    }) else {
        return Ok(());
    };
    let number = |status: &Status| status.generation.map_or("none".into(), |number| number.to_string());
    Err(refused(format!(
        "{} has generation {}, this node {}: this file lacks what was changed there\n  `pc-config push` on {}, then edit and push again; {UNCHANGED}",
        newest.node,
        number(newest),
        number(own),
        newest.node
    )))
}

/// The newest number when it already stands for this text (a push that was cut short), else the next one.
pub fn choose(text: &str, known: u64, statuses: &[&Status]) -> Result<Generation> {
    let newest = statuses.iter().filter_map(|status| status.generation).max().unwrap_or(0).max(known);
    let digest = sha256(text);
    let mut holders =
        statuses.iter().filter(|status| newest > 0 && status.generation == Some(newest)).peekable();
    let is_this = holders.peek().is_some() && holders.all(|status| status.sha256.as_deref() == Some(&digest));
    Ok(Generation::new(if is_this { newest } else { next(newest)? }, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(generation: Option<u64>, text: &str) -> Status {
        Status {
            schema: String::new(),
            node: "n".into(),
            generation,
            sha256: generation.map(|_| sha256(text)),
            signed: true,
            applied: true,
            edited: false,
        }
    }

    #[test]
    fn the_number_goes_up_only_for_a_new_text() {
        let number =
            |statuses: &[Status]| choose("new", 0, &statuses.iter().collect::<Vec<_>>()).unwrap().generation;
        assert_eq!(number(&[status(None, ""), status(None, "")]), 1);
        assert_eq!(number(&[status(Some(3), "old"), status(Some(2), "older")]), 4);
        assert_eq!(number(&[status(Some(4), "new"), status(Some(3), "old")]), 4, "cut short: goes on");
        assert_eq!(
            number(&[status(Some(4), "new"), status(Some(4), "other")]),
            5,
            "two made the same number"
        );
        let statuses = [status(Some(3), "old")];
        let known = |number| choose("new", number, &statuses.iter().collect::<Vec<_>>()).unwrap().generation;
        assert_eq!((known(7), known(2)), (8, 4), "known from a record that is lost");
    }

    #[test]
    fn what_was_changed_elsewhere_is_not_undone_unseen() {
        let refused = |own: Option<u64>, others: &[Status]| {
            let all = others.iter().cloned().chain([status(own, "older")]).collect::<Vec<_>>();
            overtaken(
                &status(own, "older"),
                others,
                &choose("new", 0, &all.iter().collect::<Vec<_>>()).unwrap(),
            )
            .is_err()
        };
        assert!(refused(Some(1), &[status(Some(2), "theirs"), status(Some(1), "older")]));
        assert!(refused(None, &[status(Some(1), "theirs")]));
        assert!(!refused(Some(2), &[status(Some(1), "theirs"), status(Some(1), "older")]), "put here first");
        assert!(!refused(Some(1), &[status(Some(2), "new")]), "it is the same");
        assert!(!refused(Some(2), &[status(None, ""), status(Some(1), "older")]));
        assert!(refused(Some(2), &[status(Some(2), "theirs"), status(Some(2), "older")]), "two at once");
        assert!(!refused(Some(2), &[status(Some(2), "new"), status(Some(2), "older")]), "theirs is wanted");
        assert!(!refused(Some(3), &[status(Some(2), "theirs")]), "put here with both");
    }
}
