//! How long a process has run (`proc_pid_stat(5)`, `proc_uptime(5)`).

use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;

/// `None` when the process has ended, or the kernel does not tell.
pub fn age(pid: Pid) -> Option<Duration> {
    let proc = Path::new("/proc");
    let stat = std::fs::read_to_string(proc.join(pid.as_raw_nonzero().to_string()).join("stat")).ok()?;
    let uptime = std::fs::read_to_string(proc.join("uptime")).ok()?;
    between(&stat, &uptime, rustix::param::clock_ticks_per_second())
}

/// From its start (field 22, in ticks since the boot) until now; its name may hold anything, also blanks and parentheses.
fn between(stat: &str, uptime: &str, ticks: u64) -> Option<Duration> {
    let after_name = stat.rsplit_once(')')?.1;
    let started: u64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let up: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let started = Duration::from_millis(started.checked_mul(1000)?.checked_div(ticks)?);
    Some(Duration::try_from_secs_f64(up).ok()?.saturating_sub(started))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A brick of GlusterFS 11 that was started 4 h and 12.34 s after the boot.
    #[test]
    fn a_process_is_as_old_as_the_boot_without_its_start() {
        let stat = "811 (glu (sterfsd) S 1 811 811 0 -1 4194624 5213 0 14 0 40 31 0 0 20 0 14 0 1441234 1530920960 6123 \
                    18446744073709551615 1 1 0 0 0 0 0 4096 1 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(between(stat, "14500.84 28112.03\n", 100), Some(Duration::from_millis(88_500)));
        assert_eq!(between(stat, "1.00 1.00\n", 100), Some(Duration::ZERO));
        for (stat, uptime) in [("811 (x) S 1", "1.0 1.0"), (stat, ""), ("", "1.0 1.0")] {
            assert_eq!(between(stat, uptime, 100), None);
        }
        let own = age(rustix::process::getpid()).unwrap();
        assert!(own < Duration::from_secs(3600), "{own:?}");
    }
}
