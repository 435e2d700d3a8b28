#!/usr/bin/env python3
"""What a nightly backup of one disk costs, in one run on one machine: plain borg, borg with chunks of a fixed size, digest compare, and
the segment view with a map of what changed.

usage: tests/bench/backup.py [--bin target/release] [--image FILE | --size MIB] [--runs 5] [--directory DIR]

Prints a table for docs/measurements.md: min/median/max of wall seconds, median of CPU seconds, bytes read of the image and bytes that the
repository grew by, for a disk on which nothing changed, 1 % changed in 16 places, and 1 % in blocks of 4 KiB all over it; and for each the
ratio to plain borg, which reads the whole image every night as the script did that these tools replace.

Without --image the disk is made: half of it a hole, a third noise, the rest text. FILE is copied, and never written to. Every method has a
repository of its own and sees the same nights. Needs borg; changes nothing outside its temporary directory, which should be on the file system in
question (a Gluster mount). How much plain borg reads is not measured: the column has what is on the disk, and where holes cannot be seen
(Gluster) it reads those too. The page cache is as it comes: a disk larger than memory is read from its disk by all of them.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import shutil
import statistics
import subprocess
import tempfile
import time

MIB = 1 << 20
ENVIRONMENT = {**os.environ, "BORG_PASSPHRASE": "bench", "BORG_EXIT_CODES": "legacy", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
FLAGS = ["--noxattrs", "--noacls", "--noflags", "--json"]
NIGHTS = {"nothing": 0, "1 % in 16 places": 16, "1 % scattered": None}


def run(*argv, stdin=None, allow=(0,)):
    done = subprocess.run([str(word) for word in argv], input=stdin, capture_output=True, env=ENVIRONMENT)
    if done.returncode not in allow:
        raise SystemExit(f"{argv}: {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def make(path, size):
    noise = random.Random(1)
    with open(path, "wb") as disk:
        disk.truncate(size)
        for at in range(0, size // 3, MIB):
            disk.seek(at)
            disk.write(noise.randbytes(MIB))
        for at in range(size // 3, size // 2, MIB):
            disk.seek(at)
            disk.write((b"%d: the same line with another number\n" % at * (MIB // 30))[:MIB])


def change(path, places, night):
    """What a guest writes: one hundredth of the disk; the places of it. Every night others."""
    noise, size = random.Random(night), path.stat().st_size
    if places == 0:
        return []
    length = 4096 if places is None else size // 100 // places // 4096 * 4096
    count = size // 100 // length
    extents = []
    with open(path, "r+b") as disk:
        for start in sorted(noise.sample(range(size // 2 // length), count)):
            disk.seek(start * length)
            disk.write(noise.randbytes(length))
            if extents and sum(extents[-1]) == start * length:
                extents[-1] = (extents[-1][0], extents[-1][1] + length)
            else:
                extents.append((start * length, length))
    return extents


class Plain:
    def __init__(self, directory, image, tools, chunker):
        self.repository, self.image, self.chunker = directory / "repository", image, chunker
        run("borg", "init", "--encryption", "repokey-blake2", self.repository)

    def night(self, name, _extents):
        """Bytes read, bytes that the repository grew by."""
        return self.image.stat().st_blocks * 512, self.create(name, self.image)

    def create(self, name, what):
        told = run("borg", "create", *FLAGS, "--chunker-params", self.chunker, f"{self.repository}::{name}", what)
        return json.loads(told)["archive"]["stats"]["deduplicated_size"]


class Segments(Plain):
    """Through the view; the map of what changed comes from pc-dirty, or is that of the writes, as a hypervisor's bitmap is."""

    def __init__(self, directory, image, tools, believed):
        super().__init__(directory, image, tools, f"fixed,{MIB}")
        self.directory, self.tools, self.believed = directory, tools, believed

    def night(self, name, extents):
        state, report, view = (self.directory / name for name in ("state", "report", "view"))
        read = 0
        if self.believed and state.exists():
            told = self.map(extents, state)
        else:
            told = run(self.tools / "pc-dirty", "--image", f"vda={self.image}", "--state", state, "--json")
            read += sum(disk.get("read_bytes", 0) for disk in json.loads(told)["disks"])
        told = run(self.tools / "pc-segments", f"vda={self.image}", view, "--state", state, "--report", report, "--segment", MIB, "--extents", "-", "--",
                   "borg", "create", *FLAGS, "--chunker-params", self.chunker, f"{self.repository}::{name}", view, stdin=told)
        read += json.loads(report.read_bytes())["read_bytes"]
        return read, json.loads(told)["archive"]["stats"]["deduplicated_size"]

    def map(self, extents, state):
        since = json.loads(state.read_bytes().split(b"\n", 1)[0])["id"]
        listed = [{"offset_bytes": offset, "length_bytes": length} for offset, length in extents]
        disk = {"name": "vda", "source": "bench", "size_bytes": self.image.stat().st_size, "method": "bitmap", "reason": "bench", "since": f"state:{since}",
                "dirty_bytes": sum(length for _, length in extents), "extents": listed}
        told = {"schema": "pc.dirty.extents/1", "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "method": "bitmap", "reason": "bench", "disks": [disk]}
        return json.dumps(told).encode()


def measured(work):
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    result = work()
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, *result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--image", type=pathlib.Path)
    parser.add_argument("--size", type=int, default=8192, help="MiB")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--directory", help="where the temporary directory is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
        scratch = pathlib.Path(scratch)
        ENVIRONMENT["BORG_BASE_DIR"] = str(scratch / "borg")
        image = scratch / "vda.img"
        if arguments.image:
            run("cp", "--sparse=always", arguments.image, image)
        else:
            make(image, arguments.size * MIB)
        table(arguments, scratch, image)


def table(arguments, scratch, image):
    methods = {}
    kinds = [("plain borg, default chunker", Plain, "default"), ("borg, fixed,4194304", Plain, "fixed,4194304"),
             ("pc-dirty by digest, pc-segments, borg", Segments, False), ("pc-segments with a map, borg", Segments, True)]
    tools = arguments.bin.resolve()
    for number, (name, kind, argument) in enumerate(kinds):
        directory = scratch / str(number)
        directory.mkdir()
        methods[name] = kind(directory, image, tools, argument)
    first = {name: measured(lambda method=method: method.night("first", [])) for name, method in methods.items()}
    nights = {(kind, name): [] for kind in NIGHTS for name in methods}
    for kind, places in NIGHTS.items():
        for night in range(arguments.runs):
            label = f"{list(NIGHTS).index(kind)}-{night}"
            extents = change(image, places, label)
            for name, method in methods.items():
                nights[kind, name].append(measured(lambda method=method: method.night(label, extents)))
    same(scratch, image, methods)
    base = next(iter(methods))
    print("| night | method | wall s (min/median/max) | CPU s | read MB | added MB | wall, of plain borg |\n|---|---|---|---|---|---|---|")
    for name, (wall, cpu, read, added) in first.items():
        print(f"| first | {name} | {wall:.2f} | {cpu:.2f} | {read / 1e6:.0f} | {added / 1e6:.1f} | {first[base][0] / wall:.2f} |")
    for (kind, name), runs in nights.items():
        walls, cpus, reads, added = (list(column) for column in zip(*runs))
        median = statistics.median(walls)
        ratio = statistics.median(run[0] for run in nights[kind, base]) / median
        print(f"| {kind} | {name} | {min(walls):.2f}/{median:.2f}/{max(walls):.2f} | {statistics.median(cpus):.2f} | "
              f"{statistics.median(reads) / 1e6:.1f} | {statistics.median(added) / 1e6:.1f} | {ratio:.1f} |")


def same(scratch, image, methods):
    """What is cheap has to be right: the last night of each, restored by borg alone."""
    for name, method in methods.items():
        last = run("borg", "list", "--short", "--last", "1", method.repository).decode().strip()
        target = scratch / "restored"
        with open(target, "wb") as file:
            paths = ["re:/vda/[0-9]*$"] if isinstance(method, Segments) else []
            subprocess.run(["borg", "extract", "--stdout", f"{method.repository}::{last}", *paths], stdout=file, env=ENVIRONMENT, check=True)
        run("cmp", target, image)
        target.unlink()
    shutil.rmtree(scratch / "restored", ignore_errors=True)


if __name__ == "__main__":
    main()
