"""The brick of the VM's volume is killed on a node drawn at random, and stays down until the VM is looked at."""

RESTARTS = False
node = chance.choice(nodes)


def strike():
    node.succeed("pkill -KILL -f 'glusterfsd.*--volfile-id vms[.]'")


def mend():
    node.succeed("gluster volume start vms force")
