#!/usr/bin/env python3
"""The page of pc-verify in a real browser, as a desktop and as a phone show it, with the network cut.

tests/page/look.py PC-VERIFY [DIRECTORY]: faults are told, and end it with 1; the pictures are left in DIRECTORY.
Needs chromium. The tools are recorded answers with faults in them, some of which call themselves what a thief would.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from browser import Browser, Look

TREE = pathlib.Path(__file__).resolve().parents[2]
SIZES = {"desktop": (1280, 800, False), "phone": (390, 844, True)}
HOSTILE = "<script>document.title='taken'</script><img src=http://x.example/ onerror=\"document.title='taken'\">"
FILE = """schema = "personal-cluster/1"
name = "home"
[ha]
[unlock]
tang = [{ url = "http://127.0.0.1:9", thumbprint = "oHhoq8SKDvqo1Ub0LBEKF0I9iEQWyWZiGcuDIySbWYs" }]
[volume.vms]
use = "vm"
[network.lan]
uplink = "lan"
[vm.mail]
memory = "1GiB"
disk = "1GiB"
volume = "vms"
networks = ["lan"]
backup = ["daily"]
[backup.daily]
repository = "/mnt/vms/borg"
schedule = "daily"
""" + "".join(
    f"""[[node]]
name = "node{n}"
address = "192.168.0.{49 + n}/24"
disks.vms = ["/dev/disk/by-id/nvme-{n}"]
nics.lan = ["eth0"]
"""
    for n in (1, 2, 3)
)


def answers(node):
    """What each tool says on this evening."""
    for tool in ["config", "ovs", "trust", "unlock", "brick", "gluster", "vm", "ha", "borg"]:
        name = "status-degraded" if tool == "gluster" else "status"
        answer = json.loads((TREE / f"tools/pc-{tool}/tests/golden/{name}.json").read_text())
        for one in answer.get("devices", []) + answer.get("secrets", []):
            one["state"] = "open"
        for one in answer.get("bricks", []):
            one["state"], one["problems"] = "mounted", []
        if tool in ("unlock", "brick"):
            answer["healthy"] = True
        if tool == "vm":
            answer["vms"][0].update({"reason": HOSTILE} if node == "node1" else {"here": False, "state": "shut off"})
            answer["healthy"], answer["problems"] = True, []
        if tool == "borg":
            answer["backups"][0]["last_error"] = HOSTILE
        yield tool, answer


def program(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def page(pc_verify, work):
    """The page, made by the program itself out of three nodes: one is off."""
    root, programs = work / "root", work / "bin"
    programs.mkdir()
    for path, text in [
        ("etc/personal-cluster/trust/ssh_config", ""),
        ("etc/personal-cluster/trust/member.json", "{}"),
        ("run/personal-cluster/secrets/ssh-user.key", ""),
        ("etc/crypttab", "gv0 /dev/sdb1 none luks\n"),
    ]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).chmod(0o600)
    (work / "cluster.toml").write_text(FILE)
    environment = {**os.environ, "PATH": f"{programs}:/usr/bin:/bin"}

    def verify(node, *arguments):
        for tool, answer in answers(node):
            program(programs / f"pc-{tool}", f"cat <<'EOF'\n{json.dumps(answer)}\nEOF")
        flags = ["--root", root, "--file", work / "cluster.toml", "--node", node, "--patient"]
        run = subprocess.run([pc_verify, *flags, *arguments], env=environment, capture_output=True, text=True)
        if run.returncode not in (0, 3):
            raise SystemExit(run.stderr)
        return run.stdout

    (work / "node2").write_text(verify("node2", "--json"))
    away = "echo 'ssh: connect to host 192.168.0.52 port 22: No route to host' >&2; exit 255"
    program(programs / "ssh", f"case \"$*\" in *' node2 '*) cat {work / 'node2'}; exit 3 ;; esac\n{away}")
    (work / "page.html").write_text(verify("node1", "--cluster", "--html"))
    return work / "page.html"


def faults(look, width):
    asked = [event["request"]["url"] for event in look.told("Network.requestWillBeSent")]
    for url in asked:
        if not url.startswith(("file:///", "data:")):
            yield f"it asks for {url}"
    for event in look.told("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
        yield f"the console says {json.dumps(event)[:300]}"
    if (wide := look.value("document.documentElement.scrollWidth")) > width:
        yield f"it is {wide} pixels wide"
    if look.value("document.scripts.length + document.images.length") or look.value("document.title") == "taken":
        yield "a name became more than text"
    if "<script>" not in look.value("document.body.innerText"):
        yield "the hostile name is not shown"
    # A cell of one word is one line.
    broken = """[...document.querySelectorAll('td:not([data-heading=state])')].filter(cell => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return !cell.innerText.trim().includes(' ') && range.getClientRects().length > 1;
    }).map(cell => cell.innerText).join(', ')"""
    if names := look.value(broken):
        yield f"broken into lines: {names}"
    # Nothing that an eye cannot read on a phone.
    sizes = "[...document.querySelectorAll('body *')].map(one => parseFloat(getComputedStyle(one).fontSize))"
    if (small := look.value(f"Math.min(...{sizes})")) < 12:
        yield f"some of it is {small} pixels high"


def main():
    pictures = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    found = 0
    with tempfile.TemporaryDirectory() as directory, Browser() as browser:
        path = page(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(directory))
        for name, (width, height, phone) in SIZES.items():
            look = Look(browser, path.as_uri(), width, height, phone)
            for fault in faults(look, width):
                print(f"{name}: {fault}", file=sys.stderr)
                found += 1
            if pictures:
                (pictures / f"page-{name}.webp").write_bytes(look.picture())
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
