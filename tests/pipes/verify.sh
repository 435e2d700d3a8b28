# A verdict's remedies as lines, out of the real tools' answers; 3 is an answer, and under pipefail it has to be taken for one.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root/dev/disk/by-id" "$work/root/etc/libvirt"
truncate -s 4G "$work/root/dev/disk/by-id/ata-A"
echo 'security_driver = "none"' > "$work/root/etc/libvirt/qemu.conf"
cat > "$work/cluster.toml" <<'TOML'
schema = "personal-cluster/1"
name = "home"
[[node]]
name = "node1"
address = "192.168.0.50"
disks.local = ["/dev/disk/by-id/ata-A"]
[volume.local]
use = "local"
TOML
verify() { pc-verify --root "$work/root" --node node1 --file "$work/cluster.toml" --patient "$@" 2> "$work/log"; }

{ verify --cluster --json || [ $? = 3 ]; } | jq -r '.findings[] | select(.severity == "problem") | .remedy' > "$work/remedies"
expected='pc-config put FILE
pc-brick apply
remove that line, then systemctl restart libvirtd.service'
[ "$(cat "$work/remedies")" = "$expected" ] || { cat "$work/remedies" "$work/log"; exit 1; }

code=0
verify > "$work/text" || code=$?
[ "$code" = 3 ] && head -n 1 "$work/text" | grep -q '^node1: not healthy, 3 problems' || { echo "exit $code"; cat "$work/text"; exit 1; }
