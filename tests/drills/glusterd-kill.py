"""glusterd is killed on a node drawn at random; bricks and mounts go on without it."""

RESTARTS = False
node = chance.choice(nodes)


def strike():
    node.succeed("pkill -KILL -x glusterd")


def mend():
    node.wait_for_unit("glusterd.service")
