"""A plain `reboot` of the node that runs the VM, without a word to the cluster before."""

RESTARTS = False


def strike():
    host.reboot()
