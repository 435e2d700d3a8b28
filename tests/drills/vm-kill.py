"""The VM's QEMU is killed: pacemaker starts it again."""

RESTARTS = True


def strike():
    # Brackets: a pattern that stands in the shell's own command line must not fit it.
    host.succeed("pkill -KILL -f 'qemu-system.*guest=[m]ail,'")
