"""The VM's QEMU is killed: pacemaker starts it again."""

RESTARTS = True


def strike():
    host.succeed("pkill -KILL -f 'qemu-system.*guest=mail,'")
