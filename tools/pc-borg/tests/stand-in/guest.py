"""A guest without a machine: the block layer of the real QEMU, which a drive of a guest would write to. Stands behind the
stand-ins of pc-vm (start --over, stop) and virsh (what pc-borg asks while a disk is copied)."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

STAND_IN = pathlib.Path(os.environ["STAND_IN"])
QMP, EXPORT, PID, PAUSED = (STAND_IN / name for name in ("guest.qmp", "guest.nbd", "guest.pid", "guest.paused"))
JOB = "copy-vda"


def runs() -> bool:
    try:
        return pathlib.Path(f"/proc/{PID.read_text().strip()}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ask(command: str, **arguments: object) -> object:
    with socket.socket(socket.AF_UNIX) as qmp:
        qmp.connect(str(QMP))
        lines = qmp.makefile("rw")
        for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
            lines.write(json.dumps(request) + "\n")
            lines.flush()
            while "return" not in (answer := json.loads(lines.readline())):
                if "error" in answer and "event" not in answer:
                    sys.exit(f"error: internal error: {answer['error']['desc']}")
        return answer["return"]


def start(overlay: str, archive: str) -> None:
    """As libvirt does with a disk over another one: what is below is named, and not looked for."""
    layers = [
        {"driver": "file", "node-name": "archive-file", "filename": archive, "read-only": True},
        {"driver": "raw", "node-name": "archive", "file": "archive-file", "read-only": True},
        {"driver": "file", "node-name": "overlay-file", "filename": overlay},
        {"driver": "qcow2", "node-name": "overlay", "file": "overlay-file", "backing": "archive"},
    ]
    command = ["qemu-storage-daemon", "--daemonize", "--pidfile", str(PID), "--chardev", f"socket,id=qmp,path={QMP},server=on,wait=off",
               "--monitor", "chardev=qmp", "--nbd-server", f"addr.type=unix,addr.path={EXPORT}"]
    for layer in layers:
        command += ["--blockdev", json.dumps(layer)]
    command += ["--export", "type=nbd,id=guest,node-name=overlay,name=vda,writable=on"]
    PAUSED.unlink(missing_ok=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


def stop() -> None:
    if runs():
        # Its plug: what it flushed is there.
        os.kill(int(PID.read_text()), signal.SIGKILL)
        while runs():
            time.sleep(0.02)
    PID.unlink(missing_ok=True)


def definition() -> str:
    """As virsh dumpxml has it: the file that the export's node is by now."""
    nodes = {node["node-name"]: node for node in ask("query-named-block-nodes", flat=True)}
    (export,) = ask("query-block-exports")
    jobs = [job for job in ask("query-block-jobs") if job["device"] == JOB]
    node = export["node-name"]
    # While it is copied the export has the job's filter, which is over the overlay.
    node = node if node in ("overlay", "copy") else "overlay"
    mirror = "".join(f"<mirror type='file' job='copy'{' ready=%syes%s' % (chr(39), chr(39)) if job['ready'] else ''}></mirror>" for job in jobs)
    return f"<domain><disk type='file'><source file='{nodes[node]['file']}'/>{mirror}<target dev='vda'/></disk></domain>"


def virsh(arguments: list[str]) -> None:
    verb = arguments[0]
    # `cut-VERB`: so many calls meet a libvirt that is being restarted.
    cut = STAND_IN / f"cut-{verb}"
    if cut.exists():
        left = int(cut.read_text()) - 1
        cut.write_text(str(left)) if left else cut.unlink()
        sys.exit("error: Disconnected from qemu:///system due to end of file")
    if not runs():
        if verb == "domstate":
            print("shut off")
            return
        sys.exit("error: Requested operation is not valid: domain is not running")
    if verb == "domstate":
        print(f"paused ({PAUSED.read_text()})" if PAUSED.exists() else "running (booted)")
    elif verb == "dumpxml":
        print(definition())
    elif verb == "blockcopy":
        target = re.search("<source file='([^']*)'", pathlib.Path(arguments[-1]).read_text()).group(1)
        ask("blockdev-add", driver="file", **{"node-name": "copy-file"}, filename=target, discard="unmap")
        ask("blockdev-add", driver="raw", **{"node-name": "copy"}, file="copy-file", discard="unmap")
        # `slow`: bytes for each second.
        slow = STAND_IN / "slow"
        speed = int(slow.read_text()) if slow.exists() else 0
        ask("blockdev-mirror", **{"job-id": JOB}, device="overlay", target="copy", sync="full", speed=speed, **{"copy-mode": "write-blocking"})
    elif arguments[3:] == ["--raw"]:
        for job in ask("query-block-jobs"):
            print(f" type=Block Copy\n bandwidth=0\n cur={job['offset']}\n end={job['len']}")
    elif arguments[3:] == ["--pivot"]:
        halt("pivot")
        if (STAND_IN / "no-pivot").exists():
            (STAND_IN / "no-pivot").unlink()
            sys.exit("error: internal error: unable to execute QEMU command 'block-job-complete'")
        ask("block-job-complete", device=JOB)
        while ask("query-block-jobs"):
            time.sleep(0.02)
        halt("pivoted")
        if (STAND_IN / "pivot-unheard").exists():
            sys.exit("error: Disconnected from qemu:///system due to end of file")
    elif arguments[3:] == ["--abort"]:
        ask("block-job-cancel", device=JOB, force=True)
        while ask("query-block-jobs"):
            time.sleep(0.02)
        for node in ("copy", "copy-file"):
            ask("blockdev-del", **{"node-name": node})
    elif verb == "suspend":
        PAUSED.write_text("user")
    elif verb == "resume":
        PAUSED.unlink()


def halt(step: str) -> None:
    """A place to stop at for ever."""
    if (STAND_IN / f"hang-{step}").exists():
        (STAND_IN / f"at-{step}").touch()
        (STAND_IN / "never").open().read()


if __name__ == "__main__":
    if sys.argv[1] == "start":
        start(sys.argv[2], sys.argv[3])
    elif sys.argv[1] == "stop":
        stop()
    else:
        virsh(sys.argv[1:])
