"""The system's disk of the node that runs the VM is full: whatever wants to log or to save there cannot."""

filler = "/var/lib/drill"


def strike():
    # Not all at once: what is still free after the first is what a file system keeps for root.
    host.succeed(f"free=$(df --output=avail -B 1 /var/lib | tail -n 1); fallocate -l $free {filler}; cat /dev/zero > {filler}.more || true")
    host.succeed("test $(df --output=avail / | tail -n 1) -eq 0")


def mend():
    host.succeed(f"rm {filler} {filler}.more")
