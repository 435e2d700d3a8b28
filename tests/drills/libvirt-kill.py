"""libvirt's daemon is killed on the node that runs the VM: the guest goes on, and nothing is fenced."""

RESTARTS = False


def strike():
    host.succeed("pkill -KILL -x 'virtqemud|libvirtd'")
