//! What the others see of a node that is lost, and when. Pure.

use crate::engine::Engine;
use crate::rows::vm_resource;

/// How far it has come; all times in seconds since the node was told to reset itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    node: String,
    /// Pacemaker misses it.
    pub lost: Option<f64>,
    unclean: bool,
    /// Pacemaker holds it for dead.
    pub fenced: Option<f64>,
    /// It is a member again.
    pub back: Option<f64>,
    /// The VMs that ran there and are not tied to it: where each runs, and since when.
    pub vms: Vec<(String, Option<(String, f64)>)>,
}

impl Course {
    /// Before anything has happened.
    pub fn new(node: &str, vms: &[String]) -> Course {
        let vms = vms.iter().map(|vm| (vm.clone(), None)).collect();
        Course { node: node.into(), lost: None, unclean: false, fenced: None, back: None, vms }
    }

    /// One look at the cluster.
    pub fn see(&mut self, at: f64, engine: &Engine) {
        let state = engine.node(&self.node);
        let unclean = state.is_some_and(|state| state.unclean);
        let member = state.is_some_and(|state| state.online) && !unclean;
        if self.lost.is_none() {
            if member {
                return;
            }
            self.lost = Some(at);
        }
        self.unclean |= unclean;
        if self.unclean && !unclean && self.fenced.is_none() {
            self.fenced = Some(at);
        }
        if member && self.back.is_none() {
            self.back = Some(at);
        }
        let (node, again) = (&self.node, self.fenced.is_some() && member);
        for (vm, runs) in self.vms.iter_mut().filter(|(_, runs)| runs.is_none()) {
            let Some(resource) = engine.vm(&vm_resource(vm)) else { continue };
            let [on] = resource.nodes.as_slice() else { continue };
            // Until the node was dead and is back, what is said to run there is what ran before.
            if resource.role == "Started" && (on != node || again) {
                *runs = Some((on.clone(), at));
            }
        }
    }

    /// Every VM runs, and the node is back.
    pub fn is_over(&self) -> bool {
        self.back.is_some() && self.waits().is_empty()
    }

    /// VMs that do not run yet.
    pub fn waits(&self) -> Vec<&str> {
        self.vms.iter().filter(|(_, runs)| runs.is_none()).map(|(vm, _)| vm.as_str()).collect()
    }

    /// The slowest VM, once all of them run.
    pub fn slowest(&self) -> Option<(&str, f64)> {
        let all: Option<Vec<(&str, f64)>> =
            self.vms.iter().map(|(vm, runs)| runs.as_ref().map(|(_, at)| (vm.as_str(), *at))).collect();
        all?.into_iter().max_by(|one, other| one.1.total_cmp(&other.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{NodeState, Resource};

    fn engine(online: bool, unclean: bool, role: &str, on: &[&str]) -> Engine {
        let vm = Resource {
            id: vm_resource("mail"),
            role: role.into(),
            managed: true,
            failed: false,
            told_to_stop: false,
            nodes: on.iter().map(ToString::to_string).collect(),
        };
        let node = NodeState { name: "n2".into(), online, drained: false, unclean };
        Engine { nodes: vec![node], vms: vec![vm], ..Engine::default() }
    }

    #[test]
    fn each_thing_counts_from_when_it_was_first_seen() {
        let mut course = Course::new("n2", &["mail".into()]);
        for (at, online, unclean, role, on) in [
            (0.2, true, false, "Started", &["n2"][..]),
            (6.0, false, true, "Started", &["n2"]),
            (6.2, false, true, "Started", &["n2"]),
            (29.0, false, false, "Stopped", &[]),
            (29.5, false, false, "Starting", &["n3"]),
            (31.0, false, false, "Started", &["n3"]),
            (60.0, false, false, "Started", &["n3"]),
        ] {
            course.see(at, &engine(online, unclean, role, on));
        }
        assert_eq!((course.lost, course.fenced, course.back), (Some(6.0), Some(29.0), None));
        assert_eq!(course.vms, [("mail".into(), Some(("n3".into(), 31.0)))]);
        assert!(!course.is_over(), "the node is away");
        course.see(90.0, &engine(true, false, "Started", &["n3"]));
        assert!(course.is_over() && course.back == Some(90.0));
        assert_eq!(course.slowest(), Some(("mail", 31.0)));
    }

    #[test]
    fn a_node_that_is_back_before_it_is_fenced_runs_nothing_until_then() {
        let mut course = Course::new("n2", &["mail".into()]);
        course.see(5.0, &engine(false, true, "Started", &["n2"]));
        course.see(12.0, &engine(true, true, "Started", &["n2"]));
        assert_eq!((course.back, course.waits()), (None, vec!["mail"]));
        course.see(30.0, &engine(true, false, "Stopped", &[]));
        assert_eq!((course.fenced, course.back, course.slowest()), (Some(30.0), Some(30.0), None));
        course.see(33.0, &engine(true, false, "Started", &["n2"]));
        assert_eq!(course.slowest(), Some(("mail", 33.0)));
    }

    #[test]
    fn a_node_that_stays_is_not_lost() {
        let mut course = Course::new("n2", &[]);
        course.see(100.0, &engine(true, false, "Started", &["n2"]));
        assert_eq!((course.lost, course.back, course.is_over()), (None, None, false));
        assert_eq!(course.slowest(), None);
    }
}
