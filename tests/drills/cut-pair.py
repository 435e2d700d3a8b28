"""The node that runs the VM and one other cannot see each other; the third sees both."""

import time

other = chance.choice(others)


def strike():
    worst = status(host)["timing"]["worst_case_seconds"]
    cut(host, other)
    # As long as they need to decide: nothing here could say that there is nothing to decide.
    time.sleep(1.5 * worst)


def mend():
    join_network(host)
    join_network(other)
