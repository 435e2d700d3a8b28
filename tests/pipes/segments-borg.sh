# What changed on an image goes to a view of it, which plain borg backs up by reading only that; restored with borg and
# cat, the image is byte for byte the same. No cluster file anywhere.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BORG_BASE_DIR=$work/borg BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
borg init --encryption none "$work/repo"
head -c 8388608 /dev/urandom > "$work/disk.img"
truncate -s 64M "$work/disk.img"

backup() {
  pc-dirty --image "vda=$work/disk.img" --state "$work/state" --json \
    | pc-segments "vda=$work/disk.img" "$work/view" --state "$work/state" --report "$work/report" -- \
      borg create --chunker-params fixed,1048576 --noxattrs --noacls --noflags "$work/repo::$1" "$work/view"
}
backup one
printf 'changed' | dd of="$work/disk.img" bs=1 seek=5000000 conv=notrunc status=none
backup two

# One segment changed, one was read; borg skipped the others.
jq -e '.committed and .disks[0].dirty_segments == 1 and .served_bytes == 1048576' "$work/report" > /dev/null

cd "$work"
borg extract "$work/repo::two"
cat "$work/${work#/}"/view/vda/* | cmp - "$work/disk.img"
( cd "$work/${work#/}/view" && sha256sum --quiet --check vda.sha256 )
borg extract --stdout "$work/repo::two" "${work#/}/view/vda" | cmp - "$work/disk.img"

# Half an answer is refused, and nothing is shown.
code=0
pc-dirty --image "vda=$work/disk.img" --state "$work/state" --json | head -c 100 \
  | pc-segments "vda=$work/disk.img" "$work/view" --state "$work/state" -- touch "$work/ran" 2> "$work/log" || code=$?
[ "$code" = 2 ] && [ ! -e "$work/ran" ]
grep -q 'standard input: not pc.dirty.extents/1' "$work/log"
