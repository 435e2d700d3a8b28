"""The VM is on its way to another node when the node it comes from loses its power."""

import threading

target = chance.choice(others)


def strike():
    moving = threading.Thread(target=lambda: others[0].execute(f"pc-ha --applied move mail {target.name}", timeout=600))
    moving.start()
    # Its QEMU exists on both from here on.
    target.wait_until_succeeds("pgrep -f 'qemu-system.*guest=mail,'", timeout=600)
    host.crash()
    moving.join(timeout=900)


def mend():
    host.start()
