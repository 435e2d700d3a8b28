"""Everything loses its power at once. One node never comes back until the VM runs again on the two others."""

RESTARTS = True
MEND_FIRST = True
missing = chance.choice(nodes)


def strike():
    for node in nodes:
        node.crash()


def mend():
    for node in nodes:
        if node is not missing:
            node.start()
