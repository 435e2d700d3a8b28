"""The client of the volume that the VM's disk is on is killed on its node: what QEMU had open never comes back, so the guest boots anew."""

RESTARTS = True


def strike():
    host.succeed("pkill -KILL -f 'glusterfs .*/mnt/vms$'")
