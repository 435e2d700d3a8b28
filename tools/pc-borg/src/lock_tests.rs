use super::*;

fn me() -> Me {
    let started_ticks = started(Path::new("/proc"), std::process::id()).unwrap();
    Me { node: "node1".into(), boot_id: "boot-a".into(), pid: std::process::id(), started_ticks }
}

fn holder(node: &str, boot: &str, pid: u32) -> Holder {
    Holder {
        schema: SCHEMA.into(),
        token: 7,
        node: node.into(),
        boot_id: boot.into(),
        pid,
        started_ticks: 500,
        what: "backup".into(),
        since: "2026-01-01T00:00:00Z".into(),
        released: false,
        left_behind: Vec::new(),
    }
}

fn files(directory: &Path) -> LockFiles {
    LockFiles { directory: directory.join("daily"), boots: directory.join("boots"), proc: "/proc".into() }
}

#[test]
fn a_holder_is_overruled_only_by_proof() {
    let of = |last: &Holder, dead: &[&str]| {
        let dead: Vec<String> = dead.iter().map(ToString::to_string).collect();
        let boots = |node: &str| match node {
            "node2" => Some("boot-2".to_string()),
            _ => None,
        };
        judge(Some(last), &me(), |pid, ticks| pid == 42 && ticks == 500, boots, &dead)
    };
    let stale = |proof: &str| Verdict::Stale(proof.into());
    assert_eq!(judge(None, &me(), |_, _| true, |_| None, &[]), Verdict::Free);
    assert_eq!(of(&Holder { released: true, ..holder("node2", "boot-2", 1) }, &[]), Verdict::Free);
    assert_eq!(of(&holder("node1", "boot-a", 42), &[]), Verdict::Held, "it lives");
    assert_eq!(of(&holder("node1", "boot-a", 43), &[]), stale("its process 43 is gone"));
    let reused = Holder { started_ticks: 501, ..holder("node1", "boot-a", 42) };
    assert_eq!(of(&reused, &[]), stale("its process 42 is gone"), "the number was used again");
    assert_eq!(of(&holder("node1", "boot-9", 42), &[]), stale("node1 was rebooted since"));
    assert_eq!(of(&holder("node2", "boot-1", 42), &[]), stale("node2 was rebooted since"));
    assert_eq!(of(&holder("node2", "boot-2", 42), &[]), Verdict::Held);
    assert_eq!(of(&holder("node3", "boot-3", 42), &["node2"]), Verdict::Held, "nobody vouched for this one");
    assert_eq!(
        of(&holder("node3", "boot-3", 42), &["node3"]),
        stale("node3 is switched off, says --holder-is-dead")
    );
    // Its own process is known to live: no word of a person changes that.
    assert_eq!(of(&holder("node1", "boot-a", 42), &["node1"]), Verdict::Held);
}

#[test]
fn tokens_grow_and_are_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let take = || files.acquire(&me(), "backup", Duration::ZERO, &[], &|| Ok(()));
    let lock = take().unwrap();
    assert_eq!((lock.token(), lock.left_behind()), (1, &[][..]));
    assert_eq!(files.holder().unwrap().unwrap().node, "node1");
    lock.still_ours().unwrap();
    drop(lock);
    assert_eq!(files.holder().unwrap(), None);
    assert_eq!(take().unwrap().token(), 2);
    assert_eq!(fs::read_to_string(directory.path().join("boots/node1")).unwrap(), "boot-a");
}

#[test]
fn who_was_fenced_stops_and_takes_nothing_back() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let lock = files.acquire(&me(), "backup", Duration::ZERO, &[], &|| Ok(())).unwrap();
    let other = Holder { token: 8, ..holder("node2", "boot-2", 9) };
    write(&files.record(), &other).unwrap();
    let error = lock.still_ours().unwrap_err();
    assert!(error.is::<pc_cli::TryAgain>());
    assert_eq!(
        error.to_string(),
        "node2 took over since 2026-01-01T00:00:00Z, token 8 after our 1: ending without a further write"
    );
    drop(lock);
    assert_eq!(files.holder().unwrap(), Some(other));
}

#[test]
fn a_record_of_another_node_is_later_and_a_broken_one_is_for_a_person() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    fs::create_dir_all(&files.directory).unwrap();
    write(&files.record(), &holder("node2", "boot-2", 9)).unwrap();
    let error = files.acquire(&me(), "prune", Duration::ZERO, &[], &|| Ok(())).unwrap_err();
    assert!(error.is::<pc_cli::TryAgain>());
    let told = error.to_string();
    assert!(told.contains("in use by node2 since 2026-01-01T00:00:00Z (backup, process 9)"), "{told}");
    assert!(told.ends_with("--holder-is-dead node2"), "{told}");
    let lock = files.acquire(&me(), "prune", Duration::ZERO, &["node2".into()], &|| Ok(())).unwrap();
    let gone = [Boot { node: "node2".into(), boot_id: "boot-2".into() }];
    assert_eq!((lock.token(), lock.left_behind()), (8, &gone[..]));
    // It was vouched for once: whoever comes next still knows, until somebody has looked what was left.
    drop(lock);
    let mut lock = files.acquire(&me(), "prune", Duration::ZERO, &[], &|| Ok(())).unwrap();
    assert_eq!(lock.left_behind(), gone);
    lock.cleared().unwrap();
    drop(lock);
    let lock = files.acquire(&me(), "prune", Duration::ZERO, &[], &|| Ok(())).unwrap();
    assert!(lock.left_behind().is_empty());
    drop(lock);
    for (text, says) in [("{", "EOF while parsing"), (r#"{"schema": "x"}"#, r#"its schema is "x""#)] {
        fs::write(files.record(), text).unwrap();
        let error = files.acquire(&me(), "prune", Duration::ZERO, &[], &|| Ok(())).unwrap_err();
        assert!(error.is::<pc_cli::Refused>() && error.to_string().contains(says), "{error}");
    }
}

/// POSIX locks belong to a process, so another one has to hold it.
#[test]
fn a_living_holder_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    drop(files.acquire(&me(), "backup", Duration::ZERO, &[], &|| Ok(())).unwrap());
    let script = "import fcntl,sys; f=open(sys.argv[1],'r+'); fcntl.lockf(f,fcntl.LOCK_EX); \
                  print('held',flush=True); sys.stdin.readline()";
    let mut other = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(files.directory.join("lock"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = other.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    let busy = files.acquire(&me(), "backup", Duration::ZERO, &[], &|| Ok(())).unwrap_err();
    assert!(busy.is::<pc_cli::TryAgain>(), "{busy:#}");
    // It ends while somebody waits.
    let ending = std::thread::spawn(move || {
        drop(other.stdin.take());
        other.wait().unwrap()
    });
    let lock = files.acquire(&me(), "backup", Duration::from_secs(60), &[], &|| Ok(())).unwrap();
    assert_eq!(lock.token(), 2);
    ending.join().unwrap();
}
