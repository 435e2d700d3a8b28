"""`cargo xtask lab ...`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import NoReturn

from lab import boxes, drill, look, monitor, places, report, scenario, segment, state, steps
from lab.cluster import Cluster

MINE = "mine"  # the snapshot that `save` without a name makes


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="cargo xtask lab", description="a whole cluster of virtual machines here")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    names = [box.name for box in boxes.ALL]
    one = verbs.add_parser("up", help="from nothing to a running cluster; from a snapshot when nothing changed")
    one.add_argument("--fresh", action="store_true", help="from blank machines even when a snapshot would do")
    verbs.add_parser("prepare", help="make the image and blank machines: what needs no packages of ours")
    verbs.add_parser("down", help="end the lab; its snapshots stay")
    verbs.add_parser("status", help="nodes, volumes, VM")
    one = verbs.add_parser("ssh", help="a shell on a machine, or one command there")
    one.add_argument("node", choices=names)
    one.add_argument("command", nargs="*")
    one = verbs.add_parser("console", help="the console of a VM (ctrl-] leaves), or what a node's has shown")
    one.add_argument("vm")
    for verb, text in (
        ("kill", "pull a machine's plug"),
        ("cut", "cut a machine off the network"),
        ("join", "undo kill and cut"),
    ):
        verbs.add_parser(verb, help=text).add_argument("node", choices=names)
    one = verbs.add_parser("save", help="keep this moment of the whole cluster")
    one.add_argument("name", nargs="?", default=MINE)
    one = verbs.add_parser("restore", help="back to a saved moment; without a name, to the last one")
    one.add_argument("name", nargs="?")
    one = verbs.add_parser("run", help="scenarios of tests/scenarios, each on its own fresh copy")
    one.add_argument("scenario", nargs="*")
    one = verbs.add_parser("test", help="run, then down")
    one.add_argument("scenario", nargs="*")
    one = verbs.add_parser("drill", help="faults drawn at random, each on a fresh copy of an armed cluster; their tally is docs/drills.md")
    one.add_argument("--seed", type=int, required=True, help="the same seed draws the same faults")
    one.add_argument("--count", type=int, required=True, help="so many of that seed; those in the tally are not run again")
    one.add_argument("fault", nargs="*", help="draw among these, of tests/drills; all without a name")
    one = verbs.add_parser("monitor", help="a command of a machine's QEMU monitor")
    one.add_argument("node", choices=names)
    one.add_argument("command", nargs="+")
    one = verbs.add_parser("disturb", help="loss A B PERCENT | delay A B MS | pcap FILE, on the cluster's segment")
    one.add_argument("rule", nargs="+")
    return top


def main() -> int:
    """Parse, dispatch; a failure is told, not traced."""
    args = parser().parse_args()
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        return _dispatch(args)
    except (report.Failure, TimeoutError, KeyError) as error:
        print(f"error: {error.args[0] if error.args else error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, report.Interrupted):
        print("interrupted: what runs goes on; `cargo xtask lab down` ends it", file=sys.stderr)
        return 130


def _interrupted(_signal: int, _frame: object) -> NoReturn:
    raise report.Interrupted


def _dispatch(args: argparse.Namespace) -> int:
    match args.verb:
        case "ssh":
            return _ssh(args.node, args.command)
        case "console":
            return _console(args.vm)
        case "monitor":
            Cluster.running()
            report.say(monitor.command(args.node, " ".join(args.command), timeout_s=600))
            return 0
        case "status":
            return _status()
    with state.locked():
        return _change(args)


def _change(args: argparse.Namespace) -> int:
    match args.verb:
        case "up":
            return _up(args.fresh)
        case "prepare":
            steps.prepare()
        case "down":
            Cluster.recover()
        case "run" | "test":
            files = scenario.find(args.scenario)
            try:
                return 0 if scenario.run(files) else 1
            finally:
                if args.verb == "test":
                    Cluster.recover()
        case "drill":
            try:
                return 0 if drill.run(args.seed, args.count, args.fault) else 1
            finally:
                Cluster.recover()
        case "kill":
            cluster = Cluster.running()
            cluster.power_off(boxes.named(args.node))
        case "cut":
            Cluster.running()
            segment.cut(args.node)
        case "join":
            cluster = Cluster.running()
            segment.join(args.node)
            if not cluster.on(boxes.named(args.node)):
                cluster.power_on(boxes.named(args.node))
        case "disturb":
            Cluster.running()
            segment.disturb(" ".join(args.rule))
        case "save":
            Cluster.running().save(args.name)
        case "restore":
            # After `down` too: the disks and what is saved in them are still there.
            cluster = Cluster.running() if state.load() is not None else Cluster.prepare()
            cluster.restore(args.name or cluster.state.stage)
            cluster.close()
    return 0


def _up(fresh: bool) -> int:
    begun = time.monotonic()
    names = steps.Names.now()
    recorded = state.load()
    cluster = Cluster(recorded) if recorded is not None else None
    if fresh or cluster is None or recorded is None or recorded.stage != names.ready or not steps.boxes_on(cluster):
        if fresh:
            Cluster.recover()
            for path in (places.cache() / "instance").glob("*/complete"):
                path.unlink()
        try:
            cluster = steps.up()
        except (report.Failure, TimeoutError):
            look.left("up")
            raise
    report.say(f"{time.monotonic() - begun:7.1f} s  in all\n\n{look.table(cluster)}\n\n{look.AROUND}")
    cluster.close()
    return 0


def _status() -> int:
    if state.load() is None:
        report.say("no lab is up\n  cargo xtask lab up")
        return 0
    cluster = Cluster.running()
    report.say(f"from snapshot {cluster.state.stage}, {cluster.state.accelerator}\n\n{look.table(cluster)}")
    cluster.close()
    return 0


def _ssh(node: str, command: list[str]) -> int:
    remote = Cluster.running().remote(boxes.named(node))
    argv = remote.arguments(shared=False)
    terminal = ["-t"] if sys.stdin.isatty() and not command else []
    os.execvp("ssh", [argv[0], *terminal, *argv[1:], *command])


def _console(name: str) -> int:
    if name in [box.name for box in boxes.ALL]:
        report.say((places.run() / f"{name}.console").read_text(errors="replace")[-8000:])
        return 0
    remote = Cluster.running().remote(steps.FIRST)
    argv = remote.arguments(shared=False)
    os.execvp("ssh", [argv[0], "-t", *argv[1:], "pc-vm", "console", name])
