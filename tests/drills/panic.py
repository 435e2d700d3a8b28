"""The kernel of the node that runs the VM panics."""

RESTARTS = True


def strike():
    # It does not answer any more.
    host.execute("echo c > /proc/sysrq-trigger", timeout=5)
