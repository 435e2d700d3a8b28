"""A node that does not run the VM is cut off from everybody."""

RESTARTS = False
other = chance.choice(others)


def strike():
    cut(other)
    # Until the others have taken it for dead: a shorter cut is none.
    dead = f'.nodes[] | select(.name == "{other.name}") | (.online or .unclean | not)'
    host.wait_until_succeeds(f"pc-ha --applied status --json | jq -e '{dead}'", timeout=1800)


def mend():
    join_network(other)
