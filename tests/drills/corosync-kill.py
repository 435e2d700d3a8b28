"""corosync is killed on the node that runs the VM."""


def strike():
    host.succeed("pkill -KILL -x corosync")
