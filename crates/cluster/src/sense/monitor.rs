//! `[monitor]`: an alert must reach somebody.

use super::Sense;
use crate::tree::at;

impl Sense<'_> {
    pub(super) fn monitor(&mut self) {
        let Some(monitor) = &self.cluster.monitor else { return };
        let remedy = "write for example \"you@example.org\"";
        if monitor.mail.is_empty() && self.whole {
            self.error(&at!["monitor", "mail"], "names nobody", "write mail = [\"you@example.org\"]");
        }
        for (index, address) in monitor.mail.iter().enumerate() {
            if !is_address(address) {
                self.error(&at!["monitor", "mail", index], "is not a mail address", remedy);
            }
        }
        if monitor.from.as_ref().is_some_and(|address| !is_address(address)) {
            self.error(&at!["monitor", "from"], "is not a mail address", remedy);
        }
        if monitor.smarthost.as_ref().is_some_and(|smarthost| !is_host_and_port(smarthost)) {
            let remedy = "write for example \"mail.example.org:587\"";
            self.error(&at!["monitor", "smarthost"], "is not host:port", remedy);
        }
        let Some(user) = &monitor.user else { return };
        if monitor.smarthost.is_none() {
            let fault = "without a smarthost there is nobody to log in at";
            self.error(&at!["monitor", "user"], fault, "add smarthost = \"mail.example.org:587\"");
        } else if user.is_empty() || user.chars().any(char::is_control) {
            self.error(
                &at!["monitor", "user"],
                "is no user name",
                "write the one that the mail server knows",
            );
        }
    }
}

/// `local@host`, without the quoted and commented forms of RFC 5322: Alertmanager takes braces for a template, and a comma
/// for the end of an address.
fn is_address(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\(),:;<>[]{}".contains(&byte);
    text.split_once('@').is_some_and(|(local, host)| {
        !local.is_empty() && !host.is_empty() && !host.contains('@') && text.bytes().all(plain)
    })
}

/// `host:port`, `[address]:port`.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host_is_right = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(name),
    };
    host_is_right && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::{is_address, is_host_and_port};

    #[test]
    fn addresses() {
        for right in ["me@example.org", "me+alerts@home", "root@localhost", "o'neil@example.org"] {
            assert!(is_address(right), "{right}");
        }
        for wrong in
            ["", "me", "@example.org", "me@", "a@b@c", "a b@c", "a@c, b@d", "Me <me@c>", "{{x}}@c", "a@c\n"]
        {
            assert!(!is_address(wrong), "{wrong}");
        }
    }

    #[test]
    fn hosts_with_ports() {
        for right in ["mail.example.org:587", "localhost:25", "192.168.0.2:465", "[fd00::2]:25"] {
            assert!(is_host_and_port(right), "{right}");
        }
        for wrong in [
            "mail.example.org",
            ":25",
            "mail:0",
            "mail:99999",
            "smtp://mail:25",
            "fd00::2:25",
            "[x]:25",
            "a b:25",
        ] {
            assert!(!is_host_and_port(wrong), "{wrong}");
        }
    }
}
