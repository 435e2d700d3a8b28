"""The brick of the VM's volume is killed on a node drawn at random, and stays down until the VM is looked at."""

RESTARTS = False
node = chance.choice(nodes)


def strike():
    node.succeed("pkill -KILL -f 'glusterfsd.*--volfile-id vms[.]'")


def mend():
    # glusterd carries out one change at a time, and pc-gluster looks after it each minute.
    node.wait_until_succeeds("gluster --mode=script volume start vms force", timeout=600)
