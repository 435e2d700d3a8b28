"""Two bricks of the VM's volume are down for a minute and a half: no node can write to it. The guest waits, and goes on."""

RESTARTS = False
MEND_FIRST = True
seconds = 90
down = chance.sample(nodes, 2)
# glusterd, or pc-gluster, may start them again at any time. The brackets: not the shell that this stands in.
kill = "while :; do pkill -KILL -f 'glusterfsd.*--volfile-id vms[.]'; sleep 1; done"
paused = "virsh domstate --reason mail | grep -q 'paused (I/O error)'"


def strike():
    in_parallel(lambda node: node.succeed(f'systemd-run --unit=drill-bricks timeout {seconds} sh -c "{kill}"'), down)
    host.wait_until_succeeds(paused, timeout=seconds)
    in_parallel(lambda node: node.wait_until_succeeds("! systemctl is-active --quiet drill-bricks", timeout=600), down)


def mend():
    # glusterd carries out one change at a time, and pc-gluster looks after it each minute.
    down[0].wait_until_succeeds("gluster --mode=script volume start vms force", timeout=600)
