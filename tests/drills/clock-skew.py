"""The clock of a node drawn at random jumps a day ahead, and is set right again later: no fence, no expired certificate."""

RESTARTS = False
node = chance.choice(nodes)


def strike():
    node.succeed("date --set='+1 day'")


def mend():
    node.succeed("date --set='-1 day'")
