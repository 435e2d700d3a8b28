"""Somebody starts the VM by hand on a second node, with virsh, while it runs: refused, and the guest does not notice."""

RESTARTS = False
other = chance.choice(others)


def strike():
    other.succeed("virsh --quiet define /mnt/vms/vms/mail/domain.xml")
    status, told = other.execute("virsh --quiet start mail 2>&1")
    assert status != 0, f"a second {told}"
    log(f"    {told.strip()}")


def mend():
    other.wait_until_succeeds("pc-vm --applied apply")
