"""A node that does not run the VM loses its power: the guest goes on, with a pause of its disk at most."""

RESTARTS = False
other = chance.choice(others)


def strike():
    other.crash()


def mend():
    other.start()
