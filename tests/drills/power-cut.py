"""The node that runs the VM loses its power, and gets it back when the VM runs elsewhere."""

RESTARTS = True


def strike():
    host.crash()


def mend():
    host.start()
