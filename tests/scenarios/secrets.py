"""Nothing that opens a disk, and no private key, is ever seen: not in the arguments or the environment of a process while a
node unlocks itself, not in its journal or logs, and not on its disk, which is clear."""
# nixos: no, it adds a unit and a program below /etc and /usr/local, which are the configuration's

# Every process of ours, and whatever it starts, from before the first disk until it is told to end.
WATCH = """
until [ -e /run/watched.end ]; do
    for process in /proc/[0-9]*; do
        read -r name < $process/comm || continue
        case $name in
        pc-*|cryptsetup|clevis*|jose|curl|dmsetup|lvm) cat $process/cmdline $process/environ; echo
            grep '^Max core file size' $process/limits | sed "s/^/$name: /" ;;
        esac
    done >> /run/watched 2> /run/watched.errors
    sleep 0.2
done
"""
UNIT = """
[Unit]
Description=Watch what processes show of themselves
DefaultDependencies=no
Before=pc-unlock.service
[Service]
ExecStart=/bin/sh /usr/local/sbin/watch-secrets
[Install]
WantedBy=multi-user.target
"""
# What must not be seen: the passphrase of every token as clevis decrypts it, and every open secret, line by line. The frame
# of a PEM and the first line of an OpenSSH key say nothing of the key and stand in others' files too.
PATTERNS = """
umask 077
for disk in /dev/disk/by-id/virtio-$(hostname)-d?; do
    cryptsetup luksDump --dump-json-metadata $disk | jq -c '.tokens[] | select(.type == "clevis") | .jwe' | while read -r jwe; do
        jq -j '.protected + "." + .encrypted_key + "." + .iv + "." + .ciphertext + "." + .tag' <<< "$jwe" | clevis decrypt
        echo
    done
done > /run/patterns
for secret in /run/personal-cluster/secrets/*; do
    grep -aoE '[[:graph:]]{16,}' $secret | grep -av -e '-----' -e '^b3BlbnNzaC1rZXktdjE' >> /run/patterns || true
done
[ $(grep -c . /run/patterns) -ge 6 ]
"""
# All of a disk that is not zero; a stretch of zeros would be one endless line to grep.
READ = "perl -e '$zeros = chr(0) x 1048576; while (sysread STDIN, $_, 1048576) { next if $_ eq $zeros; tr/\\0/\\n/s; print }'"
# Keys that are this machine's own and open nothing of the cluster: made by its distribution, clear on any server.
OWN_KEYS = ("/etc/ssh/ssh_host_", "/etc/ssl/private/ssl-cert-snakeoil.key")
# Lies on the disk, so that a reader that finds nothing is found out.
MARKER = "no-secret-and-it-must-be-found"


def seen(node, where):
    """How many lines of a file (or of what a command prints) hold one of the secrets."""
    source = where if where.startswith("<") else f"< {where}"
    return int(node.succeed(f"grep -aF -c -f /run/patterns {source} || [ $? = 1 ]", timeout=1800))


with subtest("node1 boots and unlocks itself while every process is watched"):
    node1.succeed(
        f"cat > /usr/local/sbin/watch-secrets <<'END'\n{WATCH}\nEND",
        f"cat > /etc/systemd/system/watch-secrets.service <<'END'\n{UNIT}\nEND",
        "systemctl enable watch-secrets.service",
    )
    node1.reboot()
    node1.wait_until_succeeds("[ $(lsblk -rno TYPE | grep -c ^crypt) = 4 ]", timeout=1200)
    node1.wait_until_succeeds("test -e /run/personal-cluster/secrets/node.key", timeout=300)

with subtest("pc-unlock.service can leave no core"):
    # Its unit says so; what a person starts says so itself, a moment after it began.
    cores = node1.succeed("grep -a '^pc-unlock: Max core file size' /run/watched | awk '{print $6, $7}' | sort -u")
    assert cores.strip() == "0 0", cores

with subtest("it checks, looks for rotated keys and backs up its headers, still watched"):
    node1.succeed("pc-unlock --applied check", timeout=600)
    node1.succeed("pc-unlock --applied rotate", timeout=600)
    node1.wait_until_succeeds("pc-unlock --applied header backup", timeout=1200)
    node1.succeed("touch /run/watched.end", "systemctl disable watch-secrets.service")

with subtest("the watcher and the patterns are worth something"):
    node1.succeed(PATTERNS, timeout=600)
    assert seen(node1, "/run/personal-cluster/secrets/node.key") > 0
    for told in ("pc-unlock", "cryptsetup"):
        node1.succeed(f"grep -aq {told} /run/watched")

with subtest("no secret in any process's arguments or environment"):
    assert seen(node1, "/run/watched") == 0

with subtest("none in the journal of any boot, and none in a log"):
    assert seen(node1, "<(journalctl --no-pager --all --output=export)") == 0
    assert seen(node1, "<(find /var/log -type f -exec cat {} +)") == 0

with subtest("the clear disk, block by block, holds none of them; no private key lies in a file on it"):
    node1.succeed(f"echo {MARKER} | tee /root/marker >> /run/patterns", "sync && echo 3 > /proc/sys/vm/drop_caches")
    found = f"{READ} < /dev/disk/by-id/virtio-node1-root | grep -aFo -f /run/patterns | sort -u"
    kinds = node1.succeed(f"{found} | sed 's/^{MARKER}$/marker/; t; s/.*/secret/'", timeout=1800)
    assert kinds.split() == ["marker"], kinds
    pem = "^-----BEGIN ([A-Z]+ )?PRIVATE KEY-----$"
    found = node1.succeed(f"grep -rlaE -e '{pem}' /etc /var /root /home /opt 2> /dev/null || true", timeout=900)
    others = [path for path in found.split() if not path.startswith(OWN_KEYS)]
    assert others == [], others

with subtest("nothing is left behind"):
    node1.succeed("rm -f /usr/local/sbin/watch-secrets /etc/systemd/system/watch-secrets.service /run/patterns /run/watched* /root/marker")
