//! What is believed: whole answers about this state, and even those only so far.

use std::process::Stdio;

use crate::lab::{Lab, Random, SEGMENT, ended, ok};

fn save(lab: &Lab) {
    let mut command = lab.segments();
    command.args(["--", "sh", "-c", "cat \"$0\"/vda/* > /dev/null"]).arg(lab.view());
    ok(&command.output().unwrap());
}

#[test]
fn a_map_that_lies_is_found_and_everything_is_read_next() {
    let lab = Lab::new();
    let content = Random(5).bytes(30 * SEGMENT);
    let image = lab.image(&content);
    save(&lab);
    let lie = lab.extents(&content, &content, "bitmap");
    // Something wrote to the image that the map does not know of.
    let mut changed = content.clone();
    changed[17 * SEGMENT] ^= 1;
    std::fs::write(&image, &changed).unwrap();

    let mut command = lab.with_extents(&lie);
    command.args(["--verify-share", "100", "--", "touch"]).arg(lab.path("ran"));
    let said = ended(&command.output().unwrap(), 1);
    assert!(said.contains("disk vda, segment 17: changed, although nothing said so"), "{said}");
    assert!(!lab.path("ran").exists());
    assert_eq!(lab.report()["disks"][0]["mismatched_segments"], serde_json::json!([17]));
    assert_eq!(lab.report()["ended_by"], "mismatch");

    let mut command = lab.with_extents(&lie);
    command.args(["--", "sh", "-c", "cat \"$0\"/vda/* > /dev/null"]).arg(lab.view());
    ok(&command.output().unwrap());
    let report = lab.report();
    assert_eq!(report["disks"][0]["dirty_segments"], 30);
    assert!(report["everything"].as_str().unwrap().contains("found the state wrong: disk vda, segment 17"));
    // From then on the map counts again.
    let mut command = lab.with_extents(&lab.extents(&changed, &changed, "bitmap"));
    ok(&command.args(["--", "true"]).output().unwrap());
    assert_eq!(lab.report()["disks"][0]["dirty_segments"], 0);
}

#[test]
fn the_usual_share_finds_a_lie_within_a_hundred_runs() {
    let lab = Lab::new();
    let content = vec![3; 30 * SEGMENT];
    let image = lab.image(&content);
    save(&lab);
    let lie = lab.extents(&content, &content, "bitmap");
    let mut changed = content.clone();
    changed[9 * SEGMENT..10 * SEGMENT].fill(4);
    std::fs::write(&image, &changed).unwrap();
    let found = (0..34).position(|_| {
        let mut command = lab.with_extents(&lie);
        // A third of the segments each run.
        command
            .args(["--verify-share", "34", "--commit-on", "7", "--", "true"])
            .output()
            .unwrap()
            .status
            .code()
            == Some(1)
            && lab.report()["ended_by"] == "mismatch"
    });
    assert!(found.unwrap() < 3, "{found:?}");
}

#[test]
fn a_reader_of_a_clean_segment_finds_the_lie_too() {
    let lab = Lab::new();
    let content = vec![3; 3 * SEGMENT];
    let image = lab.image(&content);
    save(&lab);
    let lie = lab.extents(&content, &content, "digest");
    std::fs::write(&image, vec![4; 3 * SEGMENT]).unwrap();
    let mut command = lab.with_extents(&lie);
    command.args(["--", "sh", "-c", "cat \"$0\"/vda/0000000002 > /dev/null"]).arg(lab.view());
    assert!(ended(&command.output().unwrap(), 1).contains("disk vda, segment 2: changed"));
    assert_eq!(lab.report()["committed"], false);
}

#[test]
fn hostile_and_foreign_extents_are_refused_before_anything_is_shown() {
    let lab = Lab::new();
    let content = vec![1; 3 * SEGMENT];
    lab.image(&content);
    save(&lab);
    let good = lab.extents(&vec![0; 3 * SEGMENT], &content, "digest");
    let refused = |extents: &str| {
        let mut command = lab.with_extents(extents);
        let output = command.args(["--", "touch"]).arg(lab.path("ran")).output().unwrap();
        assert!(!lab.path("ran").exists());
        ended(&output, 2)
    };
    for (extents, expected) in [
        (String::new(), "empty: whoever writes the extents failed"),
        (good[..good.len() / 2].to_string(), "not pc.dirty.extents/1"),
        (good.replace("\"since\":\"state:", "\"since\":\"state:0"), "but the state is"),
        (good.replace("\"size_bytes\":196608", "\"size_bytes\":196609"), "but the extents speak of 196609"),
        (good.replace("\"name\":\"vda\"", "\"name\":\"vdz\""), "which is not on the command line"),
        (good.replace("\"offset_bytes\":0", "\"offset_bytes\":18446744073709551615"), "ends beyond the disk"),
        ("[".repeat(100_000), "not pc.dirty.extents/1"),
    ] {
        let said = refused(&extents);
        assert!(said.contains(expected), "{said}");
    }
    assert!(refused("\u{0}").contains("extents.json: not pc.dirty.extents/1"));
}

#[test]
fn standard_input_is_read_when_it_can_speak() {
    let lab = Lab::new();
    let content = vec![1; 3 * SEGMENT];
    lab.image(&content);
    save(&lab);
    let path = lab.path("given.json");
    std::fs::write(&path, lab.extents(&content, &content, "digest")).unwrap();
    let run = |stdin: Stdio| lab.segments().args(["--", "true"]).stdin(stdin).output().unwrap();
    ok(&run(std::fs::File::open(&path).unwrap().into()));
    assert_eq!(lab.report()["disks"][0]["dirty_segments"], 0);
    ok(&run(Stdio::null()));
    assert_eq!(lab.report()["everything"], "vda: no extents were given");
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(writer);
    assert!(
        ended(&run(reader.into()), 2).contains("standard input: empty: whoever writes the extents failed")
    );
}

#[test]
fn a_damaged_state_is_not_believed() {
    let lab = Lab::new();
    let content = vec![1; 3 * SEGMENT];
    lab.image(&content);
    save(&lab);
    let extents = lab.extents(&content, &content, "digest");
    let mut state = std::fs::read(lab.path("state")).unwrap();
    let record = state.len() - 33;
    state[record] ^= 1;
    std::fs::write(lab.path("state"), state).unwrap();
    let output = lab.with_extents(&extents).args(["--", "true"]).output().unwrap();
    ok(&output);
    assert!(ended(&output, 0).contains("state: damaged: its sum is wrong: everything counts as changed"));
    assert_eq!(lab.report()["disks"][0]["dirty_segments"], 3);
}
