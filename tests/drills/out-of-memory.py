"""Something eats all memory of the node that runs the VM: the kernel ends that, and none of what keeps everyone alive."""


def strike():
    host.execute("systemd-run --quiet --wait --collect -p OOMPolicy=continue tail /dev/zero", timeout=600)
