"""The kernel of the node that runs the VM panics."""

RESTARTS = True


def strike():
    # A login takes longer than that command has, which is not answered any more.
    host.succeed("true")
    host.execute("echo c > /proc/sysrq-trigger", timeout=5)
