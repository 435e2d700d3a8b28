"""Nothing feeds the watchdog of the node that runs the VM any more: sbd stands still while all else goes on."""

from lab.observer import SEEN

RESTARTS = True


def strike():
    boot = boot_of(heartbeat(host))
    host.succeed("pkill -STOP -x sbd")
    # The guest goes on until the watchdog fires: what counts is what is heard of the next boot.
    tang.wait_until_succeeds(f"tail -n 1 {SEEN} | grep -v boot={boot}", timeout=1800)
