"""The Nix side of the house: what can be known without building a package.

Always: what tools run is what their manifests say, flake.lock locks what flake.nix names, scenarios use the machine API
of both drivers. Where the environment variable PC_NIXOS_TREE names a directory with lib/ and nixos/ of nixpkgs
(25.05, a checkout will do): the example cluster and planted contradictions against the real module tree.

    tests/nix/check.py [--write]     --write: docs/nixos-options.md anew
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import manifests
import merged
import options
import package
import scenarios

REPOSITORY = Path(__file__).resolve().parents[2]


class Faults(list[str]):
    """What is wrong, one line each."""

    def expect(self, right: bool, fault: str) -> None:
        """Notes the fault when it is one."""
        if not right:
            self.append(fault)


# In nixpkgs (pkgs/by-name/ov/ovn), which has no module that names it.
BARE = ("ovn",)


def names(tree: Path) -> list[str]:
    """Every word of the modules: whatever they call a package is among them, but for those that have no module."""
    found: set[str] = set(BARE)
    for file in (tree / "nixos").rglob("*.nix"):
        found |= set(re.findall(r"[A-Za-z_][A-Za-z0-9_-]*", file.read_text(errors="replace")))
    return sorted(found)


def evaluate(tree: Path) -> dict[str, Any]:
    """tests/nix/eval.nix, as JSON."""
    with tempfile.TemporaryDirectory() as work:
        complete = Path(work) / "tree"
        complete.mkdir()
        for part in ("lib", "nixos"):
            (complete / part).symlink_to((tree / part).resolve())
        # Whose modules are whose: nobody reads it here, and a bare tree has none.
        (complete / "maintainers").mkdir()
        (complete / "maintainers/maintainer-list.nix").write_text("{ }\n")
        (complete / "maintainers/team-list.nix").write_text("{ lib }: { }\n")
        listed = Path(work) / "names.json"
        listed.write_text(json.dumps(names(tree)))
        command = ["nix-instantiate", "--eval", "--strict", "--json", str(REPOSITORY / "tests/nix/eval.nix")]
        command += ["--arg", "tree", str(complete), "--arg", "names", str(listed)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"tests/nix/eval.nix:\n{ended.stderr[-6000:]}")
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def cluster(seen: dict[str, Any], faults: Faults) -> None:
    """The example is accepted, and its file is the shipped one."""
    faults.expect(seen["accepted"], "examples/nixos/cluster.nix: its settings are refused by their types")
    faults.expect(seen["shipped"], "examples/nixos/cluster.nix is another cluster than examples/home.toml")
    for name, node in seen["nodes"].items():
        for message in node["failed"]:
            faults.append(f"{name}: {message}")
        for message in node["warnings"]:
            faults.append(f"{name}: warning: {message}")


def understood(seen: dict[str, Any], faults: Faults) -> None:
    """By pc-config itself, where the environment variable PC_CONFIG names it: both files are right, and the same."""
    program = os.environ.get("PC_CONFIG")
    if not program:
        return
    shown = []
    with tempfile.TemporaryDirectory() as work:
        written = Path(work) / "cluster.json"
        written.write_text(json.dumps(seen["nodes"]["node1"]["file"]))
        for file in (written, REPOSITORY / "examples/home.toml"):
            for verb in ("check", "show"):
                command = [program, "--node", "node1", "--file", str(file), verb, "--json"]
                ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
                faults.expect(ended.returncode == 0, f"{' '.join(command)}: {ended.stderr}")
            shown.append(ended.stdout)
    faults.expect(shown[0] == shown[1], "pc-config reads another cluster out of examples/nixos than out of examples/home.toml")


def node(seen: dict[str, Any], faults: Faults) -> None:
    """What a machine must have that no unit says."""
    one = seen["nodes"]["node1"]
    want = {"192.168.0.50": ["node1", "node1.home.arpa"], "192.168.0.51": ["node2", "node2.home.arpa"]}
    want["192.168.0.52"] = ["node3", "node3.home.arpa"]
    faults.expect(one["hosts"] == want, f"networking.hosts: {one['hosts']}")
    generator = one["generators"].get("pc-generator", "")
    faults.expect(generator.endswith("/libexec/personal-cluster/pc-generator"), f"systemd.generators: {generator}")
    for device in ("enp9s0f1", "enp7s0", "br-lan", "br-wan", "h-mail"):
        faults.expect(device in one["dhcpcd"], f"networking.dhcpcd.denyInterfaces lacks {device}")
    faults.expect(one["wait"] == "background", f"the boot waits for a lease: networking.dhcpcd.wait = {one['wait']}")
    for rule in ("d /mnt ", "d /srv/bricks ", "L+ /usr/bin/pc-trust ", "L /var/lib/pki ", "d /etc/ssh/sshd_config.d "):
        faults.expect(any(line.startswith(rule) for line in one["tmpfiles"]), f"systemd.tmpfiles.rules lacks {rule}")
    faults.expect("Include /etc/ssh/sshd_config.d/*.conf" in one["sshd"], "sshd_config does not include our drop-in")
    faults.expect("applied.json" in one["activation"], "the activation does not put applied.json in place")
    faults.expect("personal-cluster/cluster.json" in one["etc"], "no /etc/personal-cluster/cluster.json")
    faults.expect("glusterfs" in one["fs"], "mount.glusterfs is not in system.fsPackages")
    for module in ("dm-crypt", "dm-thin-pool", "openvswitch", "fuse"):
        faults.expect(module in one["kernel"], f"boot.kernelModules lacks {module}")
    starter = one["units"]["libvirt-guests.service"]
    faults.expect(not starter["enable"], "libvirt-guests.service is not masked")
    ours = one["units"]["glusterd.service"]["text"]
    faults.expect("KillMode=process" in ours and "TimeoutStopSec=90s" in ours, f"glusterd.service: {ours}")
    faults.expect("secure-access" not in one["glusterd"], "each start of glusterd removes the mark of its TLS")
    faults.expect("/var/lib/glusterd/hooks/" in one["glusterd"], "glusterd has no hooks")
    for unit in ("pc-vm@", "glusterd", "ovsdb", "ovs-vswitchd"):
        text = one["units"][f"{unit}.service"]["text"]
        faults.expect("X-RestartIfChanged=false" in text, f"a switch of generations would restart {unit}")


def firewall(seen: dict[str, Any], faults: Faults) -> None:
    """Ports are open for the other nodes, and for nobody else."""
    pattern = re.compile(r"^iptables -A nixos-fw -p tcp -s (\S+) --dport (\S+) -j nixos-fw-accept$", re.MULTILINE)
    found = set(pattern.findall(seen["nodes"]["node1"]["firewall"]))
    spans = ("22", "7625", "16514", "24007:24008", "49152:60999", "49152:49215")
    want = {(peer, span) for peer in ("192.168.0.51", "192.168.0.52") for span in spans}
    faults.expect(found == want, f"firewall of node1: {sorted(found ^ want)}")
    faults.expect(seen["nodes"]["node1"]["tcp"] == [22], f"open to everybody: {seen['nodes']['node1']['tcp']}")
    tang = seen["nodes"]["tang"]
    faults.expect(("192.168.0.0/24", "80") in pattern.findall(tang["firewall"]), "the tang box is closed to the nodes")
    faults.expect(80 not in tang["tcp"], "the tang box answers everybody")
    line = "ip saddr { 192.168.0.51, 192.168.0.52 } tcp dport { 24007-24008, 49152-60999 } accept"
    faults.expect(line in seen["nftables"], f"nftables: {seen['nftables']}")


def monitor(seen: dict[str, Any], faults: Faults) -> None:
    """The tang box watches: both daemons are started with what pc-exporter has written, in the user of their own modules."""
    units = seen["nodes"]["tang"]["units"]
    for name in ("prometheus", "alertmanager"):
        text = units.get(f"{name}.service", {}).get("text", "")
        lines = [line for line in text.splitlines() if line.startswith("ExecStart=")]
        faults.expect(len(lines) == 1 and f"/bin/{name} $ARGS --storage" in lines[0], f"{name}.service: {lines}")
        faults.expect(f"-personal-cluster-monitor/{name}.env" in text, f"{name}.service: not with our arguments: {text}")
    faults.expect("prometheus.service" not in seen["nodes"]["node1"]["units"], "node1 runs a Prometheus that nobody asked for")
    scraped = seen["scraped"]
    for message in scraped["failed"]:
        faults.append(f"scraped: {message}")
    text = scraped["units"].get("prometheus-node-exporter.service", {}).get("text", "")
    arguments = (REPOSITORY / "telemetry/node-exporter.args").read_text().split()
    for argument in [*arguments[1:], "--web.listen-address 192.168.0.50:9100"]:
        faults.expect(argument.replace("$", "$$") in text, f"node-exporter is not started with {argument}: {text}")
    faults.expect(text.count("--collector.systemd ") == 1, f"node-exporter refuses a flag that is given twice: {text}")
    for port in ("9100", "19100"):
        rule = f"iptables -A nixos-fw -p tcp -s 192.168.0.2 --dport {port} -j nixos-fw-accept"
        faults.expect(rule in scraped["firewall"], f"who watches does not reach port {port}")


def contradictions(seen: dict[str, Any], faults: Faults) -> None:
    """Each planted one is refused, by one assertion, with the remedy; each wrong type is."""
    for name, case in seen["refused"].items():
        said = [message for message in case["got"] if case["says"] in message]
        others = [message for message in case["got"] if case["says"] not in message]
        faults.expect(len(said) == 1 and not others, f"cases.nix: {name}: {case['got'] or 'nothing was said'}")
    for name, accepted in seen["types"].items():
        faults.expect(not accepted, f"cases.nix: types.{name} is accepted")


def differences(seen: dict[str, Any], faults: Faults) -> None:
    """node1 and node2 have the same cards: only who may connect differs."""
    one, two = seen["nodes"]["node1"], seen["nodes"]["node2"]
    found = {key for key in one if one[key] != two[key]}
    faults.expect(found == {"firewall"}, f"node1 and node2 differ in {sorted(found)}")
    found = {key for key in one if one[key] != seen["nodes"]["node3"][key]}
    faults.expect(found == {"firewall", "dhcpcd"}, f"node1 and node3, with other cards, differ in {sorted(found)}")


def alone(seen: dict[str, Any], faults: Faults) -> None:
    """One noun without the rest: its unit starts by itself, and the target is not there."""
    for noun, machine in seen["alone"].items():
        timer = {"trust": "pc-trust-renew.timer"}.get(noun, f"pc-{noun}.service")
        wanted = machine["units"].get(timer, {}).get("wantedBy")
        text = (REPOSITORY / "units" / timer).read_text()
        faults.expect(wanted == re.findall(r"^WantedBy=(\S+)$", text, re.MULTILINE), f"{noun} alone: {timer}: {wanted}")
        faults.expect("personal-cluster.target" not in machine["units"], f"{noun} alone brings personal-cluster.target")
        for message in machine["failed"]:
            faults.append(f"{noun} alone: {message}")


def vm(seen: dict[str, Any], faults: Faults) -> None:
    """The NixOS tests: every scenario that may, on machines that evaluate, with the lab's own cluster."""
    want = {file.stem for file, _ in scenarios.both(REPOSITORY)}
    faults.expect(set(seen["scripts"]) == want, f"tests/vm has {sorted(seen['scripts'])}, not {sorted(want)}")
    for name, script in seen["scripts"].items():
        try:
            compile(script, name, "exec")
        except SyntaxError as error:
            faults.append(f"tests/vm: {name}: {error}")
        scenario = (REPOSITORY / "tests/scenarios" / f"{name}.py").read_text()
        faults.expect(script.endswith(scenario), f"tests/vm: {name} is not the file of tests/scenarios")
    for name, machine in seen["machines"].items():
        for message in machine["failed"]:
            faults.append(f"tests/vm: {name}: {message}")
        if name == "tang":
            continue
        serials = [f"{name}-root", *(f"{name}-d{number}" for number in range(1, 5))]
        faults.expect(machine["serials"] == serials, f"tests/vm: {name}: disks {machine['serials']}")
        server = machine["file"]["unlock"]["tang"][0]
        faults.expect(server["thumbprint"] == seen["thumbprint"], f"tests/vm: {name} pins {server['thumbprint']}")
        server["thumbprint"] = "THUMBPRINT"
        faults.expect(machine["file"] == seen["lab"], f"tests/vm: {name} has another cluster than tests/lab/cluster.toml")


def flake(seen: dict[str, Any], faults: Faults) -> None:
    """flake.nix offers every tool, every module, every machine of the example and every test."""
    got = seen["flake"]
    modules = {path.stem for path in (REPOSITORY / "nixos-modules").glob("*.nix")}
    faults.expect(set(got["modules"]) == modules, f"flake.nix: nixosModules are {got['modules']}")
    faults.expect(set(got["machines"]) == set(seen["nodes"]), f"flake.nix: nixosConfigurations are {got['machines']}")
    wanted = {*seen["runtime"], "personal-cluster", "clusterlabs-sbd", "default"}
    for system in ("x86_64-linux", "aarch64-linux"):
        faults.expect(set(got["packages"][system]) == wanted, f"flake.nix: packages are {got['packages'][system]}")
    wanted = {*seen["scripts"], "package", "evaluation", "clippy", "fmt"}
    faults.expect(set(got["checks"]) == wanted, f"flake.nix: checks are {got['checks']}")
    faults.expect(got["apps"] == ["lab"], f"flake.nix: apps are {got['apps']}")


def runtime(seen: dict[str, Any], faults: Faults) -> None:
    """Every program that a tool names is of a known package, and every shipped unit belongs to one."""
    for tool, entry in seen["runtime"].items():
        for program in entry["unknown"]:
            faults.append(f"{tool} runs {program}, which nix/programs.nix does not know")


def with_tree(tree: Path, write: bool) -> Iterator[str]:
    """All that needs the module tree."""
    seen = evaluate(tree)
    faults = Faults()
    for check in (cluster, understood, node, firewall, monitor, contradictions, differences, alone, vm, flake, runtime):
        check(seen, faults)
    yield from faults
    yield from merged.faults(REPOSITORY, seen["nodes"]["node1"], seen["substitutions"])
    yield from package.faults(REPOSITORY, seen["package"], seen["runtime"])
    yield from options.faults(REPOSITORY, seen["options"], write)
    yield from scenarios.signatures(REPOSITORY, tree)


def main() -> None:
    """Every check that can be made here."""
    faults = [*manifests.faults(REPOSITORY), *scenarios.faults(REPOSITORY), *merged.texts(REPOSITORY)]
    named = os.environ.get("PC_NIXOS_TREE")
    if named:
        faults += with_tree(Path(named), "--write" in sys.argv)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        raise SystemExit(f"{len(faults)} faults")
    print("evaluated against the module tree" if named else "without a module tree (PC_NIXOS_TREE): parsed only")


if __name__ == "__main__":
    main()
