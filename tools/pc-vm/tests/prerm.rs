//! What removing the package does while guests run: debian/pc-vm.prerm on a machine of its own, made of a mount namespace
//! and two programs that say how they were called.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Command;

const MACHINE: &str = r#"
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/libvirt/qemu /run/bin
printf '#!/bin/sh\necho "pc-vm@mail.service loaded activating auto-restart Virtual machine mail"\n' > /run/bin/systemctl
printf '#!/bin/sh\necho "$@"\n' > /run/bin/deb-systemd-invoke
chmod +x /run/bin/*
for guest in $2; do : > "/run/libvirt/qemu/$guest.xml"; done
: > /run/libvirt/qemu/driver.pid
PATH=/run/bin:$PATH exec sh "$0" "$1" 2>&1
"#;

/// What the script says, on a machine with these guests.
fn prerm(action: &str, guests: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../debian/pc-vm.prerm");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", MACHINE, script, action, guests])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn removing_ends_no_guest_and_says_who_stops_them() {
    assert_eq!(prerm("upgrade", "mail"), "");
    // Never a starter that has started its guest: that would stop it.
    let stopped = "stop pc-vm.service pc-vm@mail.service\n";
    assert_eq!(prerm("remove", ""), stopped);
    let said = prerm("remove", "mail web");
    assert!(said.starts_with(stopped), "{said}");
    assert!(said.contains("nobody presses their power button at shutdown: mail web\n"), "{said}");
    assert!(said.contains("systemctl start libvirt-guests"), "{said}");
}
