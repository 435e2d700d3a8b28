"""corosync is killed on the node that runs the VM: nobody starts it again, and a node without it has to reset itself."""

RESTARTS = True


def strike():
    host.succeed("pkill -KILL -x corosync")
