"""The volume that the VM's disk is on is full on every node, for a while: the guest waits, and goes on when there is room again."""

RESTARTS = False
MEND_FIRST = True
# Beside the brick, on its file system. Gluster takes no write of a client below 1 % of free space (storage.reserve).
BRICK = "$(pgrep -af 'glusterfsd.*--volfile-id vms[.]' | grep -o -- '--brick-name [^ ]*' | cut -d ' ' -f 2)"
FILE = f'"$(findmnt --noheadings --output TARGET --target "{BRICK}")/drill"'
FILL = f'file={FILE}; free=$(df --output=avail -B 1 "$(dirname "$file")" | tail -n 1); fallocate -l $((free - (8 << 20))) "$file"'
PAUSED = "virsh domstate --reason mail | grep -q 'paused (I/O error)'"


def strike():
    in_parallel(lambda node: node.succeed(FILL), nodes)
    host.wait_until_succeeds(PAUSED, timeout=300)


def mend():
    in_parallel(lambda node: node.succeed(f"rm {FILE}"), nodes)
