"""Each package by itself: installed on a machine that has no other of ours, given a file of only its section, its one
unit enabled, it does its job. What it needs from others is made by hand, with the tools that everybody has."""
# lab: from blank
# nixos: no, it installs one .deb after the other by apt

import base64
import json
import random
import re

HEAD = """
schema = "personal-cluster/1"
name = "alone"
[[node]]
name = "NODE"
address = "ADDRESS"
"""
VM = """
disks.local = ["DISK"]
[volume.local]
use = "local"
[image.lab-guest]
source = "/srv/images/lab-guest.raw"
[vm.mail]
image = "lab-guest"
memory = "128MiB"
disk = "64MiB"
volume = "local"
"""
DISK = "/dev/disk/by-id/virtio-NODE-d"
ADDRESSES = {"node1": "10.10.0.1", "node2": "10.10.0.2", "node3": "10.10.0.3", "tang": "10.10.0.9"}


def install(node, package):
    """That package, with what apt takes along."""
    node.succeed(f"apt-get update --quiet && apt-get install --yes {package}")


def put(node, section, address=None):
    """A file of only that section becomes the machine's."""
    text = (HEAD + section).replace("NODE", node.name).replace("ADDRESS", address or ADDRESSES[node.name])
    node.succeed(f"pc-config put - <<'END'\n{text}\nEND")


def enable(node, unit):
    """What a person types, and no failed unit afterwards."""
    node.succeed(f"systemctl enable --now {unit}", timeout=900)
    assert node.succeed("systemctl list-units --failed --no-legend --plain") == ""


def purge(node):
    """As if none of ours had been there."""
    node.succeed("apt-get purge --yes 'pc-*' && rm -rf /etc/personal-cluster /var/lib/personal-cluster")
    assert node.succeed("dpkg-query --show --showformat '${Package} ${db:Status-Abbrev}\\n' 'pc-*' | grep ' ii' || true") == ""


def disk(node, number):
    """A data disk's stable name."""
    return DISK.replace("NODE", node.name) + str(number)


def pc_config(node):
    """Says what is wrong with a file, with line and key, and takes one that is right."""
    install(node, "pc-config")
    put(node, "")
    assert node.succeed("pc-config nodes").split()[0] == node.name
    wrong = HEAD.replace("NODE", node.name).replace("ADDRESS", "not-an-address")
    status, _ = node.execute(f"pc-config put - <<'END' 2> /run/said\n{wrong}\nEND")
    said = node.succeed("cat /run/said")
    assert status == 2 and "not-an-address" in said and ":6:" in said, (status, said)


def pc_trust(node):
    """An authority, and this node's certificate under it, renewed by its timer."""
    install(node, "pc-trust")
    text = HEAD.replace("NODE", node.name).replace("ADDRESS", ADDRESSES[node.name])
    node.succeed(f"cat > /root/cluster.toml <<'END'\n{text}\nEND\npc-trust init /root/cluster.toml")
    enable(node, "pc-trust-renew.timer")
    node.succeed("systemctl start pc-trust-renew.service")
    assert node.name in node.succeed("pc-trust status")
    node.succeed("pc-trust apply && pc-trust plan --exit-code")


def pc_unlock(node):
    """A disk that clevis bound is open, without anybody's passphrase."""
    install(node, "pc-unlock")
    thumbprint = re.findall(r"[\w-]{43}", node.succeed("pc-unlock adv http://10.10.0.9"))[0]
    device = disk(node, 1)
    node.succeed(
        "printf secret > /run/passphrase",
        f"cryptsetup luksFormat --type luks2 --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {device} /run/passphrase",
        f"clevis luks bind -y -k /run/passphrase -d {device} tang "
        f"""'{{"url":"http://10.10.0.9","thp":"{thumbprint}"}}'""",
    )
    put(
        node,
        f'disks.local = ["{device}"]\n[volume.local]\nuse = "local"\n'
        f'[unlock]\ntang = [{{ url = "http://10.10.0.9", thumbprint = "{thumbprint}" }}]\n',
    )
    enable(node, "pc-unlock.service")
    node.wait_until_succeeds(f"lsblk -rno TYPE {device} | grep -qx crypt", timeout=300)


def pc_brick(node):
    """A blank disk becomes an encrypted, mounted volume, which the recovery key of the credential store opens."""
    install(node, "pc-brick")
    key = "-".join("".join(random.choices("cbdefghijklnrtuv", k=8)) for _ in range(8))
    # In the clear: this machine has no TPM that would encrypt it.
    node.succeed(f"install -D -m 600 /dev/stdin /etc/credstore/recovery-key <<< {key}")
    device = disk(node, 1)
    put(node, f'disks.local = ["{device}"]\n[volume.local]\nuse = "local"\n')
    enable(node, "pc-brick.service")
    node.succeed("mountpoint -q /mnt/local && echo kept > /mnt/local/file", f"cryptsetup isLuks --type luks2 {device}")
    node.succeed(f"tr -d '\\n' < /etc/credstore/recovery-key | cryptsetup open --test-passphrase --key-file - {device}")
    node.succeed("pc-brick --applied plan --exit-code")


def pc_generator(node):
    """What pc-brick made is mounted by systemd, out of the file."""
    node.succeed("systemctl stop pc-brick.service && umount /mnt/local && apt-get purge --yes pc-brick")
    assert node.succeed("systemctl show -P FragmentPath mnt-local.mount").startswith("/run/systemd/generator")
    node.succeed("systemctl restart local-fs.target && systemctl start mnt-local.mount && grep -q kept /mnt/local/file")


def pc_ovs(node):
    """A card that nobody uses becomes a bridge's uplink, and the bridge has the node's address."""
    install(node, "pc-ovs")
    put(node, 'nics.wan = ["eth2"]\n[network.storage]\nuplink = "wan"\nsubnet = "10.20.0.0/24"\n', "10.20.0.1")
    enable(node, "pc-ovs.service")
    assert node.succeed("ovs-vsctl port-to-br eth2").strip() == "br-wan"
    assert "10.20.0.1/24" in node.succeed("ip -o -4 address show dev br-wan")
    node.succeed("pc-ovs --applied plan --exit-code")


def stack(node, number):
    """What pc-brick would have made, by hand and without encryption: pc-generator knows it by its names."""
    group = f"pc-virtio-{node.name}-d{number}"
    node.succeed(
        f"vgcreate --quiet {group} {disk(node, number)}",
        f"lvcreate --quiet --yes --name brick --extents 100%FREE {group}",
        f"mkfs.xfs -q /dev/{group}/brick",
    )


def pc_gluster(node):
    """A volume on a brick that somebody else made, started and mounted."""
    install(node, "pc-gluster")
    stack(node, 2)
    put(node, f'disks.vms = ["{disk(node, 2)}"]\n[volume.vms]\nuse = "vm"\nreplicas = 1\n')
    point = f"/srv/bricks/vms/virtio-{node.name}-d2"
    node.succeed(f"systemctl start $(systemd-escape --path --suffix=mount {point}) && mkdir {point}/brick")
    enable(node, "pc-gluster.service")
    node.wait_until_succeeds("systemctl is-active pc-storage.target && mountpoint -q /mnt/vms", timeout=600)
    node.succeed(f"echo kept > /mnt/vms/file && grep -q kept {point}/brick/file")


def pc_vm(node):
    """A VM on a local volume that somebody else made; its heart beats on the console."""
    install(node, "pc-vm")
    stack(node, 2)
    put(
        node,
        VM.replace("DISK", disk(node, 2)),
    )
    node.succeed("systemctl start mnt-local.mount")
    enable(node, "pc-vm.service")
    node.succeed("systemctl enable --now pc-vm@mail.service", timeout=900)
    node.wait_until_succeeds("grep -a '^hb ' /var/log/libvirt/qemu/mail-serial.log", timeout=600)


def pc_exporter(node):
    """Metrics over HTTP, of a machine that has nothing to tell but itself."""
    install(node, "pc-exporter")
    put(node, "")
    enable(node, "pc-exporter.service")
    page = f"curl --silent --fail --max-time 10 http://{ADDRESSES[node.name]}:19100/metrics"
    node.wait_until_succeeds(f"{page} | grep -q '^pc_exporter_build_info'", timeout=120)


def pc_dirty(node):
    """One changed megabyte of an image, found with nobody else's help."""
    install(node, "pc-dirty")
    node.succeed("head -c 8M /dev/urandom > /srv/disk.img && pc-dirty --image /srv/disk.img --state /srv/disk.state --update")
    node.succeed("printf changed | dd of=/srv/disk.img bs=1M seek=5 conv=notrunc status=none")
    dirty = "pc-dirty --image /srv/disk.img --state /srv/disk.state --json | jq '[.disks[].dirty_bytes] | add'"
    assert node.succeed(dirty).strip() == "1048576"


def pc_segments(node):
    """A view of an image, taken by plain borg, given back by plain borg and cat."""
    install(node, "pc-segments")
    node.succeed(
        "head -c 8M /dev/urandom > /srv/disk.img && mkdir -p /srv/back && borg init --encryption none /srv/borg",
        "pc-segments disk=/srv/disk.img /run/view --full --state /srv/borg.state --"
        " borg create --chunker-params fixed,1048576 --noxattrs --noacls --noflags /srv/borg::one /run/view",
        "cd /srv/back && borg extract /srv/borg::one && cat run/view/disk/* | cmp - /srv/disk.img",
        timeout=600,
    )
    node.fail("mountpoint -q /run/view")


def pc_borg(node):
    """The running VM that pc-vm's part has left here, backed up by the timer, once its key is on paper."""
    install(node, "pc-borg")
    thumbprint = re.findall(r"[\w-]{43}", node.succeed("pc-unlock adv http://10.10.0.9"))[0]
    put(
        node,
        VM.replace("DISK", disk(node, 2)).replace('volume = "local"\n', 'volume = "local"\nbackup = ["daily"]\n')
        + '[backup.daily]\nrepository = "/srv/borg"\nschedule = "daily"\n'
        + f'[unlock]\ntang = [{{ url = "http://10.10.0.9", thumbprint = "{thumbprint}" }}]\n',
    )
    node.succeed("pc-borg init daily", timeout=300)
    code = json.loads(node.succeed("pc-borg key export daily --json"))["code"]
    node.succeed(f"pc-borg key acknowledge daily {code}")
    enable(node, "pc-borg.timer")
    node.wait_until_succeeds("pc-borg status --exit-code", timeout=1200)
    node.succeed("pc-borg list mail --json | jq -e '.archives | length == 1'", timeout=300)


def pc_verify(node):
    """The page of its timer, and a fault of a machine that was set up by hand, told with what to do until it is mended."""
    install(node, "pc-verify")
    put(node, "")
    enable(node, "pc-verify.timer")
    node.succeed(f"systemctl start pc-verify.service && grep -q {node.name} /run/personal-cluster/page.html", timeout=300)
    told = "(pc-verify --applied --json || true) | jq -e '.findings | any((.fault | contains(\"/etc/fstab\")) and .remedy != \"\")'"
    node.fail(told)
    node.succeed("cp /etc/fstab /root/fstab && echo 'far:/vms /mnt/far glusterfs defaults 0 0' >> /etc/fstab")
    node.succeed(told)
    node.succeed("mv /root/fstab /etc/fstab")
    node.fail(told)


def pc_ha(members):
    """Three machines with nothing else of ours, and a key that somebody made by hand: one cluster, each of them fenced by its watchdog."""
    key = base64.b64encode(random.randbytes(256)).decode()
    section = "".join(
        f'[[node]]\nname = "{node.name}"\naddress = "{ADDRESSES[node.name]}"\n' for node in members[1:]
    )

    def prepare(node):
        purge(node)
        install(node, "pc-ha")
        text = HEAD.replace("NODE", members[0].name).replace("ADDRESS", ADDRESSES[members[0].name])
        node.succeed(f"pc-config put - <<'END'\n{text}{section}[ha]\nprofile = \"patient\"\nEND")
        node.succeed(f"base64 -d <<< {key} | install -D -m 400 /dev/stdin /run/personal-cluster/secrets/corosync.authkey")
        # 75: it waits for the others.
        node.execute("pc-ha --applied enable", timeout=900)

    in_parallel(prepare, members)
    for node in members:
        node.wait_until_succeeds(
            "pc-ha --applied status --json | jq -e '[.nodes[] | select(.online)] | length == 3'", timeout=900
        )
        node.wait_for_unit("pc-ha.service", timeout=900)
        node.succeed("systemctl is-active sbd.service", "pc-ha --applied plan --exit-code")


FIRST = {"node1": pc_ovs, "node2": pc_unlock, "node3": pc_brick, "tang": pc_config}
SECOND = {"tang": pc_trust, "node3": pc_generator, "node2": pc_gluster, "node1": pc_vm}
THIRD = {"tang": pc_exporter, "node3": pc_dirty, "node2": pc_segments, "node1": pc_borg}
FOURTH = {"tang": pc_verify}
# These begin with what the part before them has left.
GO_ON = (pc_generator, pc_borg)

for number, part in enumerate((FIRST, SECOND, THIRD, FOURTH)):
    among = [machine for machine in machines if machine.name in part]
    for node in sorted(among, key=lambda machine: list(part).index(machine.name)):
        with subtest(f"{node.name}: {part[node.name].__name__.replace('_', '-')}"):
            if number > 0 and part[node.name] not in GO_ON:
                purge(node)
            part[node.name](node)

with subtest("node1, node2, node3: pc-ha"):
    pc_ha([machine for machine in machines if machine.name != "tang"])
