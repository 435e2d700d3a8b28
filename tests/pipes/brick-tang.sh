# A blank disk, formatted and bound to a real Tang server by pc-brick, is opened by clevis and by the recovery key; the
# saved header is put back by pc-unlock. No device-mapper: nothing is activated.
work=$(mktemp -d)
trap 'kill "$tang" 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/keys"
/usr/libexec/tangd-keygen "$work/keys" > /dev/null
port=$(shuf -i 20000-32000 -n 1)
socat "TCP-LISTEN:$port,bind=127.0.0.1,reuseaddr,fork" "EXEC:/usr/libexec/tangd $work/keys" 2> /dev/null &
tang=$!
timeout 20 sh -c "until curl -sf -m 2 -o /dev/null http://127.0.0.1:$port/adv; do :; done"
thp=$(jose jwk thp -a S256 -i "$(grep -l '"verify"' "$work"/keys/*.jwk)")
disk=$work/root/dev/disk/by-id/ata-A
mkdir -p "$(dirname "$disk")"
truncate -s 1G "$disk"
cat > "$work/cluster.toml" <<TOML
schema = "personal-cluster/1"
name = "home"
[unlock]
tang = [{ url = "http://127.0.0.1:$port", thumbprint = "$thp" }]
[[node]]
name = "node1"
address = "192.168.0.50"
disks.local = ["/dev/disk/by-id/ata-A"]
[volume.local]
use = "local"
TOML
brick() { command pc-brick --root "$work/root" --node node1 --file "$work/cluster.toml" "$@"; }
steps() { jq '.steps |= map(select(.action | IN("claim", "luks-format", "bind", "header-backup")))'; }
printf '%s\n' cbdefghi-cbdefghi-cbdefghi-cbdefghi-cbdefghi-cbdefghi-cbdefghi-cbdefghi > "$work/key"
# As somebody types it: both tools mean the same key by it.
printf ' %s \r\n' "$(tr a-z A-Z < "$work/key")" > "$work/typed"

# Tang is away: the disk stays as blank as it was, and all is for later.
kill "$tang"; wait "$tang" 2> /dev/null || true
code=0
brick plan --json | steps | brick apply - --recovery-key-file "$work/typed" > /dev/null 2> "$work/log" || code=$?
[ "$code" = 75 ] || { cat "$work/log"; exit 1; }
cmp --silent --bytes "$(stat -c %s "$disk")" "$disk" /dev/zero
socat "TCP-LISTEN:$port,bind=127.0.0.1,reuseaddr,fork" "EXEC:/usr/libexec/tangd $work/keys" 2> /dev/null &
tang=$!
timeout 20 sh -c "until curl -sf -m 2 -o /dev/null http://127.0.0.1:$port/adv; do :; done"
brick plan --json | steps | brick apply - --recovery-key-file "$work/typed" > /dev/null 2> "$work/log" || { cat "$work/log"; exit 1; }

clevis luks pass -d "$disk" -s 1 | cryptsetup open --test-passphrase --key-file - "$disk"
tr -d '\n' < "$work/key" | cryptsetup open --test-passphrase --key-file - "$disk"

# The saved header, after an accident.
dd if=/dev/zero of="$disk" bs=1M count=8 conv=notrunc status=none
pc-unlock --root "$work/root" header restore /dev/disk/by-id/ata-A --recovery-key-file - < "$work/typed" 2> "$work/log" || { cat "$work/log"; exit 1; }
tr -d '\n' < "$work/key" | cryptsetup open --test-passphrase --key-file - "$disk"

# Only its magic is gone: the refusal says how it comes back, first with the record, then without it.
told() { brick plan --json | jq -r '.refused[0].remedy' | sed -n '1s/  #.*//p'; }
restore() { command pc-unlock --root "$work/root" "$@" --recovery-key-file - < "$work/typed" 2> "$work/log" || { cat "$work/log"; exit 1; }; }
for flags in "" "--from $work/root/var/lib/personal-cluster/headers/ata-A.$(cryptsetup luksUUID "$disk").jwe --yes-destroy-all-data-on-it"; do
  wipefs --all --quiet "$disk"
  [ -z "$flags" ] || brick forget /dev/disk/by-id/ata-A > /dev/null 2>&1
  remedy=$(told)
  [ "$remedy" = "pc-unlock header restore /dev/disk/by-id/ata-A${flags:+ $flags}" ]
  restore ${remedy#pc-unlock }
  tr -d '\n' < "$work/key" | cryptsetup open --test-passphrase --key-file - "$disk"
done
brick adopt /dev/disk/by-id/ata-A > /dev/null 2>&1
brick plan --json | jq -e '.refused == []' > /dev/null
