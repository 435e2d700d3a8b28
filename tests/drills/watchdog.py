"""Nothing feeds the watchdog of the node that runs the VM any more: sbd stands still while all else goes on."""

RESTARTS = True


def strike():
    host.succeed("pkill -STOP -x sbd")
