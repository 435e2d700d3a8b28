"""The volume that the VM's disk is on is full on every node, for a while: the guest waits, and goes on when there is room again."""

RESTARTS = False
MEND_FIRST = True
# Beside the brick, on its file system. Gluster takes no write of a client below 1 % of free space (storage.reserve).
brick = "$(pgrep -af 'glusterfsd.*--volfile-id vms[.]' | grep -o -- '--brick-name [^ ]*' | cut -d ' ' -f 2)"
filler = f'"$(findmnt --noheadings --output TARGET --target "{brick}")/drill"'
fill = f'file={filler}; free=$(df --output=avail -B 1 "$(dirname "$file")" | tail -n 1); fallocate -l $((free - (8 << 20))) "$file"'
paused = "virsh domstate --reason mail | grep -q 'paused (I/O error)'"


def strike():
    in_parallel(lambda node: node.succeed(fill), nodes)
    host.wait_until_succeeds(paused, timeout=300)


def mend():
    in_parallel(lambda node: node.succeed(f"rm {filler}"), nodes)
