"""One of pacemaker's daemons, drawn at random, is killed on the node that runs the VM.

systemd starts pacemakerd again, which takes its children in as they are, and pacemakerd starts attrd again: nothing moves. Without
the CIB's manager or the executor, and where it decides without the scheduler, the controller gives up too (I_ERROR, then S_RECOVERY): the others
may fence the node before it is back, as pacemaker's own test ComponentFail allows, and the guest boots elsewhere then.
"""

daemon = chance.choice(["pacemakerd", "pacemaker-based", "pacemaker-execd", "pacemaker-attrd", "pacemaker-schedulerd"])
RESTARTS = False if daemon in ("pacemakerd", "pacemaker-attrd") else None


def strike():
    # Linux cuts a process's name after fifteen characters.
    host.succeed(f"pkill -KILL -x {daemon[:15]}")
