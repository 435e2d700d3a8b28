"""The node that runs the VM stands still for a minute, as a machine does that swaps or whose firmware is busy, and goes on."""

import time

RESTARTS = True


def strike():
    host.freeze()
    # The survivors have to have decided without it.
    deadline = time.monotonic() + 60
    try:
        others[0].wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{elsewhere(host)}'", timeout=900)
        time.sleep(max(0, deadline - time.monotonic()))
    finally:
        host.thaw()
