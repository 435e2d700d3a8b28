//! Whoever gets in as root without us still does: a real sshd and a real ssh on a whole machine in a mount namespace,
//! before and after it became a node.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod common;

use std::process::{Command, Stdio};

use common::{Answer, Lab, TOOL};

/// The machine of directory $1 with a company's CA for users, somebody's certificate of it and somebody's plain key; then $3.
const MACHINE: &str = r#"
set -eu
root=$1 tool=$2; shift 2
mount -t tmpfs none /mnt
for place in etc usr/bin usr/lib/ssl var/lib root; do
  mkdir -p "/mnt/upper/$place" "/mnt/work/$place"
  [ "$place" != usr/bin ] || cp "$tool" /mnt/upper/usr/bin/pc-trust
  mount -t overlay none -o "lowerdir=/$place,upperdir=/mnt/upper/$place,workdir=/mnt/work/$place" "/$place"
done
rm -rf /var/lib/glusterd /etc/personal-cluster /etc/pki /etc/ssh /root/.ssh
mkdir -p /mnt/run; mount --bind /mnt/run /run
getent group libvirt-qemu > /dev/null || echo libvirt-qemu:x:64055: >> /etc/group
# An account that is locked is locked for keys, too, when PAM is off.
sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow
mkdir /var/lib/glusterd; cp -a "$root/etc/ssh" /etc/ssh; mkdir -m 700 /root/.ssh /mnt/keys
chown -R root:root /etc/ssh; chmod 755 /root
printf 'Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin prohibit-password\nUsePAM no\n' > /etc/ssh/sshd_config
cd /mnt/keys
for key in company somebody plain; do ssh-keygen -q -t ed25519 -N '' -C $key -f $key; done
ssh-keygen -q -s company -I somebody -n root somebody.pub
cp company.pub /etc/ssh/company_ca.pub; cp plain.pub /root/.ssh/authorized_keys
company() { echo "TrustedUserCAKeys /etc/ssh/company_ca.pub" > /etc/ssh/sshd_config.d/10-company.conf; }
# sshd on a pipe, as inetd would start it: it reads its configuration anew each time.
mkdir -p /run/sshd
via="ProxyCommand=/usr/sbin/sshd -i"
person() { timeout 30 ssh -F none -o "$via" -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no \
  -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -i /mnt/keys/$1 root@here "echo $1 is in" || echo "$1 is out"; }
node() { timeout 30 ssh -F /etc/personal-cluster/trust/ssh_config -o "$via" -o LogLevel=ERROR node1 "$@"; }
everybody() { echo "$1:"; person somebody; person plain
  [ ! -e /etc/personal-cluster ] || { node pc-trust status --json | grep -c '"node": "node1"' || true
  node id 2>&1 | grep -c 'not among the verbs' || true; }; }
alias pc-trust='pc-trust --node node1'
apply() { pc-trust apply > /dev/null; }
cluster=$1
eval "$2"
"#;

fn machine(lab: &Lab, script: &str) -> Answer {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", MACHINE, "sh"]).arg(lab.root("node1")).arg(TOOL);
    let fakes = lab.directory.path().join("fakes");
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", fakes.display());
    command.arg(lab.file()).arg(script).env("PATH", path).env("FAKES", fakes);
    Answer::of(command.stdin(Stdio::null()).output().unwrap())
}

/// What `everybody` prints: whether the certificate of the company counts, whether the machine is a node.
fn told(when: &str, company: bool, node: bool) -> String {
    let somebody = if company { "in" } else { "out" };
    format!("{when}:\nsomebody is {somebody}\nplain is in\n{}", if node { "1\n1\n" } else { "" })
}

#[test]
fn a_certificate_of_somebody_elses_ca_opens_root_as_before() {
    let answer = machine(
        &Lab::new(),
        "company; everybody before
         pc-trust init $cluster > /mnt/init; everybody init
         pc-trust plan
         rm /etc/ssh/sshd_config.d/10-company.conf; apply; everybody without
         pc-trust plan
         company; everybody later; pc-trust status | grep 'to do'; apply; everybody applied
         pc-trust status | grep problem || echo well",
    );
    let expected = [
        told("before", true, false),
        told("init", true, true),
        "nothing to do\n".into(),
        told("without", false, true),
        "nothing to do\n".into(),
        // Nobody has asked sshd since: the next apply does, at the latest at boot.
        told("later", false, true),
        "problem: to do: write /etc/ssh/sshd_config.d/50-personal-cluster.conf\nproblem: to do: reload sshd\n".into(),
        told("applied", true, true),
        "well\n".into(),
    ];
    assert_eq!(answer.stdout, expected.concat(), "{}", answer.stderr);
    assert_eq!(answer.code, Some(0), "{answer:?}");
}

#[test]
fn other_ways_to_say_whose_certificates_count_stay_in_force() {
    let answer = machine(
        &Lab::new(),
        "company; mkdir /etc/ssh/keys; mv /root/.ssh/authorized_keys /etc/ssh/keys/root
         echo root > /etc/ssh/principals
         { echo 'AuthorizedKeysFile /etc/ssh/keys/%u'; echo 'Match User root'
           echo 'AuthorizedPrincipalsFile /etc/ssh/principals'; } > /etc/ssh/sshd_config.d/60-more.conf
         everybody before; pc-trust init $cluster > /mnt/init; everybody init",
    );
    assert_eq!(answer.stdout, told("before", true, false) + &told("init", true, true), "{}", answer.stderr);
}

#[test]
fn an_sshd_that_cannot_be_asked_is_named_before_anything_is_made() {
    let answer = machine(
        &Lab::new(),
        "echo Nonsense yes > /etc/ssh/sshd_config.d/20-bad.conf
         pc-trust init $cluster || echo exit $?; ls -d /etc/personal-cluster || true
         rm /etc/ssh/sshd_config.d/20-bad.conf; pc-trust init $cluster > /mnt/init; everybody mended",
    );
    assert_eq!(answer.stdout, format!("exit 2\n{}", told("mended", false, true)), "{}", answer.stderr);
    assert!(answer.stderr.contains("20-bad.conf") && answer.stderr.contains("`sshd -t`"), "{answer:?}");
}

#[test]
fn a_drop_in_that_is_not_read_or_comes_too_late_is_a_problem() {
    let problem = "problem: sshd does not let nodes in as root: it does not read \
                   /etc/ssh/sshd_config.d/50-personal-cluster.conf, or a Match before that one says otherwise \
                   (a drop-in of 60 and above comes after it)\n";
    let answer = machine(
        &Lab::new(),
        "pc-trust init $cluster > /mnt/init; pc-trust status | grep problem || echo well
         { echo Match User root; echo AuthorizedPrincipalsFile /etc/ssh/theirs; } > /etc/ssh/sshd_config.d/40-first.conf
         echo AuthorizedKeysFile .ssh/authorized_keys >> /etc/ssh/sshd_config.d/40-first.conf
         apply; pc-trust status | grep problem
         mv /etc/ssh/sshd_config.d/40-first.conf /etc/ssh/sshd_config.d/60-later.conf
         apply; pc-trust status | grep problem || echo well; everybody renamed
         sed -i /Include/d /etc/ssh/sshd_config; rm /etc/ssh/sshd_config.d/60-later.conf
         apply; pc-trust status | grep problem",
    );
    let expected = format!("well\n{problem}well\n{}{problem}", told("renamed", false, true));
    assert_eq!(answer.stdout, expected, "{}", answer.stderr);
}
