//! `[[route]]`: who may talk to whom.

use super::Sense;
use crate::tree::{Step, at};
use crate::zones::{End, Ports};

impl Sense<'_> {
    pub(super) fn routes(&mut self) {
        for (index, route) in self.cluster.routes.iter().enumerate() {
            self.end(&at!["route", index, "from"], &route.from);
            self.end(&at!["route", index, "to"], &route.to);
            if route.from == route.to && route.from != "any" {
                let remedy = "remove the route, or name another end";
                self.error(&at!["route", index, "to"], "is also where the route begins", remedy);
            }
            for (position, port) in route.ports.iter().enumerate() {
                if let Err(fault) = Ports::parse(port) {
                    let remedy = "write for example \"tcp/25\", \"udp/53\", \"tcp/8000-8010\" or \"icmp\"";
                    self.error(&at!["route", index, "ports", position], fault, remedy);
                }
            }
        }
    }

    fn end(&mut self, steps: &[Step], end: &str) {
        match End::parse(end) {
            Some(End::Any) => {}
            Some(End::Network(name)) => {
                self.known_as(steps, "network", name, "network:");
            }
            Some(End::Vm(name)) => {
                self.known_as(steps, "vm", name, "vm:");
            }
            None => self.error(steps, "is not an end of a route", "write network:NAME, vm:NAME or any"),
        }
    }
}
