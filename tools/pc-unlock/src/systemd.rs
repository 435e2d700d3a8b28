//! What `systemctl status` shows of this unit (`sd_notify(3)`).

use sd_notify::NotifyState;

/// Outside of a unit this does nothing.
pub fn status(text: &str) {
    // A status that does not arrive changes nothing; the journal has the reasons too.
    let _ = sd_notify::notify(false, &[NotifyState::Status(text)]);
}
