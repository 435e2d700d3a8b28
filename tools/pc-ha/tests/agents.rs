//! Our agents under pacemaker's own tester, and in the cases that it does not know. pc-vm is a stand-in that keeps its
//! contract: argv in, exit code out.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A VM is a file; the log is what it was called with.
const STANDIN: &str = r#"#!/bin/sh
echo "$*" >> "$STANDIN/log"
[ "$1" = --applied ] && shift
verb=$1
case "$*" in *"probe --all"*)
	[ ! -e "$STANDIN/unknown" ] || exit 75
	[ ! -e "$STANDIN/other" ] || echo 'process 4711: 00000000-f1f3-8955-8093-5b31b9c88b6c'
	exit 0
	;;
esac
[ ! -e "$STANDIN/no-file" ] || exit 2
case $verb in
probe)
	[ ! -e "$STANDIN/unknown" ] || exit 75
	[ -e "$STANDIN/runs" ] || exit 3
	echo '{"schema":"pc.vm.probe/1","here":true}'
	;;
start) [ ! -e "$STANDIN/refuse" ] || exit 2; : > "$STANDIN/runs" ;;
stop) [ ! -e "$STANDIN/hangs" ] || exit 75; [ -e "$STANDIN/immortal" ] || rm -f "$STANDIN/runs" ;;
resume) [ ! -e "$STANDIN/lost" ] || exit 3; [ ! -e "$STANDIN/stuck" ] || exit 75 ;;
migrate) [ -e "$STANDIN/stays" ] || rm -f "$STANDIN/runs" ;;
esac
"#;

/// pacemaker's attributes: `words/NODE` is what that node has told. Without that directory pacemaker does not answer.
const ATTRIBUTES: &str = r#"#!/bin/sh
cd "$STANDIN/words" 2> /dev/null || { echo 'Could not connect to attrd' >&2; exit 102; }
[ "$1 $2" = "--name pc-volume-vms" ] || exit 64
case $3 in
--update) [ "$5" = --private ] && echo "$4" > node1 ;;
--delete) rm -f node1 ;;
--query) for node in *; do echo "name=\"pc-volume-vms\" host=\"$node\" value=\"$(cat "$node")\""; done ;;
esac
"#;

struct Scene {
    root: tempfile::TempDir,
}

fn agent(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ocf").join(name)
}

impl Scene {
    fn new() -> Scene {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        // ocf-tester asks for meta-data as nobody.
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for (name, script) in [("pc-vm", STANDIN), ("attrd_updater", ATTRIBUTES)] {
            let standin = root.path().join(name);
            std::fs::write(&standin, script).unwrap();
            std::fs::set_permissions(&standin, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Scene { root }
    }

    fn set(&self, fact: &str, there: bool) {
        let path = self.root.path().join(fact);
        if there { std::fs::write(path, "").unwrap() } else { drop(std::fs::remove_file(path)) }
    }

    fn has(&self, fact: &str) -> bool {
        self.root.path().join(fact).exists()
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:{}", self.root.path().display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("STANDIN", self.root.path()).env("OCF_RESKEY_vm", "mail");
        command
    }

    /// The exit code of one action.
    fn act(&self, action: &str) -> i32 {
        let mut command = self.command(&agent("pc-vm"));
        command.arg(action).env("OCF_RESKEY_CRM_meta_migrate_target", "node3");
        command.env("OCF_RESKEY_CRM_meta_timeout", "300000");
        command.output().unwrap().status.code().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.root.path().join("log")).unwrap_or_default()
    }
}

fn passed(output: &Output) {
    let told =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("passed all tests"), "{told}");
}

#[test]
fn pacemaker_s_own_tester_is_content_with_pc_vm() {
    let scene = Scene::new();
    let output = scene
        .command(Path::new("ocf-tester"))
        .args(["-n", "mail", "-o", "vm=mail"])
        .arg(agent("pc-vm"))
        .output();
    passed(&output.unwrap());
}

#[test]
fn stopped_means_that_libvirt_and_the_kernel_say_so() {
    let scene = Scene::new();
    assert_eq!(scene.act("monitor"), 7);
    assert_eq!(scene.act("start"), 0);
    assert_eq!(scene.act("monitor"), 0);
    // pc-vm says that it is done, and the process is still there: pacemaker must fence.
    scene.set("immortal", true);
    assert_eq!(scene.act("stop"), 1);
    scene.set("immortal", false);
    // libvirt hangs, or nobody knows what runs.
    scene.set("hangs", true);
    assert_eq!(scene.act("stop"), 1);
    scene.set("hangs", false);
    scene.set("unknown", true);
    assert_eq!(scene.act("stop"), 1);
    assert_eq!(scene.act("monitor"), 1, "unknown is no state that pacemaker may act on as stopped");
    scene.set("unknown", false);
    assert_eq!(scene.act("stop"), 0);
    assert_eq!(scene.act("stop"), 0, "what is stopped can be stopped");
    let log = scene.log();
    assert!(log.contains("--applied stop --by-pacemaker --here --timeout 180 mail\n"), "{log}");
    assert!(log.contains("--applied probe --exit-code --libvirt mail\n"), "{log}");
    assert!(log.contains("--applied start --by-pacemaker mail\n"), "{log}");
    scene.set("refuse", true);
    assert_eq!(scene.act("start"), 1, "it runs elsewhere");
}

/// A node that comes back with a file that it cannot read: it was not asked for the VM, but it has no QEMU of anybody.
#[test]
fn a_node_without_any_qemu_has_not_this_one_whatever_else_it_cannot_tell() {
    let scene = Scene::new();
    scene.set("no-file", true);
    assert_eq!(scene.act("monitor"), 7);
    scene.set("other", true);
    assert_eq!(scene.act("monitor"), 1, "whose it is nobody can tell");
    scene.set("other", false);
    scene.set("unknown", true);
    assert_eq!(scene.act("monitor"), 1);
    scene.set("unknown", false);
    assert_eq!(scene.act("stop"), 1, "libvirt may have a start of it in hand");
}

/// QEMU is there all the same: whether it could be resumed changes nothing of the monitor's answer, unless it never can be.
#[test]
fn a_monitor_has_a_paused_guest_go_on_and_answers_for_itself() {
    let scene = Scene::new();
    assert_eq!(scene.act("monitor"), 7);
    assert!(!scene.log().contains("resume"), "what does not run is not paused: {}", scene.log());
    scene.act("start");
    assert_eq!(scene.act("monitor"), 0);
    assert!(scene.log().ends_with("--applied resume --exit-code mail\n"), "{}", scene.log());
    scene.set("stuck", true);
    assert_eq!(scene.act("monitor"), 0, "its volume does not answer yet, or libvirt hangs");
    scene.set("lost", true);
    assert_eq!(scene.act("monitor"), 1, "its disk is on a mount that is no more");
    assert_eq!(scene.act("stop"), 0);
    assert_eq!(scene.act("monitor"), 7);
    scene.set("lost", false);
    scene.set("runs", true);
    scene.set("unknown", true);
    assert_eq!(scene.act("monitor"), 1);
}

#[test]
fn a_move_has_ended_when_it_is_there_and_no_longer_here() {
    let scene = Scene::new();
    scene.act("start");
    scene.set("stays", true);
    assert_eq!(scene.act("migrate_to"), 1);
    scene.set("stays", false);
    assert_eq!(scene.act("migrate_to"), 0);
    assert!(scene.log().contains("--applied migrate --by-pacemaker mail node3\n"));
    // It has ended on its way: the destination's from now on, and its next monitor says so.
    assert_eq!((scene.act("migrate_from"), scene.act("monitor")), (0, 7));
    scene.set("unknown", true);
    assert_eq!((scene.act("migrate_from"), scene.act("monitor")), (0, 1));
    scene.set("unknown", false);
    scene.set("runs", true);
    assert_eq!(scene.act("migrate_from"), 0);
    assert!(scene.has("runs"));
}

#[test]
fn a_name_that_is_none_is_a_configuration_error() {
    let scene = Scene::new();
    for name in ["", "a b", "../mail", "--all", "-x;y"] {
        let mut command = scene.command(&agent("pc-vm"));
        let code = command.arg("monitor").env("OCF_RESKEY_vm", name).output().unwrap().status.code();
        assert_eq!(code, Some(6), "{name:?}");
    }
    assert_eq!(scene.log(), "", "pc-vm was not even asked: --all would mean something to it");
    assert_eq!(scene.act("promote"), 3);
}

/// Runs a script with a volume mounted at `$mounts/vms`, in a mount namespace of its own.
fn with_volume(scene: &Scene, script: &str) -> Output {
    let root = scene.root.path();
    std::fs::create_dir_all(root.join("mnt/vms")).unwrap();
    let prepare = "mount -t tmpfs volume \"$PC_VOLUME_MOUNTS/vms\"";
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &format!("{prepare} && {script}"), "sh"])
        .arg(agent("pc-volume"))
        .env("PATH", format!("{}:{}", root.display(), std::env::var("PATH").unwrap()))
        .env("STANDIN", root)
        .env("OCF_RESKEY_CRM_meta_on_node", "node1")
        .env("OCF_RESKEY_CRM_meta_interval", "1000")
        .env("PC_VOLUME_MOUNTS", root.join("mnt"))
        .env("PC_VOLUME_STATE", root.join("state"))
        .env("OCF_RESKEY_volume", "vms")
        .env("OCF_RESKEY_deadline", "2")
        .env("OCF_RESKEY_CRM_meta_timeout", "40000")
        .output()
        .unwrap()
}

#[test]
fn pacemaker_s_own_tester_is_content_with_pc_volume() {
    passed(&with_volume(&Scene::new(), "exec ocf-tester -n vms -o volume=vms -o deadline=5 \"$1\""));
}

#[test]
fn a_volume_that_is_not_mounted_or_cannot_be_written_to_fails() {
    let scene = Scene::new();
    let script = r#"
        "$1" monitor; echo "before $?"
        "$1" start; echo "start $?"
        rm "$PC_VOLUME_STATE/vms.written"
        "$1" monitor; echo "monitor $?"
        test -e "$PC_VOLUME_STATE/vms.written"; echo "noted $?"; rm -f "$PC_VOLUME_STATE/vms.written"
        mount -o remount,ro "$PC_VOLUME_MOUNTS/vms"; "$1" monitor; echo "read-only $?"
        test -e "$PC_VOLUME_STATE/vms.written"; echo "not noted $?"
        mount -o remount,rw "$PC_VOLUME_MOUNTS/vms"; "$1" monitor; echo "again $?"
        umount "$PC_VOLUME_MOUNTS/vms"; "$1" monitor; echo "unmounted $?"
        "$1" stop; echo "stop $?"
        "$1" monitor; echo "after $?""#;
    let output = with_volume(&scene, script);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = "before 7\nstart 0\nmonitor 0\nnoted 0\nread-only 1\nnot noted 1\nagain 0\nunmounted 1\nstop 0\nafter 7\n";
    assert_eq!(told, expected, "{}", String::from_utf8_lossy(&output.stderr));
    // Nothing was written beneath the mount point.
    assert_eq!(std::fs::read_dir(scene.root.path().join("mnt/vms")).unwrap().count(), 0);
}

/// Nobody is better off elsewhere: it is full for every node, and a guest that was stopped for it would lose what it has in memory.
#[test]
fn a_full_volume_does_not_fail_and_is_not_noted_as_written() {
    let scene = Scene::new();
    let script = r#"
        mount -o remount,size=64k "$PC_VOLUME_MOUNTS/vms"
        "$1" start; echo "start $?"
        # With its room taken, too, it has to find new room.
        rm "$PC_VOLUME_MOUNTS/vms/.pc-volume-$(uname -n)" "$PC_VOLUME_STATE/vms.written"
        cat /dev/zero > "$PC_VOLUME_MOUNTS/vms/guest" 2> /dev/null
        "$1" monitor 2>&1 | grep -q 'vms is full: guests that write are paused'; echo "said $?"
        "$1" monitor; echo "full $?"
        test -e "$PC_VOLUME_STATE/vms.written"; echo "not noted $?"
        rm "$PC_VOLUME_MOUNTS/vms/guest"; "$1" monitor; echo "room $?"
        test -e "$PC_VOLUME_STATE/vms.written"; echo "noted $?""#;
    let output = with_volume(&scene, script);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = "start 0\nsaid 0\nfull 0\nnot noted 1\nroom 0\nnoted 0\n";
    assert_eq!(told, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

/// Its bricks have lost their quorum: no node is better off, and a guest that was stopped for it would not even see its power button.
/// A node that is alone in this fails, and so does one that knows nothing of the others.
#[test]
fn a_volume_that_nobody_can_write_to_does_not_fail_and_one_that_only_this_node_cannot_does() {
    let scene = Scene::new();
    let script = r#"
        agent=$1
        ask() { "$agent" monitor 2> "$STANDIN/said"; echo "$1 $?"; }
        other() { mkdir -p "$STANDIN/words"; echo "$2" > "$STANDIN/words/$1"; }
        noted() { test -e "$PC_VOLUME_STATE/vms.written"; echo "noted $?"; rm -f "$PC_VOLUME_STATE/vms.written"; }
        other node2 serves.1; other node3 serves.1
        "$agent" start; echo "start $?"; noted; grep -q '^serves[.]' "$STANDIN/words/node1"; echo "told $?"
        mount -o remount,ro "$PC_VOLUME_MOUNTS/vms"
        other node2 blind.2; other node3 blind.2
        ask 'nobody writes'; noted; grep -q 'no other node can write to it either' "$STANDIN/said"; echo "said $?"
        grep -q '^blind[.]' "$STANDIN/words/node1"; echo "told $?"
        "$agent" start 2> /dev/null; echo "start $?"
        # Its client has found the bricks again, a moment before this node's.
        other node3 serves.3; ask 'node3 writes'; ask 'and this one still not'
        mount -o remount,rw "$PC_VOLUME_MOUNTS/vms"; ask 'serves again'; noted
        # node2 has not been asked since: it may be as blind.
        other node2 serves.4; other node3 blind.4
        mount -o remount,ro "$PC_VOLUME_MOUNTS/vms"; ask 'not known yet'
        touch -d '-3 minutes' "$PC_VOLUME_STATE/vms.blind"; ask 'silent'; ask 'silent for too long'
        other node2 blind.5; ask 'nobody writes'
        # Their word is gone: they have stopped asking.
        other node2 ''; other node3 '(null)'; ask 'nothing'; ask 'nothing is known'
        rm "$STANDIN"/words/node[23]; ask 'this node alone'
        rm -r "$STANDIN/words"; ask 'no answer'
        other node2 blind.6
        umount "$PC_VOLUME_MOUNTS/vms"; ask unmounted; test -e "$STANDIN/words/node1"; echo "told $?""#;
    let output = with_volume(&scene, script);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = "start 0\nnoted 0\ntold 0\nnobody writes 0\nnoted 1\nsaid 0\ntold 0\nstart 1\n\
                    node3 writes 0\nand this one still not 1\n\
                    serves again 0\nnoted 0\nnot known yet 0\nsilent 0\n\
                    silent for too long 1\nnobody writes 0\nnothing 0\nnothing is known 1\nthis node alone 1\nno answer 1\nunmounted 1\ntold 1\n";
    assert_eq!(told, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

/// The same when it hangs: what another node writes meanwhile is enough to know that it is this node alone.
#[test]
fn a_volume_that_hangs_for_all_does_not_fail() {
    let scene = Scene::new();
    let script = r#"
        mkdir "$STANDIN/words"; echo blind.1 > "$STANDIN/words/node2"
        "$1" start 2> /dev/null; echo "start $?"
        file=$PC_VOLUME_MOUNTS/vms/.pc-volume-$(uname -n); rm -f "$file"; mkfifo "$file"
        "$1" monitor 2> /dev/null; echo "hangs for all $?"
        "$1" monitor 2> /dev/null; echo "still $?"
        echo serves.2 > "$STANDIN/words/node2"
        "$1" monitor 2> /dev/null; "$1" monitor 2> /dev/null; echo "for this node alone $?"
        kill -9 "$(cat "$PC_VOLUME_STATE/vms.child")"; timeout 5 cat "$file" > /dev/null
        rm "$PC_VOLUME_STATE/vms.blind" "$PC_VOLUME_STATE/vms.alone"
        (sleep 1; echo serves.3 > "$STANDIN/words/node2") &
        "$1" monitor 2> /dev/null; echo "node2 wrote meanwhile $?"
        kill -9 "$(cat "$PC_VOLUME_STATE/vms.child")"; timeout 5 cat "$file" > /dev/null"#;
    let output = with_volume(&scene, script);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = "start 0\nhangs for all 0\nstill 0\nfor this node alone 1\nnode2 wrote meanwhile 1\n";
    assert_eq!(told, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

/// A file system that hangs: here a pipe in the place of the file, which holds whoever opens it, as a dead server does.
#[test]
fn a_volume_that_hangs_fails_within_the_deadline_and_is_asked_once() {
    let scene = Scene::new();
    let script = r#"
        "$1" start; echo "start $?"
        file=$PC_VOLUME_MOUNTS/vms/.pc-volume-$(uname -n); rm -f "$file"; mkfifo "$file"
        "$1" monitor; echo "hangs $?"
        "$1" monitor 2>&1 | grep -q 'the last probe still hangs'; echo "asked again $?"
        # What it started itself waits for a reader, and would keep our pipe open.
        kill -9 "$(cat "$PC_VOLUME_STATE/vms.child")"; timeout 5 cat "$file" > /dev/null; rm -f "$file"
        "$1" monitor; echo "well again $?""#;
    let started = Instant::now();
    let output = with_volume(&scene, script);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        told,
        "start 0\nhangs 1\nasked again 0\nwell again 0\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

/// The agent's own defaults, for whoever uses it without pc-ha, are what the timings compute.
#[test]
fn the_volume_agent_says_the_times_that_are_computed() {
    use cluster::timing::Timing;
    let (deadline, timeout) = (Timing::probe_ms() / 1000, Timing::probe_operation_ms() / 1000);
    let text = std::fs::read_to_string(agent("pc-volume")).unwrap();
    for wanted in [
        format!("deadline=${{OCF_RESKEY_deadline:-{deadline}}}\n"),
        format!("<content type=\"integer\" default=\"{deadline}\" />"),
        format!("<action name=\"start\" timeout=\"{timeout}s\" />"),
        format!("<action name=\"monitor\" timeout=\"{timeout}s\" interval=\"10s\" depth=\"0\" />"),
    ] {
        assert!(text.contains(&wanted), "{wanted}");
    }
}
