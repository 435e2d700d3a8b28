"""Every third packet to and from the node that runs the VM is lost, for as long as the VM is looked at."""

percent = chance.choice([5, 15, 30])


def strike():
    for other in others:
        disturb(f"loss {host.name} {other.name} {percent}")


def mend():
    join_network(host)
