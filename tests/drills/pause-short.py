"""The node that runs the VM stands still for less than corosync's token, and goes on as if nothing had been."""

import time

RESTARTS = False


def strike():
    host.freeze()
    time.sleep(chance.uniform(0.2, 1.0))
    host.thaw()
