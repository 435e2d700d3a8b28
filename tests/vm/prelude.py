# What tests/lab/scenario.py gives a scenario beside the test driver's own globals, for NixOS machines.
import re as _re
from concurrent.futures import ThreadPoolExecutor as _Pool

nodes = [node1, node2, node3]
_driver_log = log
_RECORD = "dd if=/mnt/vms/vms/mail/disk.img bs=4096 skip=128 count=1 iflag=direct status=none | tr -d '\\0'"
_BEATS = f"""exec 2> /dev/null; last=; while :; do
    now=$({_RECORD}) || now=
    case $now in
    hb\\ *) if [ -n "$last" ] && [ "$now" != "$last" ]; then echo "$now"; exit 0; fi; last=$now ;;
    esac
    sleep 2
done"""


def log(text):
    """Says something about the test."""
    _driver_log.info(text)


def in_parallel(work, on):
    """The same on several machines at once; their answers."""
    with _Pool(max_workers=len(on)) as pool:
        return [future.result() for future in [pool.submit(work, machine) for machine in on]]


def heartbeat(node, timeout=600):
    """Waits until the VM's record moves as that node sees it; gives the record."""
    return node.succeed(_BEATS, timeout=timeout).strip()


def cut(machine, other=None):
    """The machine's cards are unplugged. From one machine only: that the lab can, and a scenario that needs it says so."""
    assert other is None, "cut from one machine only: in the lab"
    machine.block()


def join_network(machine):
    """And plugged in again."""
    machine.unblock()


def begin(stage):
    """The first evening of a NixOS cluster (docs/nixos.md), as far as the scenario asks."""
    tang.start()
    tang.wait_for_unit("tangd.socket")
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_for_unit("multi-user.target")
        node.wait_until_succeeds("curl --silent --fail --max-time 5 http://10.10.0.9/adv", timeout=300)
    if stage != "ready":
        return
    told = node1.succeed("pc-trust init /etc/personal-cluster/cluster.json", timeout=600)
    joins = dict(_re.findall(r"on (\w+), within .*\n\s*(pc-trust join \S+ \S+)", told))
    assert set(joins) == {"node2", "node3"}, told
    in_parallel(lambda node: node.succeed(joins[node.name], timeout=600), [node2, node3])
    in_parallel(lambda node: node.succeed("systemctl restart pc-unlock.service"), nodes)
    for node in nodes:
        node.wait_until_succeeds("systemctl is-active pc-storage.target", timeout=1800)
    heartbeat(node1, timeout=1800)
