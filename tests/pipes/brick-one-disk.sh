# A plan filtered with jq to one disk: applied, the other disk byte-identical, the replayed plan refused as stale.
# Image files stand in for disks, so that only the steps below device-mapper are kept.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
by_id=$root/dev/disk/by-id
mkdir -p "$by_id"
truncate -s 1G "$by_id/ata-A" "$by_id/ata-B"
cat > "$work/cluster.toml" <<'TOML'
schema = "personal-cluster/1"
name = "home"
[[node]]
name = "node1"
address = "192.168.0.50"
disks.local = ["/dev/disk/by-id/ata-A"]
disks.scratch = ["/dev/disk/by-id/ata-B"]
[volume.local]
use = "local"
[volume.scratch]
use = "local"
TOML
brick() { command pc-brick --root "$root" --node node1 --file "$work/cluster.toml" "$@"; }
below_dm='["claim", "luks-format", "header-backup"]'
before=$(sha256sum < "$by_id/ata-B")

brick plan --json \
  | jq --argjson steps "$below_dm" '.steps |= map(select(.disk == "ata-A" and (.action | IN($steps[]))))' \
  | tee "$work/plan.json" \
  | brick apply - --json > "$work/applied.json" 2> "$work/log"

jq -e '(.done | length) == 3 and (.recovery_key | length) == 71' "$work/applied.json" > /dev/null
[ "$(blkid -p -o value -s TYPE "$by_id/ata-A")" = crypto_LUKS ]
jq -r .recovery_key "$work/applied.json" | tr -d '\n' | cryptsetup open --test-passphrase --key-file - "$by_id/ata-A"
[ "$(sha256sum < "$by_id/ata-B")" = "$before" ]

# The same plan again: the machine has changed since it was made.
code=0
brick apply - < "$work/plan.json" 2> "$work/log" || code=$?
[ "$code" = 2 ]
grep -q 'plan is stale' "$work/log"
