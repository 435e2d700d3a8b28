"""The volume that the VM's disk is on is full on one node: the two other copies serve, and the third heals once there is room."""

RESTARTS = False
node = chance.choice(nodes)
# Beside the brick, on its file system. Gluster takes no write of a client below 1 % of free space (storage.reserve).
brick = "$(pgrep -af 'glusterfsd.*--volfile-id vms[.]' | grep -o -- '--brick-name [^ ]*' | cut -d ' ' -f 2)"
filler = f'"$(findmnt --noheadings --output TARGET --target "{brick}")/drill"'


def strike():
    node.succeed(
        f'file={filler}; free=$(df --output=avail -B 1 "$(dirname "$file")" | tail -n 1); fallocate -l $((free - (8 << 20))) "$file"'
    )


def mend():
    node.succeed(f"rm {filler}")
