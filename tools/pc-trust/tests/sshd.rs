//! A real sshd with our drop-in, a real ssh with our client configuration, each in a mount namespace in which
//! one machine's files stand at their real paths.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod common;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Answer, Lab, TOOL};

/// Puts /etc/personal-cluster, /run/personal-cluster and /usr/bin/pc-* of one machine in place, then runs "$@".
const INSIDE: &str = r#"
set -eu
root=$1 tool=$2; shift 2
mount -t tmpfs none /mnt
mkdir /mnt/etc /mnt/etc.work /mnt/bin /mnt/bin.work /mnt/run
cp -a "$root/etc/personal-cluster" /mnt/etc/
mkdir -p /mnt/etc/ssh/sshd_config.d; cp -a "$root/etc/ssh/." /mnt/etc/ssh/
cp "$tool" /mnt/bin/pc-trust
printf '#!/bin/sh\necho "$*"; cat; env > /dev/stderr\n' > /mnt/bin/pc-config; chmod 755 /mnt/bin/pc-config
cp -a "$root/run/personal-cluster" /mnt/run/; mkdir /mnt/run/sshd
mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/etc,workdir=/mnt/etc.work /etc
mount -t overlay none -o lowerdir=/usr/bin,upperdir=/mnt/bin,workdir=/mnt/bin.work /usr/bin
mount --bind /mnt/run /run
# An account that is locked is locked for keys, too, when PAM is off.
sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow
exec "$@"
"#;

fn inside(lab: &Lab, node: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", INSIDE, "sh"]);
    command.arg(lab.root(node)).arg(TOOL);
    command
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(lab: &Lab, node: &str) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = lab.directory.path().join("sshd_config");
        // Debian's: the drop-ins first, and root by key only.
        fs::write(
            &config,
            format!(
                "Include /etc/ssh/sshd_config.d/*.conf
ListenAddress 127.0.0.1
Port {port}
UsePAM no
\
                 HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
\
                 SetEnv SECRET=x
Subsystem sftp internal-sftp
PidFile none
"
            ),
        )
        .unwrap();
        let child = inside(lab, node).args(["/usr/sbin/sshd", "-D", "-e", "-f"]).arg(config).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "sshd did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Server { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ssh(lab: &Lab, node: &str, server: &Server, arguments: &[&str], stdin: &str) -> Answer {
    let mut command = inside(lab, node);
    command.args(["timeout", "30", "ssh", "-F", "/etc/personal-cluster/trust/ssh_config"]);
    command.args(["-o", "HostName=127.0.0.1", "-o", &format!("Port={}", server.port)]).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    Answer::of(child.wait_with_output().unwrap())
}

fn two_nodes() -> Lab {
    let lab = Lab::new();
    let init = lab.init();
    let member = lab.serve("node1");
    lab.join("node2", &member.address, init["joins"][0]["token"].as_str().unwrap()).json();
    drop(member);
    lab
}

#[test]
fn certificates_and_the_forced_command() {
    let lab = two_nodes();
    let server = Server::start(&lab, "node1");
    let status = ssh(&lab, "node2", &server, &["node1", "pc-trust status --json"], "");
    assert_eq!(status.json()["node"], "node1");
    // stdin passes through, and it is the sibling that reads it.
    let put = ssh(&lab, "node2", &server, &["node1", "pc-config put --signed -"], "a file");
    assert_eq!((put.code, put.stdout.as_str()), (Some(0), "put --signed -\na file"), "{put:?}");
    assert!(put.stderr.contains("PATH=") && !put.stderr.contains("SECRET"), "{put:?}");
    // Everything else is refused with our own code, and nothing ran.
    for request in [
        "id",
        "sh -i",
        "pc-config put -",
        "pc-config put --signed -; id",
        "pc-trust token node3",
        "/usr/bin/pc-config put --signed -",
        "pc-config put --signed '-'",
    ] {
        let answer = ssh(&lab, "node2", &server, &["node1", request], "");
        answer.refused(2, "gate: ");
    }
    ssh(&lab, "node2", &server, &["node1"], "").refused(2, "there is no shell here");
    assert_eq!(ssh(&lab, "node2", &server, &["-s", "node1", "sftp"], "").code, Some(2));
    // No other account, and no forwarding.
    assert_eq!(
        ssh(&lab, "node2", &server, &["-l", "nobody", "node1", "pc-trust status --json"], "").code,
        Some(255)
    );
    let forward =
        ssh(&lab, "node2", &server, &["-o", "ClearAllForwardings=no", "-W", "127.0.0.1:22", "node1"], "");
    assert!(forward.stderr.contains("administratively prohibited"), "{forward:?}");
}

#[test]
fn other_hosts_and_other_clusters_are_refused() {
    let lab = two_nodes();
    let server = Server::start(&lab, "node1");
    // node1 pretends to be node2.
    let wrong = ssh(&lab, "node2", &server, &["node2", "pc-trust status --json"], "");
    assert!(wrong.code == Some(255) && wrong.stderr.contains("Host key verification failed"), "{wrong:?}");
    let stranger = two_nodes();
    let foreign = ssh(&stranger, "node2", &server, &["node1", "pc-trust status --json"], "");
    assert!(foreign.stderr.contains("Host key verification failed"), "{foreign:?}");
    // A user of another cluster who trusts this host is not let in either.
    let trust = lab.trust("node1", "known_hosts");
    fs::copy(trust, stranger.trust("node2", "known_hosts")).unwrap();
    let foreign = ssh(&stranger, "node2", &server, &["node1", "pc-trust status --json"], "");
    assert!(foreign.code == Some(255) && foreign.stderr.contains("Permission denied"), "{foreign:?}");
    assert!(Path::new("/usr/sbin/sshd").exists());
}
