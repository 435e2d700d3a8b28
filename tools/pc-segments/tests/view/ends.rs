//! How a view ends: nothing is left, whatever ended it.

use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::lab::{Lab, SEGMENT, cat, ended, is_mounted, mounted, ok, signal, wait};

#[test]
fn usr1_commits_and_term_does_not() {
    let lab = Lab::new();
    lab.image(&vec![1; 3 * SEGMENT]);
    let child = mounted(lab.segments());
    cat(&lab.view().join("vda"));
    signal(&child, Signal::SIGTERM);
    ok(&wait(child));
    assert!(!is_mounted(&lab.view()));
    assert_eq!((&lab.report()["committed"], &lab.report()["ended_by"]), (&false.into(), &"signal".into()));
    assert_eq!(lab.committed(), "");

    let child = mounted(lab.segments());
    assert_eq!(cat(&lab.view().join("vda")).len(), 3 * SEGMENT);
    signal(&child, Signal::SIGUSR1);
    ok(&wait(child));
    assert!(!is_mounted(&lab.view()));
    assert_eq!((&lab.report()["committed"], &lab.report()["ended_by"]), (&true.into(), &"commit".into()));
    assert_eq!(lab.committed(), lab.report()["state"].as_str().unwrap());
}

#[test]
fn what_nobody_read_stays_changed() {
    let lab = Lab::new();
    let content = vec![1; 3 * SEGMENT];
    lab.image(&content);
    let mut command = lab.segments();
    command.args([
        "--",
        "sh",
        "-c",
        "cat \"$0/vda/0000000001\" > /dev/null; head -c 100 \"$0/sentinel\" > /dev/null",
    ]);
    let output = command.arg(lab.view()).output().unwrap();
    ok(&output);
    assert!(ended(&output, 0).contains("2 changed segments were not read to their end: they stay changed"));
    let mut command = lab.with_extents(&lab.extents(&content, &content, "digest"));
    ok(&command.args(["--", "true"]).output().unwrap());
    assert_eq!(lab.report()["disks"][0]["dirty_segments"], 2);
}

#[test]
fn umount_ends_it() {
    let lab = Lab::new();
    lab.image(&[1; 10]);
    let child = mounted(lab.segments());
    nix::mount::umount(&lab.view()).unwrap();
    ok(&wait(child));
    assert_eq!(lab.report()["ended_by"], "unmount");
}

#[test]
fn a_signal_ends_the_command_first() {
    let lab = Lab::new();
    lab.image(&[1; 10]);
    let mut command = lab.segments();
    // It says that it is there, and what ended it.
    let script =
        "trap 'echo TERM > \"$0.end\"; exit 0' TERM; echo > \"$0.begun\"; while :; do sleep 0.1; done";
    command.args(["--", "sh", "-c", script]).arg(lab.path("child"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !lab.path("child.begun").exists() {
        assert!(std::time::Instant::now() < until);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    signal(&child, Signal::SIGTERM);
    assert!(ended(&wait(child), 1).contains("nothing is committed"));
    assert_eq!(std::fs::read_to_string(lab.path("child.end")).unwrap(), "TERM\n");
    assert!(!is_mounted(&lab.view()));
}

#[test]
fn a_killed_run_does_not_stop_the_next() {
    let lab = Lab::new();
    lab.image(&vec![1; 3 * SEGMENT]);
    let mut child = mounted(lab.segments());
    cat(&lab.view().join("vda"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_mounted(&lab.view()), "that is what a kill leaves");
    assert_eq!(nix::sys::statvfs::statvfs(&lab.view()).unwrap_err(), nix::errno::Errno::ENOTCONN);
    let mut command = lab.segments();
    command.args(["--", "sh", "-c", "cat \"$0\"/vda/* > /dev/null"]).arg(lab.view());
    let output = command.output().unwrap();
    ok(&output);
    assert!(ended(&output, 0).contains("removing what a killed run left"));
    assert_eq!(lab.report()["committed"], true);
    assert!(!is_mounted(&lab.view()));
}

#[test]
fn two_runs_do_not_meet() {
    let lab = Lab::new();
    lab.image(&[1; 10]);
    let child = mounted(lab.segments());
    let same_state = lab.segments().output().unwrap();
    assert!(ended(&same_state, 75).contains("state.lock: another run has it"));
    let mut same_place = std::process::Command::new(env!("CARGO_BIN_EXE_pc-segments"));
    same_place.arg(lab.path("vda.img")).arg(lab.view()).stdin(Stdio::null());
    assert!(ended(&same_place.output().unwrap(), 75).contains("another run shows its view there"));
    signal(&child, Signal::SIGTERM);
    ok(&wait(child));
}

#[test]
fn a_place_that_is_in_use_is_refused() {
    let lab = Lab::new();
    lab.image(&[1; 10]);
    std::fs::create_dir(lab.view()).unwrap();
    std::fs::write(lab.view().join("mine"), "").unwrap();
    assert!(ended(&lab.segments().output().unwrap(), 2).contains("/view: is not empty"));
    let mut elsewhere = std::process::Command::new(env!("CARGO_BIN_EXE_pc-segments"));
    elsewhere.arg(lab.path("vda.img")).arg("/proc").stdin(Stdio::null());
    assert!(ended(&elsewhere.output().unwrap(), 2).contains("/proc: proc (proc) is mounted there"));
}

#[test]
fn a_command_that_is_not_there_leaves_no_mount() {
    let lab = Lab::new();
    lab.image(&[1; 10]);
    let output = lab.segments().args(["--", "no-such-program"]).output().unwrap();
    assert!(ended(&output, 1).contains("running no-such-program: No such file"));
    assert!(!is_mounted(&lab.view()));
}

#[test]
fn bare_file_names_do() {
    let lab = Lab::new();
    lab.image(&[1; 10]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pc-segments"));
    command.args(["vda.img", "view", "--state", "state", "--report", "report", "--", "true"]);
    ok(&command.current_dir(lab.path("")).stdin(Stdio::null()).output().unwrap());
    assert_eq!(lab.committed(), lab.report()["state"].as_str().unwrap());
}
