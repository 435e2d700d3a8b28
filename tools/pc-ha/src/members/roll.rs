//! Who has left, and whose connections are closed for it. Pure: time and findings come from outside.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::cmap::Presence;

/// Between two questions whether a member that has left answers.
pub const PAUSE: Duration = Duration::from_secs(2);

/// What was found of a member that has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Its machine answers: corosync alone is gone, and Gluster speaks for itself.
    Answers,
    /// Nothing answers.
    Silent,
    /// This machine could not ask.
    Unknown,
}

#[derive(Debug)]
struct Away {
    since: Instant,
    /// `None`: its connections are closed, there is nothing left to ask.
    ask: Option<Instant>,
}

/// The members that have left.
#[derive(Debug)]
pub struct Roll {
    me: u16,
    /// A member that has left and still answers may be reset a moment later, which corosync says nothing of: it is asked again
    /// for this long.
    patience: Duration,
    away: BTreeMap<u16, Away>,
}

impl Roll {
    /// Nobody has left. `me` is this node.
    pub fn new(me: u16, patience: Duration) -> Roll {
        Roll { me, patience, away: BTreeMap::new() }
    }

    /// corosync has said something; whether it is news that a member has left.
    pub fn note(&mut self, (id, presence): (u16, Presence), now: Instant) -> bool {
        match presence {
            Presence::Joined => {
                self.away.remove(&id);
                false
            }
            Presence::Left if id == self.me || self.away.contains_key(&id) => false,
            Presence::Left => {
                self.away.insert(id, Away { since: now, ask: Some(now) });
                true
            }
        }
    }

    /// Who is to be asked now.
    pub fn due(&self, now: Instant) -> Vec<u16> {
        let due = self.away.iter().filter(|(_, away)| away.ask.is_some_and(|ask| ask <= now));
        due.map(|(id, _)| *id).collect()
    }

    /// How long there is nothing to do unless corosync says something; `None` is for ever.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        let next = self.away.values().filter_map(|away| away.ask).min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Whose connections are closed: of those that were found silent, who is still away. Nobody's without quorum: such a side
    /// serves nothing, its guests are stopped and sbd resets it; connections that it keeps are there when the cut is short.
    pub fn plan(&self, found: &[(u16, Found)], quorate: bool) -> Vec<u16> {
        let silent = found.iter().filter(|(_, found)| quorate && *found == Found::Silent);
        silent.map(|(id, _)| *id).filter(|id| self.away.contains_key(id)).collect()
    }

    /// Its connections are closed.
    pub fn closed(&mut self, id: u16) {
        if let Some(away) = self.away.get_mut(&id) {
            away.ask = None;
        }
    }

    /// Who was asked, and was not closed, is asked again, for a while.
    pub fn later(&mut self, asked: &[u16], now: Instant) {
        for (id, away) in &mut self.away {
            if away.ask.is_some() && asked.contains(id) {
                away.ask = (now < away.since + self.patience).then_some(now + PAUSE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Presence::{Joined, Left};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(28);

    fn roll() -> (Roll, Instant) {
        (Roll::new(1, PATIENCE), Instant::now())
    }

    #[test]
    fn a_member_that_is_lost_is_asked_at_once_closed_once_and_forgotten_when_it_is_back() {
        let (mut roll, now) = roll();
        assert_eq!((roll.due(now), roll.pause(now)), (vec![], None));
        assert!(roll.note((3, Left), now));
        assert_eq!((roll.due(now), roll.pause(now)), (vec![3], Some(Duration::ZERO)));
        // The same again, as a list after the change, is no news.
        assert!(!roll.note((3, Left), now));
        assert_eq!(roll.plan(&[(3, Found::Silent)], true), [3]);
        roll.closed(3);
        roll.later(&[3], now);
        assert_eq!((roll.due(now + PATIENCE), roll.pause(now)), (vec![], None));
        assert!(!roll.note((3, Joined), now));
        assert!(roll.note((3, Left), now), "lost again");
        assert_eq!(roll.due(now), [3]);
    }

    #[test]
    fn only_who_is_silent_and_only_with_quorum() {
        let (mut roll, now) = roll();
        for id in [2, 3, 4, 5] {
            roll.note((id, Left), now);
        }
        let found = [(2, Found::Answers), (3, Found::Silent), (4, Found::Unknown), (5, Found::Silent)];
        assert_eq!(roll.plan(&found, false), [0_u16; 0]);
        // 5 came back while it was asked.
        roll.note((5, Joined), now);
        assert_eq!(roll.plan(&found, true), [3]);
        assert_eq!(roll.plan(&[(7, Found::Silent)], true), [0_u16; 0], "nobody said that it has left");
    }

    #[test]
    fn who_answers_is_asked_again_until_a_lost_node_would_have_been_reset() {
        let (mut roll, now) = roll();
        roll.note((2, Left), now);
        roll.later(&[2], now);
        assert_eq!((roll.due(now), roll.pause(now)), (vec![], Some(PAUSE)));
        let (mut at, mut questions) = (now, 1);
        while let Some(pause) = roll.pause(at) {
            at += pause;
            assert_eq!(roll.due(at), [2]);
            roll.later(&[2], at);
            questions += 1;
        }
        assert_eq!(at, now + PATIENCE);
        assert_eq!(questions, 15);
        // Nobody asks any more, and it is still known to be away.
        assert!(!roll.note((2, Left), at));
    }

    #[test]
    fn this_node_never_leaves() {
        let (mut roll, now) = roll();
        assert!(!roll.note((1, Left), now));
        assert_eq!(roll.due(now), [0_u16; 0]);
    }
}
