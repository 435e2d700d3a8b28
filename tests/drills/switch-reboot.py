"""The switch is gone for a minute: nobody sees anybody. All guests stop, all nodes reset themselves, and the VM comes back by itself."""

import time

RESTARTS = True
MEND_FIRST = True


def strike():
    # The VM's node first: its guest must not be heard while the others are still being cut.
    for node in [host, *others]:
        cut(node)
    # A switch takes that long to boot: nothing here could say that it is over.
    time.sleep(60)


def mend():
    for node in nodes:
        join_network(node)
