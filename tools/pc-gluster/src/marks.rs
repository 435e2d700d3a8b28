//! Marks (volume identities) on bricks of this node that do not fit: leftovers of refused creates, files of
//! another volume, and a mark that was taken off too early.

use crate::action::Action;
use crate::plan::Draft;
use crate::want::Volume;
use crate::xml::VolumeInfo;

/// Marks without a volume are what a refused create leaves on bricks that were ready. Other nodes take
/// theirs off at once; the leader, who creates, only when all had time to: it would mark theirs again.
pub(crate) fn look(draft: &mut Draft<'_>, volume: &Volume, known: Option<&VolumeInfo>) {
    for brick in volume.sets.iter().flatten().filter(|brick| draft.want.is_own(brick)) {
        let Some(own) = draft.have.own_brick(brick) else { continue };
        let belongs = known.filter(|info| info.bricks.contains(brick));
        match (&own.marked, belongs) {
            (None, Some(info)) if own.mounted && own.unmarked.as_ref() == Some(&info.id) => {
                let action = Action::BrickMark { brick: brick.clone(), volume_id: info.id.clone() };
                draft.step(format!("brick-mark/{brick}"), Vec::new(), action);
            }
            (Some(mark), None) if !mark.empty => {
                let id = &mark.volume_id;
                draft
                    .faults
                    .push(format!("brick {brick}: holds files of another volume ({id}): not touched"));
            }
            (Some(mark), None) if !draft.is_leader() || mark.settled => {
                draft.step(unmark_id(brick), Vec::new(), Action::BrickUnmark { brick: brick.clone() });
            }
            _ => {}
        }
    }
}

/// The steps that take leftovers off these bricks; `None` (and a wait) when it is too early for that, or
/// a brick of this node is not there.
pub(crate) fn clean(draft: &mut Draft<'_>, volume: &str, bricks: &[String]) -> Option<Vec<String>> {
    let mut needs = Vec::new();
    for brick in bricks.iter().filter(|brick| draft.want.is_own(brick)) {
        let own = draft.have.own_brick(brick);
        if !own.is_some_and(|own| own.mounted) {
            draft.waiting.push(format!("volume {volume}: waiting for brick {brick}, which is not mounted"));
            return None;
        }
        let id = unmark_id(brick);
        if draft.planned(&id) {
            needs.push(id);
        } else if own.and_then(|own| own.marked.as_ref()).is_some_and(|mark| mark.empty) {
            draft
                .waiting
                .push(format!("volume {volume}: was refused moments ago, waiting for the other nodes"));
            return None;
        } else if own.is_some_and(|own| own.marked.is_some()) {
            return None;
        }
    }
    Some(needs)
}

fn unmark_id(brick: &str) -> String {
    format!("brick-unmark/{brick}")
}
