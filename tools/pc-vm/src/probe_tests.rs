use super::*;
use crate::hypervisor::Live;

const UUID: &str = "32bb3f29-f1f3-8955-8093-5b31b9c88b6c";

fn process(proc: &Path, pid: u32, cmdline: &str, stat: &str, threads: u32) {
    let at = proc.join(pid.to_string());
    for thread in 0..threads {
        fs::create_dir_all(at.join("task").join((pid + thread).to_string())).unwrap();
    }
    fs::create_dir_all(&at).unwrap();
    fs::write(at.join("cmdline"), cmdline.replace(' ', "\0")).unwrap();
    fs::write(at.join("stat"), stat).unwrap();
}

#[test]
fn a_qemu_is_known_by_its_uuid_and_nothing_else() {
    let proc = tempfile::tempdir().unwrap();
    fs::create_dir(proc.path().join("self")).unwrap();
    process(proc.path(), 2, "", "2 (kthreadd) S 0", 1);
    process(
        proc.path(),
        50,
        "/usr/bin/qemu-system-x86_64 -name guest=mail -uuid 00000000-f1f3-8955-8093-5b31b9c88b6c",
        "",
        1,
    );
    // Somebody who looks for it.
    process(proc.path(), 51, &format!("grep {UUID}"), "51 (grep) R 1", 1);
    assert_eq!(find(proc.path(), UUID, Duration::ZERO), Ok(None));
    process(
        proc.path(),
        52,
        &format!("/usr/bin/qemu-system-x86_64 -name guest=mail -uuid {}", UUID.to_uppercase()),
        "",
        4,
    );
    assert_eq!(find(proc.path(), UUID, Duration::ZERO), Ok(Some(52)));
}

#[test]
fn a_qemu_that_cannot_die_may_be_this_one() {
    let proc = tempfile::tempdir().unwrap();
    process(proc.path(), 60, "", "60 (qemu-system-x86) Z 1", 1);
    assert_eq!(find(proc.path(), UUID, Duration::ZERO), Ok(None), "dead, and not yet waited for");
    process(proc.path(), 61, "", "61 (qemu-system-x86) Z 1", 3);
    assert!(find(proc.path(), UUID, Duration::ZERO).unwrap_err().contains("process 61"));
    // Most of them are gone in a moment.
    let gone = proc.path().join("61");
    let reaper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        fs::remove_dir_all(gone).unwrap();
    });
    assert_eq!(find(proc.path(), UUID, Duration::from_secs(60)), Ok(None));
    reaper.join().unwrap();
    assert!(find(&proc.path().join("nothing"), UUID, Duration::ZERO).is_err(), "no /proc is no answer");
}

/// Of NixOS' wrapper: its process has the wrapped program's name.
#[test]
fn a_wrapped_qemu_lingers_as_well() {
    let proc = tempfile::tempdir().unwrap();
    process(proc.path(), 61, "", "61 (.qemu-system-x8) Z 1", 3);
    assert!(find(proc.path(), UUID, Duration::ZERO).unwrap_err().contains("process 61"));
}

/// Any user can start a program with these arguments, and have a stop fail and the node fenced for it.
#[test]
fn a_program_of_somebody_else_is_no_qemu_whatever_its_arguments() {
    let root = tempfile::tempdir().unwrap();
    let proc = root.path().join("proc");
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/passwd"), "libvirt-qemu:x:64055:108::/:/bin/false\n").unwrap();
    let (theirs, of_root) = (Some(1000), Some(0));
    for (pid, (program, owner, uid, counts)) in (100..).zip([
        ("grep", of_root, "1000", false),
        // A copy with another name.
        ("qemu-system-x86_64", theirs, "1000", false),
        // A program that runs as root for whoever calls it.
        ("su", of_root, "1000\t0", false),
        // A real one, by whomever: nobody can tell.
        ("qemu-system-x86_64", of_root, "1000", true),
        (".qemu-system-x86_64-wrapped", of_root, "301", true),
        ("qemu-kvm (deleted)", of_root, "107", true),
        // Of libvirt's users, whatever it is called.
        ("emulator", theirs, "64055", true),
        ("emulator", theirs, "0", true),
        // What is not shown.
        ("grep", of_root, "", true),
        ("", None, "1000", true),
    ]) {
        process(&proc, pid, &format!("x -uuid {UUID}"), "", 1);
        let at = proc.join(pid.to_string());
        if !uid.is_empty() {
            fs::write(at.join("status"), format!("Name:\tx\nUid:\t{uid}\t{uid}\n")).unwrap();
        }
        if let Some(owner) = owner {
            let file = root.path().join(pid.to_string()).join(program);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            std::os::unix::fs::chown(&file, Some(owner), None).unwrap();
            std::os::unix::fs::symlink(file, at.join("exe")).unwrap();
        }
        let found = find(&proc, UUID, Duration::ZERO);
        assert_eq!(found, Ok(counts.then_some(pid)), "{program} of {owner:?}, run by {uid}");
        fs::remove_dir_all(at).unwrap();
    }
}

fn in_proc() -> Result<Option<u32>, String> {
    within_deadline("/proc".into(), |proc| find(proc, UUID, LINGERING)).unwrap()
}

/// A neighbour's question: all of them, and whether there may be more.
#[test]
fn all_are_told_and_whether_there_may_be_more() {
    let proc = tempfile::tempdir().unwrap();
    let qemu = |uuid: &str| format!("/usr/bin/qemu-system-x86_64 -name guest=mail -uuid {uuid} -S");
    process(proc.path(), 50, &qemu(UUID), "", 4);
    process(proc.path(), 51, "sh -uuid nonsense", "", 1);
    process(proc.path(), 52, "sh -uuid", "", 1);
    let found = vec![Process { pid: 50, uuid: UUID.into() }];
    assert_eq!(watch(proc.path(), None, Duration::ZERO), (found.clone(), None));
    process(proc.path(), 61, "", "61 (qemu-system-x86) Z 1", 3);
    let (seen, reason) = watch(proc.path(), None, Duration::ZERO);
    assert_eq!((seen, reason.unwrap().contains("process 61")), (found.clone(), true));
    assert_eq!(find(proc.path(), UUID, Duration::from_secs(60)), Ok(Some(50)), "it is not waited for");
    // Somebody's arguments that cannot be read hide nothing that can.
    fs::create_dir_all(proc.path().join("7/cmdline")).unwrap();
    let (seen, reason) = watch(proc.path(), None, Duration::from_secs(60));
    assert_eq!((seen, reason.unwrap().contains("of process 7")), (found, true));
    assert_eq!(find(proc.path(), UUID, Duration::ZERO), Ok(Some(50)));
}

/// A real process with the arguments of a QEMU, found in the real /proc in far less than a monitor's second; not when it is of a
/// user that libvirt has nothing to do with.
#[test]
fn the_kernel_shows_it_at_once() {
    let (child, found) = shown(|command| command);
    assert_eq!(found, Ok(Some(child)));
    let (_, found) = shown(|command| std::os::unix::process::CommandExt::uid(command, 64_999));
    assert_eq!(found, Ok(None));
    assert_eq!(in_proc(), Ok(None));
}

fn shown(
    of: impl Fn(&mut std::process::Command) -> &mut std::process::Command,
) -> (u32, Result<Option<u32>, String>) {
    let mut child = of(&mut std::process::Command::new("sh"))
        .args(["-c", "echo; read -r _", "sh", "-uuid", UUID])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It has its arguments once it has begun: for a moment of execve(2) a process has none.
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let started = std::time::Instant::now();
    let found = in_proc();
    let took = started.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
    (child.id(), found)
}

#[test]
fn both_must_say_that_it_is_gone() {
    let live = |state, active| Live { state, reason: None, active, memory_bytes: 0 };
    let here =
        |process: Result<Option<u32>, String>, asked: Asked| judge("mail", UUID.into(), process, asked).here;
    let unknown = || Err("hangs".to_string());
    assert_eq!(here(Ok(None), None), Some(false));
    assert_eq!(here(Ok(Some(7)), None), Some(true));
    assert_eq!(here(unknown(), None), None);
    assert_eq!(here(Ok(None), Some(Ok(None))), Some(false), "undefined here");
    assert_eq!(here(Ok(None), Some(Ok(Some(live("shut off", false))))), Some(false));
    assert_eq!(here(Ok(None), Some(Ok(Some(live("paused", true))))), Some(true));
    assert_eq!(here(Ok(None), Some(Err("no answer".into()))), None, "libvirt hangs");
    assert_eq!(
        here(Ok(Some(7)), Some(Err("no answer".into()))),
        Some(true),
        "the process is there all the same"
    );
    assert_eq!(here(unknown(), Some(Ok(None))), None);
    let told = judge("mail", UUID.into(), unknown(), Some(Err("no answer".into())));
    assert_eq!(told.reason.as_deref(), Some("hangs; no answer"));
}

#[test]
fn the_answer_is_as_recorded() {
    let answer = judge(
        "mail",
        UUID.into(),
        Ok(Some(4711)),
        Some(Ok(Some(Live { state: "running", reason: None, active: true, memory_bytes: 1 }))),
    );
    let text = serde_json::to_string_pretty(&answer).unwrap() + "\n";
    assert_eq!(text, include_str!("../tests/golden/probe.json"));
    assert_eq!(answer.to_string(), "vm mail is here: process 4711\n");
}

#[test]
fn the_answer_to_a_neighbour_is_as_recorded() {
    let processes = vec![Process { pid: 4711, uuid: UUID.into() }];
    let answer = Shown { schema: PROCESSES.into(), processes, reason: None };
    let text = serde_json::to_string_pretty(&answer).unwrap() + "\n";
    assert_eq!(text, include_str!("../tests/golden/processes.json"));
    assert_eq!(answer.to_string(), format!("process 4711: {UUID}\n"));
}
