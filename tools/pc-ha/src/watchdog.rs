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
    /// Somebody has opened it, and it resets the machine unless it is fed.
    pub armed: bool,
}

impl Watchdog {
    /// One of the kernel's list; `read` gives its attributes (Documentation/ABI/testing/sysfs-class-watchdog).
    pub fn new(device: String, read: impl Fn(&str) -> Option<String>) -> Watchdog {
        let identity = read("identity").unwrap_or_default();
        Watchdog {
            device,
            // drivers/watchdog/softdog.c
            hardware: identity != "Software Watchdog",
            armed: read("state").is_some_and(|state| state == "active"),
            identity,
        }
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

    /// With these attributes.
    fn watchdog(device: &str, attributes: &[(&str, &str)]) -> Watchdog {
        let find = |name: &str| attributes.iter().find(|(known, _)| *known == name);
        Watchdog::new(device.into(), |name| find(name).map(|(_, value)| (*value).to_string()))
    }

    #[test]
    fn the_kernel_s_attributes_are_read() {
        let one = |attributes: &[(&str, &str)]| watchdog("/dev/watchdog0", attributes);
        assert!(!one(&[("identity", "iTCO_wdt"), ("state", "inactive")]).armed);
        assert!(one(&[("identity", "iTCO_wdt"), ("state", "active")]).armed);
        assert!(!one(&[]).armed, "nobody knows");
    }

    #[test]
    fn a_chip_is_preferred_and_nothing_is_refused() {
        let soft = watchdog("/dev/watchdog0", &[("identity", "Software Watchdog")]);
        let chip = watchdog("/dev/watchdog1", &[("identity", "i6300ESB timer")]);
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
