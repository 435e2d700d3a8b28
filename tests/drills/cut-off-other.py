"""A node that does not run the VM is cut off from everybody."""

RESTARTS = False
other = chance.choice(others)


def strike():
    cut(other)


def mend():
    join_network(other)
