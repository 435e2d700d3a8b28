"""The VM is on its way to another node when the node it comes from loses its power."""

import threading

target = chance.choice(others)


def strike():
    # Two at once on one machine may not both be the first to connect.
    for node in others:
        node.succeed("true")
    moving = threading.Thread(target=lambda: others[0].execute(f"pc-ha --applied move mail {target.name}", timeout=600))
    moving.start()
    # Its QEMU exists on both from here on. Brackets: the pattern must not fit the shell's own command line.
    target.wait_until_succeeds("pgrep -f 'qemu-system.*guest=[m]ail,'", timeout=600)
    host.crash()
    moving.join(timeout=900)
    # It was heard until the crash: what counts is what it says after it.
    moved_on(others[0], host)


def mend():
    host.start()
