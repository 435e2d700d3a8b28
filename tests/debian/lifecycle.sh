# One package, alone, on a bare Debian 13: installed, checked, upgraded, removed, purged. Runs inside a
# throw-away root with $package set, the flat repository at /out, and no systemd running.
export DEBIAN_FRONTEND=noninteractive
fail() { echo "$package: $*" >&2; exit 1; }
cat > /etc/apt/sources.list.d/personal-cluster.list <<'EOF'
deb [trusted=yes] file:/out ./
EOF
printf 'APT::Sandbox::User "root";\nBinary::apt-get::APT::Keep-Downloaded-Packages "true";\n' > /etc/apt/apt.conf.d/99test
apt-get update -qq
apt-get install -qq -y --no-install-recommends "$package" > /install.log 2>&1 || { tail -n 30 /install.log >&2; fail "does not install"; }

# Installing switches nothing on.
enabled=$(find /etc/systemd/system \( -name 'pc-*' -o -name 'personal-cluster*' \) | head)
[ -z "$enabled" ] || fail "installing enabled $enabled"
[ ! -e /etc/libvirt/qemu/networks/autostart/default.xml ] || fail "libvirt's default network would start by itself"

# A tool answers; every unit is one that systemd accepts, in the root that has what it names.
files=$(dpkg -L "$package")
for binary in $(echo "$files" | grep -E '^/usr/bin/pc-' || true); do
  "$binary" --version > /dev/null || fail "$binary does not run"
  man=/usr/share/man/man8/$(basename "$binary").8.gz
  [ -f "$man" ] || fail "$man is missing"
done
units=$(echo "$files" | grep -E '^/usr/lib/systemd/system/[^/]+\.(service|target|timer|socket|path)$' || true)
for unit in $units; do
  case $unit in *@.service) unit=$(echo "$unit" | sed 's/@\.service/@test.service/') ;; esac
  systemd-analyze verify --man=no --recursive-errors=one "$unit" > /verify.log 2>&1 || { cat /verify.log >&2; fail "$unit"; }
  if grep -v -e '^$' /verify.log | grep -q "$(basename "$unit")"; then cat /verify.log >&2; fail "$unit: warnings"; fi
done

# Upgrade: the same package with a higher version; a file that an administrator changed stays.
mkdir /up && dpkg-deb -R "$(ls /out/"$package"_*.deb)" /up/tree
sed -i 's/^Version: .*/&+up1/' /up/tree/DEBIAN/control
dpkg-deb --root-owner-group -b /up/tree /up/new.deb > /dev/null
changed=$(dpkg-query -W -f '${Conffiles}\n' "$package" | awk 'NF {print $1; exit}')
[ -z "$changed" ] || echo '# mine' >> "$changed"
mkdir -p /etc/personal-cluster && echo keep > /etc/personal-cluster/cluster.toml
# As on a machine that systemd has booted: its units are read again, and none is started, stopped or restarted.
mkdir -p /run/systemd/system /stub
printf '#!/bin/sh\necho "$*" >> /systemctl.log\n' > /stub/systemctl && chmod 755 /stub/systemctl
PATH=/stub:$PATH dpkg --force-confold -i /up/new.deb > /upgrade.log 2>&1 || { cat /upgrade.log >&2; fail "does not upgrade"; }
touch /systemctl.log
case "$files" in
  */usr/lib/systemd/*) grep -q daemon-reload /systemctl.log || fail "after an upgrade systemd keeps the old units" ;;
esac
if grep -v -e daemon-reload -e is-enabled -e is-active /systemctl.log >&2; then fail "upgrading calls systemctl"; fi
rm -r /stub /run/systemd/system
[ -z "$changed" ] || grep -q '# mine' "$changed" || fail "upgrade lost a change in $changed"

dpkg -r "$package" > /remove.log 2>&1 || { cat /remove.log >&2; fail "does not remove"; }
for binary in $(echo "$files" | grep -E '^/usr/bin/pc-' || true); do
  [ ! -e "$binary" ] || fail "removing left $binary"
done
dpkg -P "$package" > /purge.log 2>&1 || { cat /purge.log >&2; fail "does not purge"; }
for file in $files; do
  [ -d "$file" ] || [ ! -e "$file" ] || fail "purging left $file"
done
[ "$(cat /etc/personal-cluster/cluster.toml)" = keep ] || fail "purging touched the cluster file"
echo "$package: installs, upgrades, removes, purges" >&2
