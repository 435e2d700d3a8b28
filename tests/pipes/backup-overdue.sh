# What is overdue is backed up, each by a call of its own; the second time nothing is; one broken VM fails the pipeline
# and not the others. The real borg, with stand-ins for the siblings that need FUSE, libvirt and Tang.
here=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root/proc/self" "$root/proc/sys/kernel/random" "$root/mnt/backup"
echo 8da54712-537e-413f-88b0-a16827a40fd2 > "$root/proc/sys/kernel/random/boot_id"
printf '61 24 0:51 / /mnt/%s rw - fuse.glusterfs x rw\n' vms backup > "$root/proc/self/mountinfo"
for vm in mail web; do
  mkdir -p "$root/mnt/vms/vms/$vm"
  head -c 2100000 /dev/urandom > "$root/mnt/vms/vms/$vm/disk.img"
done
jq -n '{schema: "pc.vm.list/1", vms: [("mail", "web") | {name: ., state: "shut off", reason: null, node: null, home: "node1"}]}' > "$work/list.json"
cat > "$work/cluster.toml" <<'TOML'
schema = "personal-cluster/1"
name = "home"
[[node]]
name = "node1"
address = "192.168.0.50/24"
disks.vms = ["/dev/disk/by-id/ata-A"]
disks.backup = ["/dev/disk/by-id/ata-B"]
nics.lan = ["enp1s0"]
[volume.vms]
use = "vm"
replicas = 1
[volume.backup]
use = "backup"
replicas = 1
[network.lan]
uplink = "lan"
subnet = "192.168.0.0/24"
[vm.mail]
memory = "1GiB"
disk = "1GiB"
volume = "vms"
networks = ["lan"]
backup = ["daily"]
[vm.web]
memory = "1GiB"
disk = "1GiB"
volume = "vms"
networks = ["lan"]
backup = ["daily"]
[backup.daily]
repository = "/mnt/backup/borg/daily"
schedule = "daily"
TOML
# A program, for xargs knows no functions.
mkdir "$work/bin"
cat > "$work/bin/pc-borg" <<SH
#!/bin/sh
exec "$(command -v pc-borg)" "\$@" --root "$root" --node node1 --file "$work/cluster.toml"
SH
chmod 755 "$work/bin/pc-borg"
export STAND_IN=$work PYTHONDONTWRITEBYTECODE=1 PATH="$work/bin:$here/tools/pc-borg/tests/stand-in:$PATH"

pc-borg init daily > "$work/out" 2> "$work/log"
pc-borg key export daily --json | jq -r .code | xargs pc-borg key acknowledge daily > "$work/out"

overdue() {
  pc-borg status --json | jq -r '.backups[] | select(.overdue) | .vm' | sort -u \
    | xargs -rn1 pc-borg backup --json 2> "$work/log" | jq -s 'map(.backups[] | select(.outcome == "done")) | length'
}
[ "$(overdue)" = 2 ]
# Again: nothing is overdue, nothing is done.
[ "$(overdue)" = 0 ]
pc-borg status --exit-code > "$work/out"

# Both have no archive any more that anybody remembers, and one has lost its disk.
rm "$root"/mnt/backup/pc-borg/daily/vms/*.json "$root/mnt/vms/vms/mail/disk.img"
code=0
done=$(overdue) || code=$?
[ "$code" != 0 ] && [ "$done" = 1 ]
grep -q 'vm mail to daily: .*disk.img is not there' "$work/log"
