"""The node that runs the VM is drained, under writes: the guest moves and does not boot."""

RESTARTS = False


def strike():
    missable(host)
    host.succeed(f"pc-ha --applied drain {host.name}", timeout=3600)


def mend():
    host.succeed(f"pc-ha --applied undrain {host.name}", timeout=3600)
