//! `[backup.NAME]`: where to, and when.

use super::Sense;
use crate::names::Name;
use crate::tree::at;

impl Sense<'_> {
    pub(super) fn backups(&mut self) {
        for (name, backup) in &self.cluster.backups {
            self.repository(name, &backup.repository);
            let on_plug = backup.schedule == "on-plug";
            let steps = at!["backup", name, "schedule"];
            if on_plug && !backup.repository.starts_with("disk:") {
                let remedy = "write \"daily\", or a repository = \"disk:LABEL=...\"";
                self.error(&steps, "is for a disk that is plugged in", remedy);
            } else if !on_plug && !is_calendar(&backup.schedule) {
                let remedy =
                    "write \"daily\", \"on-plug\", or a time that `systemd-analyze calendar` accepts";
                self.error(&steps, "is not a time", remedy);
            }
            if let Some(limit) = backup.limit {
                let steps = at!["backup", name, "limit"];
                if !backup.repository.starts_with("ssh://") {
                    let remedy = "leave it out: what goes to a disk of this node or to a volume passes no line to a server";
                    self.error(&steps, "limits what is sent to a server, and there is none", remedy);
                } else if limit.0 < 1024 {
                    self.error(&steps, "is less than borg can count", "write at least \"1KiB\"");
                }
            }
            let keep = backup.keep;
            if keep.daily == 0 && keep.weekly == 0 && keep.monthly == 0 {
                let remedy = "write for example keep = { daily = 7, weekly = 4, monthly = 12 }";
                self.error(&at!["backup", name, "keep"], "keeps no archive at all", remedy);
            }
        }
    }

    fn repository(&mut self, name: &Name, repository: &str) {
        let steps = at!["backup", name, "repository"];
        if let Some(rest) = repository.strip_prefix("ssh://") {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or_default();
            if has_password(rest) {
                let fault = "has a password, which everybody could read, and borg takes none in a URL";
                let remedy =
                    "write \"ssh://user@host/path\" and let ssh log in with a key: ssh-copy-id user@host";
                self.secret(&steps, fault, remedy);
            } else if host.is_empty()
                || authority.starts_with('-')
                || host.starts_with('-')
                || path.is_empty()
            {
                let remedy = "write for example \"ssh://borg@backup.example/./home\"";
                self.error(&steps, "does not name host and path", remedy);
            }
        } else if let Some(disk) = repository.strip_prefix("disk:") {
            let label = disk.strip_prefix("LABEL=").unwrap_or_default();
            if label.is_empty() || label.contains(['/', ' ']) {
                self.error(&steps, "names no disk", "write for example \"disk:LABEL=pc-cold\"");
            }
        } else if let Some(rest) = repository.strip_prefix("/mnt/") {
            let volume = rest.split('/').next().unwrap_or_default();
            let declared = self.declared("volume");
            if !declared.is_empty() && !declared.contains(&volume) {
                let remedy = "name a volume's mount, or mount that place yourself on every node";
                self.warn(&steps, format!("there is no [volume.{volume}]"), remedy);
            }
        } else if !repository.starts_with('/') {
            let remedy = "write an absolute path, \"ssh://user@host/path\" or \"disk:LABEL=label\"";
            self.error(&steps, "is not a place", remedy);
        }
    }
}

/// `user:password@host`: what stands behind the host's colon is a port. An @ behind the host's slash belongs to the path, but a
/// password may hold a slash.
fn has_password(rest: &str) -> bool {
    let Some((user, behind)) = rest.rsplit_once('@').and_then(|(before, _)| before.split_once(':')) else {
        return false;
    };
    let port = behind.split_once('/').map(|(port, _)| port);
    !user.contains(['/', '[']) && port.is_none_or(|port| !port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The words and characters of systemd.time(7) calendar events; systemd itself has the last word.
fn is_calendar(text: &str) -> bool {
    let words = ["minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "semiannually", "yearly"];
    if words.contains(&text) {
        return true;
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b" :*-/.,~_+".contains(&byte);
    let is_time = text.contains([':', '-', '*']) || text.split([',', '.', ' ']).all(is_weekday);
    !text.is_empty() && text.len() <= 100 && text.bytes().all(allowed) && is_time
}

fn is_weekday(word: &str) -> bool {
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    word.is_empty() || days.iter().any(|day| word.to_ascii_lowercase().starts_with(day))
}

#[cfg(test)]
mod tests {
    use super::{has_password, is_calendar};

    #[test]
    fn passwords_are_seen() {
        for with in ["u:p@h/x", "u:@h/x", "u:a/b@h/x", "u:a@b@h/x", "u:22@h/x"] {
            assert!(has_password(with), "{with}");
        }
        for without in
            ["u@h/x", "h/x", "h:22/x", "u@h:22/x", "h:22/a@b", "u@h/a:b@c", "[fd00::1]:22/a@b", "h/a:b@c"]
        {
            assert!(!has_password(without), "{without}");
        }
    }

    #[test]
    fn calendars_read() {
        for good in ["daily", "02:30", "Sat,Sun 03:00", "*-*-01 04:00:00", "Mon..Fri", "hourly"] {
            assert!(is_calendar(good), "{good}");
        }
        for bad in ["", "nightly", "every day", "02:30; rm", "dayly", "3"] {
            assert!(!is_calendar(bad), "{bad}");
        }
    }
}
