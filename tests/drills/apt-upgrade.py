"""All packages of ours are unpacked and configured once more on a node drawn at random, as an upgrade does, while the guest writes."""

RESTARTS = False
node = chance.choice(nodes)


def strike():
    ours = "$(dpkg-query --show --showformat '${Package}\\n' 'pc-*' personal-cluster)"
    node.succeed(f"DEBIAN_FRONTEND=noninteractive apt-get install --reinstall --yes {ours}", timeout=1800)
