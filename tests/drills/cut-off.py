"""The node that runs the VM is cut off from everybody, as behind a dead switch port: it has to reset itself."""

RESTARTS = True


def strike():
    cut(host)


def mend():
    join_network(host)
