"""Of the packets between the node that runs the VM and the others one in twenty is lost, up to one in three."""

percent = chance.choice([5, 15, 30])


def strike():
    for other in others:
        disturb(f"loss {host.name} {other.name} {percent}")


def mend():
    join_network(host)
