//! logind over D-Bus (org.freedesktop.login1(5)): being told that the machine goes down, and being waited for.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use zbus::blocking::Connection;
use zbus::zvariant::OwnedFd;

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1",
    gen_async = false,
    blocking_name = "Login"
)]
pub trait Manager {
    fn power_off(&self, interactive: bool) -> zbus::Result<()>;
    fn reboot(&self, interactive: bool) -> zbus::Result<()>;
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<OwnedFd>;
    /// It goes down, and may still be waiting with that.
    #[zbus(property)]
    fn preparing_for_shutdown(&self) -> zbus::Result<bool>;
    #[zbus(property, name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max_usec(&self) -> zbus::Result<u64>;
    #[zbus(signal)]
    fn prepare_for_shutdown(&self, start: bool) -> zbus::Result<()>;
}

/// The error of whoever asks logind for a shutdown while another one, or a sleep, is under way (`bus-common-errors.h`).
const UNDER_WAY: &str = "org.freedesktop.login1.OperationInProgress";

/// Has the machine go down by `order`. One that goes down already is what was asked for: of two that ask for a shutdown, which
/// is waited with while guests move, the second one has not failed. One that goes to sleep is not.
pub fn go_down(bus: &Connection, order: impl Fn(&Login<'_>) -> zbus::Result<()>) -> zbus::Result<()> {
    let login = Login::new(bus)?;
    match order(&login) {
        Err(zbus::Error::MethodError(name, ..))
            if name.as_str() == UNDER_WAY && login.preparing_for_shutdown()? =>
        {
            pc_cli::log::info("this machine is going down already");
            Ok(())
        }
        other => other,
    }
}

/// logind, and what it says from now on.
pub struct Bus {
    login: Login<'static>,
    said: RefCell<PrepareForShutdownIterator>,
}

impl Bus {
    /// Connects, and listens before anything is asked: nothing is missed.
    pub fn connect() -> Result<Bus> {
        let connect = || -> zbus::Result<Bus> {
            let login = Login::new(&Connection::system()?)?;
            let said = RefCell::new(login.receive_prepare_for_shutdown()?);
            Ok(Bus { login, said })
        };
        connect().context("listening to logind")
    }

    /// While the answer is open, logind waits with every reboot and poweroff, for a while.
    pub fn delay(&self, why: &str) -> Result<OwnedFd> {
        self.login
            .inhibit("shutdown", "pc-ha", why, "delay")
            .context("asking logind for a delay of shutdowns")
    }

    /// How long it waits.
    pub fn patience(&self) -> Result<Duration> {
        let patience = self.login.inhibit_delay_max_usec().context("asking logind how long it waits")?;
        Ok(Duration::from_micros(patience))
    }

    /// Waits, for as long as it takes, until the machine goes down (`true`), or a shutdown is called off.
    pub fn wait(&self, down: bool) -> Result<()> {
        for signal in self.said.borrow_mut().by_ref() {
            if signal.args().context("reading what logind says")?.start == down {
                return Ok(());
            }
        }
        bail!("listening to logind: the bus was closed")
    }
}

/// The unit is up.
pub fn ready(status: &str) {
    let told = [sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(status)];
    // No NOTIFY_SOCKET: nobody listens, which is fine.
    let _ = sd_notify::notify(false, &told);
}
