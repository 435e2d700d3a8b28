"""The mount that the VM's disk is on is killed on its node: the guest loses its disk, and gets it back or boots elsewhere."""


def strike():
    host.succeed("pkill -KILL -f 'glusterfs .*/mnt/vms$'")
