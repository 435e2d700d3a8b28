"""Every third packet to and from the node that runs the VM is lost, for as long as the VM is looked at."""

import time

percent = chance.choice([5, 15, 30])


def strike():
    for other in others:
        disturb(f"loss {host.name} {other.name} {percent}")
    # Long enough for several rounds of corosync's token: the VM is looked at for seconds only.
    time.sleep(60)


def mend():
    join_network(host)
