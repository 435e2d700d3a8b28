#!/usr/bin/python3
"""Scrapes of pc-exporter: how long they take with 1,000 series, what they cost, and what clients that stop reading do to them.

    tests/bench/exporter.py target/release/pc-exporter [ADDRESS:PORT of another exporter to compare with]

Prints a JSON object. Everything is on the loopback interface.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

# VMs and scrapes. An answer of the first size lies in the buffers of a socket as a whole, one of the second does not: only there
# does a client that takes nothing stop whoever writes to it.
USUAL = (112, 1000)
LARGE = (20_000, 20)
STALLED = 7
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
Address = tuple[str, int]


def root(directory: pathlib.Path, count: int) -> None:
    """A status of pc-vm that makes nine series per VM."""
    run = directory / "run" / "personal-cluster"
    run.mkdir(parents=True)
    vms = [
        {"name": f"vm-{number}", "defined": True, "current": True, "state": "running", "reason": None, "here": True,
         "should_run_here": True, "owner": "node1"}
        for number in range(count)
    ]
    listed = [
        {"name": vm["name"], "uuid": "0", "state": "running", "reason": None, "node": "node1", "should_run_on": "node1",
         "home": "node1", "cpus": 1, "memory_bytes": 1 << 30, "volume": "vms", "disk_bytes": 1 << 30,
         "disk_allocated_bytes": 1 << 29, "uptime_seconds": 3600}
        for vm in vms[: count * 3 // 5]
    ]
    status = {"schema": "pc.vm.status/1", "node": "node1", "measured_at": "2026-01-01T00:00:00Z", "healthy": True,
              "reachable_by_peers": True, "problems": [], "vms": vms}
    (run / "vm.json").write_text(json.dumps(status))
    answer = {"schema": "pc.vm.list/1", "node": "node1", "vms": listed, "nodes": []}
    (run / "vm-list.json").write_text(json.dumps(answer))


def scrape(address: Address) -> tuple[float, bytes]:
    began = time.perf_counter()
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(REQUEST)
        parts = []
        while part := client.recv(1 << 16):
            parts.append(part)
    return time.perf_counter() - began, b"".join(parts)


def stall(address: Address) -> socket.socket:
    """A client that asks and then takes nothing: its window is closed after some kilobytes."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect(address)
    client.sendall(REQUEST)
    return client


def figures(address: Address, count: int) -> dict[str, float]:
    times = sorted(scrape(address)[0] for _ in range(count))
    return {
        "p50_ms": round(times[count // 2] * 1000, 2),
        "p99_ms": round(times[count * 99 // 100] * 1000, 2),
        "max_ms": round(times[-1] * 1000, 2),
    }


def cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_kib(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) if found else 0


def ours(program: str, size: tuple[int, int]) -> dict[str, object]:
    vms, scrapes = size
    with tempfile.TemporaryDirectory() as directory:
        root(pathlib.Path(directory), vms)
        command = [program, "serve", "--listen", "127.0.0.1:0", "--root", directory]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
            try:
                assert service.stderr is not None
                line = next(line for line in service.stderr if "listening on" in line)
                address = ("127.0.0.1", int(line.rsplit(":", 1)[1]))
                _, text = scrape(address)
                series = sum(1 for line in text.split(b"\r\n\r\n", 1)[1].splitlines() if not line.startswith(b"#"))
                before = cpu_seconds(service.pid)
                alone = figures(address, scrapes)
                cpu = (cpu_seconds(service.pid) - before) / scrapes
                clients = [stall(address) for _ in range(STALLED)]
                time.sleep(0.5)
                beside = figures(address, max(scrapes // 5, 10))
                for client in clients:
                    client.close()
                return {"series": series, "bytes": len(text), **alone, "cpu_ms_per_scrape": round(cpu * 1000, 3),
                        "rss_peak_mib": round(rss_kib(service.pid) / 1024, 1), "beside_stalled_clients": beside}
            finally:
                service.terminate()


def other(address: Address) -> dict[str, object]:
    """Another exporter: alone, and then one scrape beside one client that takes nothing."""
    alone: dict[str, object] = dict(figures(address, 200))
    _, text = scrape(address)
    client = stall(address)
    time.sleep(0.5)
    try:
        took, _ = scrape(address)
        alone["beside_a_stalled_client_s"] = round(took, 3)
    except TimeoutError:
        alone["beside_a_stalled_client_s"] = "none within 30 s"
    client.close()
    return {"bytes": len(text), "head": text.split(b"\r\n\r\n", 1)[0].decode().split("\r\n"), **alone}


def main() -> None:
    answer: dict[str, object] = {"usual": ours(sys.argv[1], USUAL), "large": ours(sys.argv[1], LARGE)}
    for argument in sys.argv[2:]:
        host, port = argument.rsplit(":", 1)
        answer[argument] = other((host, int(port)))
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
