"""One of pacemaker's daemons, drawn at random, is killed on the node that runs the VM: it is started again, nothing moves."""

RESTARTS = False
daemon = chance.choice(["pacemakerd", "pacemaker-based", "pacemaker-execd", "pacemaker-attrd", "pacemaker-schedulerd"])


def strike():
    # Linux cuts a process's name after fifteen characters.
    host.succeed(f"pkill -KILL -x {daemon[:15]}")
