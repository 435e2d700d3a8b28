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
    /// It resets the machine; some only tell a management controller.
    pub resets: bool,
    /// Somebody has opened it, and it resets the machine unless it is fed.
    pub armed: bool,
    /// How long it waits now; the driver's own number before somebody has opened it.
    pub seconds: Option<u64>,
    /// The shortest time that it can be told.
    pub min_seconds: Option<u64>,
    /// The longest one; none where the kernel does the waiting.
    pub max_seconds: Option<u64>,
    /// The module of its driver; none where that is built into the kernel, or does not say.
    pub module: Option<String>,
}

/// Read at each boot by systemd-modules-load, which sbd.service comes after. A driver that no device asks for, softdog before all
/// others, is loaded by nobody else.
pub const MODULES: &str = "/etc/modules-load.d/personal-cluster-watchdog.conf";

/// Below a watchdog of the kernel's list: a link to the module that drives it.
pub const DRIVER: &str = "device/driver/module";

/// The whole file.
pub fn modules_file(module: &str) -> String {
    format!("# Made by pc-ha: the driver of the watchdog that resets this node.\n{module}\n")
}

/// The modules that a file of modules-load.d(5) names. The kernel takes `-` and `_` for the same.
pub fn modules_of(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    lines.map(|line| line.replace('-', "_"))
}

/// `WDIOF_ALARMONLY` of linux/watchdog.h: "Watchdog triggers a management or other external alarm not a reboot".
const ALARM_ONLY: u64 = 0x0400;
/// The identity of `drivers/watchdog/mei_wdt.c`, for kernels that do not show a device's options (before 6.4).
const AMT: &str = "iamt_wdt";

impl Watchdog {
    /// One of the kernel's list; `read` gives its attributes (Documentation/ABI/testing/sysfs-class-watchdog), and of `DRIVER` the
    /// name that it leads to.
    pub fn new(device: String, read: impl Fn(&str) -> Option<String>) -> Watchdog {
        let identity = read("identity").unwrap_or_default();
        let number = |name: &str| read(name)?.parse::<u64>().ok();
        let options =
            read("options").and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
        // drivers/watchdog/softdog.c
        let hardware = identity != "Software Watchdog";
        Watchdog {
            device,
            hardware,
            resets: identity != AMT && options.unwrap_or(0) & ALARM_ONLY == 0,
            armed: read("state").is_some_and(|state| state == "active"),
            seconds: number("timeout"),
            min_seconds: number("min_timeout"),
            max_seconds: number("max_timeout").filter(|most| *most > 0),
            // softdog hangs on no device.
            module: if hardware { read(DRIVER) } else { Some("softdog".into()) },
            identity,
        }
    }

    /// How long the watchdog that runs waits; none while nobody has opened it.
    pub fn runs_with(&self) -> Option<u64> {
        self.seconds.filter(|_| self.armed)
    }

    /// A fault unless it can be told to wait that long.
    pub fn takes(&self, seconds: u64) -> Result<(), String> {
        let remedy = match (self.min_seconds, self.max_seconds) {
            (Some(least), _) if seconds < least => format!("{least} or more"),
            (_, Some(most)) if seconds > most => format!("{most} or less"),
            _ => return Ok(()),
        };
        let (device, identity) = (&self.device, &self.identity);
        Err(format!(
            "ha.watchdog_seconds: {device} ({identity}) cannot be told to wait {seconds} s\n  write {remedy}, on every node the same"
        ))
    }
}

/// Drivers that name no device as theirs (i6300esb, and `w83627hf_wdt`, which nothing loads by itself) tell no module either. The one
/// that uses the kernel's watchdog core, and belongs to no other of these, is theirs; among several nobody can say.
pub fn attribute(found: &mut [Watchdog], holders: &[String]) {
    let known: Vec<_> = found.iter().filter_map(|watchdog| watchdog.module.clone()).collect();
    let mut left = holders.iter().filter(|holder| *holder != "softdog" && !known.contains(holder));
    let mut without = found.iter_mut().filter(|watchdog| watchdog.module.is_none());
    if let (Some(watchdog), None, Some(holder), None) =
        (without.next(), without.next(), left.next(), left.next())
    {
        watchdog.module = Some(holder.clone());
    }
}

/// The watchdog that the file asks for: a device by name, or with `auto` the first chip, else softdog. None that resets nothing.
pub fn choose<'a>(wanted: &str, found: &'a [Watchdog]) -> Result<&'a Watchdog, String> {
    if wanted != "auto" {
        // /dev/watchdog is the first one under its old name.
        let device = if wanted == "/dev/watchdog" { "/dev/watchdog0" } else { wanted };
        let named = found.iter().find(|watchdog| watchdog.device == device);
        return match named {
            Some(watchdog) if watchdog.resets => Ok(watchdog),
            Some(Watchdog { identity, .. }) => Err(format!(
                "ha.watchdog = {wanted:?}: {identity} resets nothing, it only tells a management controller\n  write \"auto\""
            )),
            None => Err(format!(
                "ha.watchdog = {wanted:?}: this node has no such watchdog ({})\n  write \"auto\"",
                list(found)
            )),
        };
    }
    let fit = || found.iter().filter(|watchdog| watchdog.resets);
    fit().find(|watchdog| watchdog.hardware).or_else(|| fit().next()).ok_or_else(|| {
        let unfit = if found.is_empty() { String::new() } else { format!(" that resets it ({} does not)", list(found)) };
        format!(
            "this node has no watchdog{unfit}, so that nothing resets it when it is lost: its VMs would run twice\n  \
             enable the mainboard's watchdog (modprobe iTCO_wdt, sp5100_tco), or as a makeshift: modprobe softdog; every boot loads it \
             from then on (NixOS: boot.kernelModules)"
        )
    })
}

/// Why a running sbd does not feed the watchdog that was chosen, as far as the kernel tells.
pub fn unfed(chosen: &Watchdog, found: &[Watchdog]) -> Option<String> {
    if chosen.armed {
        return None;
    }
    let armed: Vec<Watchdog> = found.iter().filter(|watchdog| watchdog.armed).cloned().collect();
    let (device, identity) = (&chosen.device, &chosen.identity);
    Some(format!(
        "{device} {identity} is to reset this node, and sbd, which runs, has not armed it (armed: {}): it reads which one when it starts",
        if armed.is_empty() { "none".into() } else { list(&armed) }
    ))
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
        let running =
            [("identity", "iTCO_wdt"), ("state", "active"), ("timeout", "15"), ("options", "0x8180")];
        assert_eq!((one(&running).runs_with(), one(&running).resets), (Some(15), true));
        assert_eq!(
            one(&[("state", "inactive"), ("timeout", "30")]).runs_with(),
            None,
            "the driver's own number"
        );
    }

    #[test]
    fn what_resets_nothing_is_no_watchdog() {
        // mei_wdt: WDIOF_KEEPALIVEPING | WDIOF_SETTIMEOUT | WDIOF_ALARMONLY.
        let told = watchdog("/dev/watchdog0", &[("identity", "some BMC"), ("options", "0x8480")]);
        let amt = watchdog("/dev/watchdog0", &[("identity", "iamt_wdt")]);
        let soft = watchdog("/dev/watchdog1", &[("identity", "Software Watchdog"), ("options", "0x8180")]);
        let chip = watchdog("/dev/watchdog2", &[("identity", "iTCO_wdt")]);
        for unfit in [told, amt] {
            assert!(unfit.hardware && !unfit.resets, "{unfit:?}");
            assert_eq!(choose("auto", &[unfit.clone(), soft.clone(), chip.clone()]), Ok(&chip));
            assert_eq!(
                choose("auto", &[unfit.clone(), soft.clone()]),
                Ok(&soft),
                "better than none that resets"
            );
            let alone = choose("auto", std::slice::from_ref(&unfit)).unwrap_err();
            assert!(
                alone.starts_with("this node has no watchdog that resets it (/dev/watchdog0 "),
                "{alone}"
            );
            let named = choose("/dev/watchdog0", &[unfit, chip.clone()]).unwrap_err();
            assert!(named.contains(" resets nothing, it only tells a management controller"), "{named}");
        }
    }

    #[test]
    fn the_module_is_the_driver_s_and_softdog_has_no_driver() {
        let module = |identity: &str, driver: &[(&str, &str)]| {
            watchdog("/dev/watchdog0", &[&[("identity", identity)], driver].concat()).module
        };
        assert_eq!(module("iTCO_wdt", &[(DRIVER, "iTCO_wdt")]).as_deref(), Some("iTCO_wdt"));
        assert_eq!(module("iTCO_wdt", &[]), None, "it is built into the kernel");
        assert_eq!(module("Software Watchdog", &[]).as_deref(), Some("softdog"));
    }

    #[test]
    fn a_driver_that_names_no_device_is_the_one_that_is_left() {
        let attributed = |found: &[(&str, Option<&str>)], holders: &[&str]| {
            let one = |(identity, driver): &(&str, Option<&str>)| {
                let driver = driver.map(|driver| (DRIVER, driver));
                watchdog(
                    "/dev/watchdog0",
                    &driver.into_iter().chain([("identity", *identity)]).collect::<Vec<_>>(),
                )
            };
            let mut found: Vec<_> = found.iter().map(one).collect();
            attribute(&mut found, &holders.iter().map(ToString::to_string).collect::<Vec<_>>());
            found.into_iter().map(|watchdog| watchdog.module.unwrap_or_default()).collect::<Vec<_>>()
        };
        // As the lab's nodes have it.
        assert_eq!(attributed(&[("i6300ESB timer", None)], &["i6300esb"]), ["i6300esb"]);
        let three = [("a", None), ("iTCO_wdt", Some("iTCO_wdt")), ("Software Watchdog", None)];
        assert_eq!(attributed(&three, &["softdog", "iTCO_wdt", "w83627hf_wdt"])[0], "w83627hf_wdt");
        assert_eq!(attributed(&three, &["iTCO_wdt"])[0], "", "built into the kernel");
        assert_eq!(attributed(&[("a", None), ("b", None)], &["c", "d"]), ["", ""]);
        assert_eq!(attributed(&[("a", None)], &["c", "d"]), [""]);
    }

    /// modules-load.d(5).
    #[test]
    fn the_modules_of_a_boot_are_read_as_systemd_reads_them() {
        let modules = |text: &str| modules_of(text).collect::<Vec<_>>();
        assert_eq!(modules("# softdog\n; ib700wdt\n\n  iTCO_wdt \nsp5100-tco\n"), ["iTCO_wdt", "sp5100_tco"]);
        assert_eq!(modules(&modules_file("i6300esb")), ["i6300esb"]);
    }

    #[test]
    fn a_time_that_the_device_cannot_wait_is_refused() {
        let chip = |least: &str, most: &str| {
            watchdog(
                "/dev/watchdog0",
                &[("identity", "iTCO_wdt"), ("min_timeout", least), ("max_timeout", most)],
            )
        };
        assert_eq!(chip("4", "613").takes(5), Ok(()));
        assert_eq!(chip("0", "0").takes(120), Ok(()), "0: the kernel waits for it");
        assert_eq!(watchdog("/dev/watchdog0", &[]).takes(5), Ok(()), "an old kernel does not say");
        assert_eq!(
            chip("4", "613").takes(3).unwrap_err(),
            "ha.watchdog_seconds: /dev/watchdog0 (iTCO_wdt) cannot be told to wait 3 s\n  write 4 or more, on every node the same"
        );
        assert!(chip("1", "63").takes(64).unwrap_err().contains("write 63 or less"));
    }

    /// It was chosen when sbd ran already: a chip whose driver was loaded later, another line in the file.
    #[test]
    fn another_watchdog_than_the_chosen_one_is_noticed() {
        let of = |device: &str, identity: &str, state: &str| {
            watchdog(device, &[("identity", identity), ("state", state)])
        };
        let found = |chip: &str, soft: &str| {
            [of("/dev/watchdog0", "iTCO_wdt", chip), of("/dev/watchdog1", "Software Watchdog", soft)]
        };
        let why = |found: &[Watchdog]| unfed(&found[0], found);
        assert_eq!(why(&found("active", "inactive")), None);
        let told = why(&found("inactive", "active")).unwrap();
        let armed =
            "has not armed it (armed: /dev/watchdog1 Software Watchdog): it reads which one when it starts";
        assert!(told.starts_with("/dev/watchdog0 iTCO_wdt is to") && told.ends_with(armed), "{told}");
        let told = why(&found("inactive", "inactive")).unwrap();
        assert!(told.contains(" has not armed it (armed: none): "), "{told}");
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
