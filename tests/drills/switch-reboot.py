"""The switch is gone for a minute: nobody sees anybody. All guests stop, all nodes reset themselves, and the VM comes back by itself."""

import time

MEND_FIRST = True


def strike():
    for node in nodes:
        cut(node)
    # A switch takes that long to boot: nothing here could say that it is over.
    time.sleep(60)


def mend():
    for node in nodes:
        join_network(node)
