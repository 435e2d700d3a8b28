//! A guest that runs, or may: frozen and thawed, moved, started and stopped while it is backed up.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod machine;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use machine::Machine;

fn note(machine: &Machine) -> std::path::PathBuf {
    machine.disk_of("mail").with_file_name("backup-frozen.json")
}

/// libvirt gave no answer in time: the guest may stand still, and whoever comes next thaws it.
#[test]
fn a_guest_that_may_be_frozen_is_thawed_by_whoever_comes_next() {
    let mut machine = Machine::ready();
    machine.runs();
    fs::write(machine.at("freeze-is-cut-off"), "").unwrap();
    fs::write(machine.at("no-thaw"), "").unwrap();
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("gave no answer, and does not thaw") && said.contains("\n  virsh domfsthaw mail"),
        "{said}"
    );
    assert!(
        !machine.virsh().contains(&"backup-begin".to_string()),
        "nothing is begun on a guest that stands still"
    );
    let text = fs::read_to_string(note(&machine)).unwrap();
    assert!(text.contains("\"pc.borg.frozen/1\"") && text.contains("\"node\": \"node1\""), "{text}");
    // The unit's ExecStopPost: not yet, and then.
    let (code, said) = machine.fails(&["recover"]);
    assert!(code == 1 && said.contains("vm mail: thawing the file systems of mail"), "{said}");
    fs::remove_file(machine.at("no-thaw")).unwrap();
    assert!(machine.at("frozen").exists());
    machine.ok(&["recover"]);
    assert!(!machine.at("frozen").exists() && !note(&machine).exists());
    let asked = machine.virsh().len();
    machine.ok(&["recover"]);
    assert_eq!(machine.virsh().len(), asked, "the second asks nobody");
    // A freeze that is cut off where a thaw works costs the archive its word, not its existence.
    let answer = machine.json(&["backup", "mail"]);
    assert_eq!(answer["backups"][0]["archive"]["consistency"], "crash");
    assert!(!machine.at("frozen").exists() && !note(&machine).exists());
}

/// Frozen on node2, and moved here before it was thawed there.
#[test]
fn a_guest_that_came_here_frozen_is_thawed_here() {
    let mut machine = Machine::ready();
    machine.runs();
    let left = r#"{"schema": "pc.borg.frozen/1", "vm": "mail", "node": "node2", "boot_id": "b", "pid": 1,
                   "started_ticks": 1, "since": "2026-01-01T00:00:00Z"}"#;
    fs::write(note(&machine), left).unwrap();
    fs::write(machine.at("frozen"), "").unwrap();
    fs::write(machine.at("domstate"), "shut off\n").unwrap();
    machine.ok(&["recover"]);
    assert!(machine.at("frozen").exists() && note(&machine).exists(), "the node that runs it thaws it");
    fs::write(machine.at("domstate"), "running\n").unwrap();
    machine.ok(&["recover"]);
    assert!(!machine.at("frozen").exists() && !note(&machine).exists());
    // A guest that was stopped since stands no stiller than any other.
    fs::write(note(&machine), left).unwrap();
    machine.list["vms"][0]["node"] = serde_json::Value::Null;
    machine.list["vms"][0]["state"] = "shut off".into();
    machine.says();
    machine.ok(&["backup", "mail"]);
    assert!(!note(&machine).exists());
}

#[test]
fn a_guest_on_the_move_is_let_go() {
    let mut machine = Machine::ready();
    machine.runs();
    fs::write(machine.at("moving"), "").unwrap();
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert_eq!(code, 75);
    assert!(said.contains("libvirt is busy with it (outgoing migration)"), "{said}");
    assert_eq!(machine.virsh(), ["domjobinfo"], "neither frozen nor aborted");
    fs::remove_file(machine.at("moving")).unwrap();
    // It sets off between the question and the job.
    fs::write(machine.at("moves-now"), "").unwrap();
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert!(code == 1 && said.contains("domain is being migrated"), "{said}");
    assert!(machine.at("moving").exists(), "the move goes on");
    assert!(!machine.at("frozen").exists() && !machine.virsh().contains(&"domjobabort".to_string()));
}

#[test]
fn a_job_of_somebody_else_is_left_alone_and_our_own_is_ended() {
    let mut machine = Machine::ready();
    machine.runs();
    let foreign = "<domainbackup mode='pull'><server transport='unix' socket='/run/virtnbdbackup.sock'/></domainbackup>";
    fs::write(machine.at("job.xml"), foreign).unwrap();
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert!(code == 1 && said.contains("another backup job is running"), "{said}");
    assert_eq!(fs::read_to_string(machine.at("job.xml")).unwrap(), foreign);
    assert!(!machine.at("frozen").exists());
    fs::remove_file(machine.at("job.xml")).unwrap();
    // Killed while it read: the job stays until somebody looks.
    let mut child = machine.start_until(&["backup", "mail"], "before-borg");
    child.kill().unwrap();
    child.wait().unwrap();
    machine.go_on("before-borg");
    let job = fs::read_to_string(machine.at("job.xml")).unwrap();
    assert!(
        job.contains("/domain-3-mail/pc-borg-daily.mail.sock'") && job.contains("/backup-scratch.daily.img'"),
        "{job}"
    );
    machine.ok(&["recover"]);
    assert!(!machine.at("job.xml").exists());
}

#[test]
fn a_job_that_ends_too_early_leaves_no_archive() {
    let mut machine = Machine::ready();
    machine.runs();
    let child = machine.start_until(&["backup", "mail"], "after-borg");
    fs::remove_file(machine.at("job.xml")).unwrap();
    machine.release("after-borg");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(75));
    assert_eq!((machine.archives("mail").len(), machine.unfinished().len()), (0, 0));
    machine.ok(&["backup", "mail"]);
    assert_eq!(machine.archives("mail").len(), 1);
}

/// The list was true when it was asked for. The disk is the same to the byte, and its time is older than the move: only
/// who is asked again can know.
#[test]
fn a_guest_that_moved_between_list_and_last_byte_leaves_no_archive() {
    let mut machine = Machine::ready();
    let child = machine.start_until(&["backup", "mail"], "after-borg");
    machine.list["vms"][0]["state"] = "running".into();
    machine.list["vms"][0]["node"] = "node2".into();
    machine.says();
    machine.release("after-borg");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(75));
    assert_eq!((machine.archives("mail").len(), machine.unfinished().len()), (0, 0));
    let failure = machine.json(&["status"])["backups"][0]["last_error"].to_string();
    assert!(failure.contains("runs on node2 by now"), "{failure}");
}

/// What a killed run has left is no backup, whoever looks, and goes with the next one.
#[test]
fn an_unfinished_archive_counts_for_nothing() {
    let machine = Machine::ready();
    let mut child = machine.start_until(&["backup", "mail"], "after-borg");
    child.kill().unwrap();
    child.wait().unwrap();
    machine.go_on("after-borg");
    let left = machine.unfinished();
    assert!(left.len() == 1 && left[0].starts_with("mail.20"), "{left:?}");
    assert_eq!(machine.archives("mail"), Vec::<String>::new());
    let (code, said) = machine.fails(&["restore", "mail", "--as", "copy"]);
    assert!(code == 2 && said.contains("there is no archive of it"), "{said}");
    machine.ok(&["backup", "web"]);
    assert_eq!(machine.unfinished(), left, "another VM's run spares it: the next one may go on from it");
    machine.ok(&["backup", "mail"]);
    assert_eq!((machine.archives("mail").len(), machine.unfinished().len()), (1, 0));
}

/// The node died with its QEMU.
#[test]
fn a_scratch_file_that_no_qemu_uses_is_removed() {
    let mut machine = Machine::ready();
    machine.runs();
    let scratch = machine.disk_of("mail").with_file_name("backup-scratch.daily.img");
    fs::write(&scratch, "old").unwrap();
    // As QEMU locks its images.
    let script = "import fcntl,sys; f=open(sys.argv[1],'r+'); fcntl.lockf(f,fcntl.LOCK_EX,1,201); \
                  print('held',flush=True); sys.stdin.readline()";
    let mut qemu = Command::new("python3")
        .args(["-c", script])
        .arg(&scratch)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(qemu.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let (code, said) = machine.fails(&["backup", "mail"]);
    assert!(code == 75 && said.contains("backup-scratch.daily.img: a QEMU still uses it"), "{said}");
    assert!(scratch.exists() && !machine.virsh().contains(&"domfsfreeze".to_string()));
    drop(qemu.stdin.take());
    qemu.wait().unwrap();
    machine.ok(&["backup", "mail"]);
    assert!(!scratch.exists());
}

/// libvirt has one backup job for a guest.
#[test]
fn two_policies_back_a_guest_up_one_after_the_other() {
    let mut machine = Machine::ready();
    machine.file(|file| {
        file["backup"]["other"] =
            serde_json::json!({"repository": "/mnt/backup/borg/other", "schedule": "daily"});
        file["vm"]["mail"]["backup"] = serde_json::json!(["daily", "other"]);
    });
    machine.ok(&["init", "other"]);
    let key: serde_json::Value =
        serde_json::from_str(&machine.ok(&["key", "export", "other", "--json"])).unwrap();
    machine.ok(&["key", "acknowledge", "other", key["code"].as_str().unwrap()]);
    machine.runs();
    let child = machine.start_until(&["backup", "mail", "--policy", "daily"], "before-borg");
    let (code, said) = machine.fails(&["backup", "mail", "--policy", "other"]);
    assert!(code == 75 && said.contains("another backup of it is at work on this node"), "{said}");
    assert!(machine.at("job.xml").exists(), "the first one's job goes on");
    machine.release("before-borg");
    assert!(child.wait_with_output().unwrap().status.success());
    machine.ok(&["backup", "mail", "--policy", "other"]);
}
