//! Which watchdog resets this node. Pure: what the kernel lists goes in.

use serde::Serialize;

/// A watchdog as the kernel lists it (`/sys/class/watchdog`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Watchdog {
    /// `/dev/watchdog0`.
    pub device: String,
    /// What its driver calls it.
    pub identity: String,
    /// A chip, not a timer of the kernel that it is to watch.
    pub hardware: bool,
}

impl Watchdog {
    /// One of the kernel's list.
    pub fn new(device: String, identity: String) -> Watchdog {
        // drivers/watchdog/softdog.c
        let hardware = identity != "Software Watchdog";
        Watchdog { device, identity, hardware }
    }
}

/// The watchdog that the file asks for: a device by name, or with `auto` the first chip, else softdog.
pub fn choose<'a>(wanted: &str, found: &'a [Watchdog]) -> Result<&'a Watchdog, String> {
    if wanted != "auto" {
        // /dev/watchdog is the first one under its old name.
        let device = if wanted == "/dev/watchdog" { "/dev/watchdog0" } else { wanted };
        return found.iter().find(|watchdog| watchdog.device == device).ok_or_else(|| {
            format!(
                "ha.watchdog = {wanted:?}: this node has no such watchdog ({})\n  write \"auto\"",
                list(found)
            )
        });
    }
    found.iter().find(|watchdog| watchdog.hardware).or_else(|| found.first()).ok_or_else(|| {
        "this node has no watchdog, so that nothing resets it when it is lost: its VMs would run twice\n  \
         enable the mainboard's watchdog and load its driver (iTCO_wdt, sp5100_tco), or as a makeshift: modprobe softdog"
            .into()
    })
}

fn list(found: &[Watchdog]) -> String {
    if found.is_empty() {
        return "it has none".into();
    }
    let each = found.iter().map(|watchdog| format!("{} {}", watchdog.device, watchdog.identity));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_is_preferred_and_nothing_is_refused() {
        let soft = Watchdog::new("/dev/watchdog0".into(), "Software Watchdog".into());
        let chip = Watchdog::new("/dev/watchdog1".into(), "i6300ESB timer".into());
        let both = [soft.clone(), chip.clone()];
        assert_eq!(choose("auto", &both), Ok(&chip));
        assert_eq!(choose("auto", &both[..1]), Ok(&soft), "warned about elsewhere");
        assert_eq!(choose("/dev/watchdog", &both), Ok(&soft));
        assert_eq!(choose("/dev/watchdog1", &both), Ok(&chip));
        let none = choose("auto", &[]).unwrap_err();
        assert!(none.starts_with("this node has no watchdog"), "{none}");
        let other = choose("/dev/watchdog7", &both).unwrap_err();
        assert!(other.contains("/dev/watchdog1 i6300ESB timer"), "{other}");
    }
}
