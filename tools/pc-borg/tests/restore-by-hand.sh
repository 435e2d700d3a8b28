# docs/restore-by-hand.md as a script: REPOSITORY VM IMAGE, with the passphrase in BORG_PASSPHRASE. borg and coreutils only.
repository=$1 vm=$2 image=$(realpath "$3")
archive=$(borg list --short --glob-archives "$vm.*" "$repository" | sort | tail -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
borg extract "$repository::$archive" disks/vda.sha256 disks/manifest.json vm
borg extract --stdout "$repository::$archive" disks/vda | dd of="$image" bs=1M iflag=fullblock conv=sparse status=none
# A disk that ends in a hole is as long as the manifest says.
size=$(grep -o '"size_bytes": *[0-9]*' disks/manifest.json | grep -o '[0-9]*$')
truncate -s "$size" "$image"
# Every segment is what was backed up.
segment=$(grep -o '"segment_bytes": *[0-9]*' disks/manifest.json | grep -o '[0-9]*$')
mkdir check && split --bytes="$segment" --numeric-suffixes --suffix-length=10 "$image" check/
(cd check && for part in *; do sha256sum "$part"; done) | cut -d' ' -f1 > found
cut -d' ' -f1 disks/vda.sha256 | cmp - found
