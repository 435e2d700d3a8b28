"""The node that runs the VM and one other cannot see each other; the third sees both."""

other = chance.choice(others)


def strike():
    cut(host, other)


def mend():
    join_network(host)
    join_network(other)
