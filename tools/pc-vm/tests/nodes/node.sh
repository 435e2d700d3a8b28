#!/bin/sh
# One node of a private cluster: a real libvirtd and virtlogd in mount and PID namespaces of their own, so that nothing of
# this machine's libvirt is seen or touched. Usage: unshare --mount --pid --fork --mount-proc node.sh WORK NAME ADDRESS;
# ends when stdin ends.
set -eu
work=$1 name=$2 address=$3
here=$work/$name
mount --make-rprivate /
mkdir -p "$here/etc-libvirt/qemu" "$here/lib" "$here/log/qemu" "$work/cache" "$here/state" "$here/images"
mount -t tmpfs tmpfs /run
# /dev/kvm can exist and not work: emulation is the same everywhere.
if [ -e /dev/kvm ]; then mount --bind /dev/null /dev/kvm; fi
mkdir -p /etc/pki /var/lib/personal-cluster /var/cache/personal-cluster
mount --bind "$here/etc-libvirt" /etc/libvirt
mount --bind "$here/lib" /var/lib/libvirt
mount --bind "$here/log" /var/log/libvirt
# What QEMU can do is asked once for both.
mount --bind "$work/cache" /var/cache/libvirt
mount --bind "$here/state" /var/lib/personal-cluster
mount --bind "$here/images" /var/cache/personal-cluster
mount --bind "$work/pki-$name" /etc/pki
mount --bind "$work/hosts" /etc/hosts
mount -t tmpfs tmpfs /mnt
mkdir /mnt/vms
mount --bind "$work/volume" /mnt/vms
# What pc-trust would place. The gate of the other node is its mount namespace, whose /proc shows its processes.
mkdir -p /run/personal-cluster/secrets /etc/personal-cluster
mount -t tmpfs tmpfs /etc/personal-cluster
mkdir /etc/personal-cluster/trust
: > /etc/personal-cluster/trust/ssh_config
: > /run/personal-cluster/secrets/ssh-user.key
uuid=$(cat /proc/sys/kernel/random/uuid)
cat > /etc/libvirt/libvirtd.conf <<CONF
listen_tls = 1
listen_tcp = 0
listen_addr = "$address"
auth_unix_rw = "none"
host_uuid = "$uuid"
CONF
cat > /etc/libvirt/qemu.conf <<CONF
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
CONF
: > /etc/libvirt/virtlogd.conf
virtlogd &
daemons=$!
libvirtd --listen --pid-file /run/libvirtd.pid > "$here/libvirtd.log" 2>&1 &
daemons="$daemons $!"
echo ready
cat > /dev/null
# Guests first: they are children of nobody.
for pid in /run/libvirt/qemu/*.pid; do
	if [ -e "$pid" ]; then kill -9 "$(cat "$pid")" 2> /dev/null || true; fi
done
kill -CONT $daemons 2> /dev/null || true
kill $daemons "$(cat /run/libvirtd.pid)" 2> /dev/null || true
wait || true
