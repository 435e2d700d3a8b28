//! `[[route]]`: who may talk to whom.

use super::Sense;
use crate::tree::{Step, at};

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
                if let Err(fault) = ports(port) {
                    let remedy = "write for example \"tcp/25\", \"udp/53\", \"tcp/8000-8010\" or \"icmp\"";
                    self.error(&at!["route", index, "ports", position], fault, remedy);
                }
            }
        }
    }

    fn end(&mut self, steps: &[Step], end: &str) {
        match end.split_once(':') {
            None if end == "any" => {}
            Some((section @ ("network" | "vm"), name)) => {
                self.known_as(steps, section, name, &format!("{section}:"));
            }
            _ => self.error(steps, "is not an end of a route", "write network:NAME, vm:NAME or any"),
        }
    }
}

/// `tcp/25`, `udp/53`, `tcp/8000-8010`, `icmp`.
fn ports(text: &str) -> Result<(), &'static str> {
    if text == "icmp" {
        return Ok(());
    }
    let Some(("tcp" | "udp", range)) = text.split_once('/') else {
        return Err("is not a protocol and port");
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    // The parser alone would take a sign.
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
    match (number(first), number(last)) {
        (Some(0), Some(_)) | (Some(_), Some(0)) => Err("port 0 does not exist"),
        (Some(first), Some(last)) if first > last => Err("is a range that ends before it begins"),
        (Some(_), Some(_)) => Ok(()),
        _ => Err("is not a port between 1 and 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn ports_read() {
        for good in ["tcp/25", "udp/53", "tcp/8000-8010", "icmp", "tcp/65535"] {
            assert_eq!(ports(good), Ok(()), "{good}");
        }
        for bad in
            ["25", "tcp", "tcp/", "tcp/0", "tcp/70000", "tcp/9-8", "sctp/1", "tcp/+5", "tcp/1-", "icmp/8"]
        {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }
}
