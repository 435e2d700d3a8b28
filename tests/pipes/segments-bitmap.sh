# QEMU's own bitmap instead of digests: nothing is read to find out what changed. When the bitmap is gone, digests are
# compared, and the answer says so.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
image=$work/disk.qcow2
qemu-img create -q -f qcow2 "$image" 32M
qemu-io -f qcow2 -c 'write -P 1 0 20M' "$image" > /dev/null

dirty() { pc-dirty --image "vda=qcow2:$image" --state "$work/state" --json "$@"; }
backup() { pc-segments "vda=qcow2:$image" "$work/view" --state "$work/state" --report "$work/report" -- "$@"; }

dirty --checkpoint cp1 | backup sh -c 'cat "$0"/vda/* > "$1"' "$work/view" "$work/copy"
qemu-img convert -O raw "$image" "$work/raw"
cmp "$work/raw" "$work/copy"
qemu-img bitmap --add -f qcow2 "$image" cp1
qemu-io -f qcow2 -c 'write -P 2 5M 1M' "$image" > /dev/null

dirty --method bitmap --checkpoint cp2 | tee "$work/extents" | backup sh -c 'cat "$0"/vda/0000000005 > "$1"' "$work/view" "$work/five"
jq -e '.method == "bitmap" and .disks[0].read_bytes == 0 and .disks[0].since == "checkpoint:cp1"' "$work/extents" > /dev/null
jq -e '.committed and .disks[0].dirty_segments == 1 and .disks[0].left_dirty_segments == 0' "$work/report" > /dev/null
dd if="$work/five" of="$work/copy" bs=1M seek=5 conv=notrunc status=none
qemu-img convert -O raw "$image" "$work/raw"
cmp "$work/raw" "$work/copy"

# Nobody made the bitmap cp2.
dirty --method bitmap | jq -e '.method == "digest" and .disks[0].dirty_bytes == 0
  and (.reason | contains("no bitmap: ") and contains("not found"))' > /dev/null
