"""50 ms on every way between the nodes: slow, and no reason to fence anybody."""

RESTARTS = False


def strike():
    disturb(f"delay {host.name} {others[0].name} 50")
    disturb(f"delay {host.name} {others[1].name} 50")
    disturb(f"delay {others[0].name} {others[1].name} 50")


def mend():
    for node in nodes:
        join_network(node)
