# Three machines draft, one file comes out, is checked, and put in force on each: by files, and by a pipe.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"

# What lsblk and ip would say of three machines with two blank disks each.
cat > "$work/bin/lsblk" <<'SH'
#!/bin/sh
cat <<'JSON'
{"blockdevices": [
  {"name": "vda", "type": "disk", "size": 8589934592, "ro": false, "rm": false, "pttype": "gpt", "mountpoints": [null]},
  {"name": "vdb", "type": "disk", "size": 4294967296, "ro": false, "rm": false, "mountpoints": [null]},
  {"name": "vdc", "type": "disk", "size": 4294967296, "ro": false, "rm": false, "mountpoints": [null]}]}
JSON
SH
cat > "$work/bin/ip" <<'SH'
#!/bin/sh
case "$*" in
*route*) echo '[{"dst": "default", "gateway": "10.10.0.254", "dev": "enp1s0"}]' ;;
*) echo '[{"ifname": "enp1s0", "flags": ["UP", "LOWER_UP"], "link_type": "ether", "mtu": 1500, "addr_info":
    [{"family": "inet", "local": "10.10.0.'"$NUMBER"'", "prefixlen": 24, "scope": "global"}]}]' ;;
esac
SH
chmod 755 "$work"/bin/*
export PATH="$work/bin:$PATH"
on() {
  local number=${1#node}
  NUMBER=$number command pc-config --root "$work/$1" --node "$1" "${@:2}"
}
for node in node1 node2 node3; do
  mkdir -p "$work/$node/dev/disk/by-id" "$work/$node/etc"
  echo '127.0.0.1 localhost' > "$work/$node/etc/hosts"
  for disk in vda vdb vdc; do
    ln -s "../../$disk" "$work/$node/dev/disk/by-id/virtio-$node-$disk"
  done
  on "$node" draft > "$work/$node.toml"
done

cd "$work"
pc-config merge --name home node1.toml node2.toml node3.toml > cluster.toml
pc-config check --file cluster.toml > verdict
grep -q '3 nodes, 1 volume, 1 network' verdict
pc-config show --json --file cluster.toml \
  | jq -e '.volume.vms.replicas == 3 and ([.node[].disks.vms[]] | length) == 6 and .name == "home"' > answer

# The same through one pipe, without a file in between.
for node in node1 node2 node3; do on "$node" draft --json; done \
  | pc-config merge --name home - | pc-config show --file - > piped.toml
pc-config show --file cluster.toml | cmp - piped.toml

for node in node1 node2 node3; do
  on "$node" put - < cluster.toml
  cmp cluster.toml "$node/etc/personal-cluster/cluster.toml"
  grep -q '^10.10.0.3 node3.home.arpa node3$' "$node/etc/hosts"
  jq -e '.name == "home"' "$node/var/lib/personal-cluster/applied.json" > answer
done

# Again: nothing to do, nothing said.
[ -z "$(on node1 put - < cluster.toml 2>&1)" ]
# And a machine that is not in the file is left alone.
code=0
on node4 put - < cluster.toml 2> log || code=$?
[ "$code" = 2 ] && grep -q 'no \[\[node\]\] is called "node4"' log && [ ! -e node4 ]
