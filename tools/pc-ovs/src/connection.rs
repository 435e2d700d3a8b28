//! Through which address is the person connected who asks for a change?

use std::net::IpAddr;

/// Addresses of an ssh session: client, and the local one it came in through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Where the person sits.
    pub client: IpAddr,
    /// Our address that the session runs through.
    pub local: IpAddr,
}

/// The ssh session this process runs in. sudo and su drop the variable, so ancestors are asked, too.
pub fn session() -> Option<Session> {
    if let Ok(value) = std::env::var("SSH_CONNECTION") {
        return parse(&value);
    }
    let mut pid = std::os::unix::process::parent_id();
    for _ in 0..12 {
        if pid <= 1 {
            return None;
        }
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let found =
            environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"SSH_CONNECTION="));
        if let Some(value) = found {
            return parse(&String::from_utf8_lossy(value));
        }
        pid = parent(pid)?;
    }
    None
}

/// `client-address client-port server-address server-port` (ssh(1)).
fn parse(value: &str) -> Option<Session> {
    let words: Vec<&str> = value.split(' ').collect();
    // A link-local address has its zone behind it.
    let address = |word: &str| word.split('%').next()?.parse().ok();
    Some(Session { client: address(words.first()?)?, local: address(words.get(2)?)? })
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything: what follows the last one counts (proc(5)).
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_read() {
        let session = parse("192.168.0.9 51234 192.168.0.50 22").unwrap();
        assert_eq!(session.client.to_string(), "192.168.0.9");
        assert_eq!(session.local.to_string(), "192.168.0.50");
        let session = parse("fe80::1%ens3 51234 fe80::2%ens3 22").unwrap();
        assert_eq!(session.local.to_string(), "fe80::2");
        assert!(parse("").is_none() && parse("x y z").is_none());
    }

    #[test]
    fn the_parent_of_a_process_is_found() {
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
