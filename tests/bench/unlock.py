#!/usr/bin/env python3
"""Speed of pc-unlock against clevis, in one run on one machine: LUKS2 files, tangd on the loopback.

usage: tests/bench/unlock.py [--binary target/release/pc-unlock] [--runs 5]

Prints a table for docs/measurements.md: min/median/max of wall milliseconds, and the ratio of medians. Each disk
has an argon2id slot of a user in slot 0, as real disks have. tangd runs as tangd.socket runs it, a process for
each connection, which it gets as its standard input. Needs clevis, clevis-luks, tang, jose, cryptsetup and systemd's
systemd-socket-activate; changes nothing outside its temporary directory.
"""

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile
import time

TANGD = next(path for path in ("/usr/libexec/tangd", "/usr/lib/tangd") if os.path.exists(path))


def run(*argv, stdin=b""):
    done = subprocess.run(argv, input=stdin, capture_output=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"{argv}: {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def measure(runs, work):
    times = []
    for _ in range(runs):
        started = time.monotonic()
        work()
        times.append((time.monotonic() - started) * 1000)
    return min(times), statistics.median(times), max(times)


def keys(directory):
    for template in ('{"alg":"ES512"}', '{"alg":"ECMR"}'):
        jwk = run("jose", "jwk", "gen", "-i", template)
        thumbprint = run("jose", "jwk", "thp", "-a", "S256", "-i-", stdin=jwk).decode().strip()
        (directory / f"{thumbprint}.jwk").write_bytes(jwk)
        if "ES512" in template:
            pinned = thumbprint
    return pinned


def disk(path, config):
    with open(path, "wb") as file:
        file.truncate(32 << 20)
    user = b"a user's passphrase"
    run("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--key-file", "-", path, stdin=user)
    run("clevis", "luks", "bind", "-y", "-k", "-", "-d", path, "tang", config, stdin=user)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="target/release/pc-unlock")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    unlock = os.path.abspath(arguments.binary)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "keys").mkdir()
        pinned = keys(scratch / "keys")
        port = 20000 + os.getpid() % 20000
        listen = ["systemd-socket-activate", "--accept", "--inetd", "--listen", f"127.0.0.1:{port}"]
        tangd = subprocess.Popen([*listen, TANGD, scratch / "keys"], stderr=subprocess.DEVNULL)
        try:
            listening(port)
            table(arguments.runs, unlock, scratch, json.dumps({"url": f"http://127.0.0.1:{port}", "thp": pinned}))
        finally:
            tangd.terminate()
            tangd.wait()


def listening(port):
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise SystemExit(f"nobody listens on port {port} after 10 s") from None
            time.sleep(0.01)


def table(runs, unlock, scratch, config):
    jwe = run("clevis", "encrypt", "tang", config, stdin=b"secret")
    disks = [str(scratch / f"disk{number}") for number in range(4)]
    for path in disks:
        disk(path, config)

    def each_by_clevis(paths):
        for path in paths:
            run("clevis", "luks", "unlock", "-t", "1", "-d", path)

    rows = [
        ("decrypt", lambda: run("clevis", "decrypt", stdin=jwe), lambda: run(unlock, "decrypt", stdin=jwe)),
        ("one disk", lambda: each_by_clevis(disks[:1]), lambda: run(unlock, "open", "--test", disks[0])),
        ("four disks", lambda: each_by_clevis(disks), lambda: run(unlock, "open", "--test", *disks)),
    ]
    print("| | clevis min/median/max ms | pc-unlock min/median/max ms | ratio of medians |")
    print("|---|---|---|---|")
    for name, theirs, ours in rows:
        theirs, ours = measure(runs, theirs), measure(runs, ours)
        cells = ["{:.0f} / {:.0f} / {:.0f}".format(*times) for times in (theirs, ours)]
        print(f"| {name} | {cells[0]} | {cells[1]} | {theirs[1] / ours[1]:.1f} |", flush=True)


if __name__ == "__main__":
    main()
