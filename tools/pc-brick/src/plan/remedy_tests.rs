use super::tests::{OURS, brick, disk, known, refused, sealed};
use super::*;

/// What the person at the machine is told to run, in this order: nothing that destroys before what restores.
#[test]
fn a_header_that_can_come_back_is_restored_before_anything_is_given_up() {
    let device = "/dev/disk/by-id/ata-A";
    let remedy = |facts: &Facts| match judge(&brick(Use::Vm), facts, true) {
        Verdict::Refused(refusal) => refusal.remedy,
        other => panic!("{other:?}"),
    };
    let image = || Some(Backup::Image("/headers/ata-A.img".into()));
    let back = "  # its data comes back with its header";
    let forget = format!("pc-brick forget {device}  # if that brick is gone for good");
    for state in [State::Formatted, State::Made, State::Done] {
        for content in [Content::Blank, Content::Unknown] {
            let facts = known(state, content);
            assert_eq!(remedy(&facts), forget);
            let facts = Facts { header_backup: Some(sealed()), ..facts };
            assert_eq!(remedy(&facts), format!("pc-unlock header restore {device}{back}\n  {forget}"));
            let facts = Facts { header_backup: image(), ..facts };
            let command =
                format!("cryptsetup luksHeaderRestore {device} --header-backup-file /headers/ata-A.img");
            assert_eq!(remedy(&facts), format!("{command}{back}\n  {forget}"));
        }
    }
    // An installer, mkfs or luksFormat on the wrong disk.
    let foreign = || Content::Luks2(Luks { uuid: "another".into(), ..Luks::default() });
    let ext4 = || Content::Found(vec!["ext4".into()]);
    let mistake = "  # if what is there now came by mistake: it is lost, the brick's data comes back";
    for (content, flag) in [(ext4(), "--yes-destroy-all-data-on-it"), (foreign(), "--overwrite-other-device")]
    {
        let facts = known(State::Done, content.clone());
        assert_eq!(remedy(&facts), forget);
        let facts = Facts { header_backup: Some(sealed()), ..facts };
        assert_eq!(remedy(&facts), format!("pc-unlock header restore {device} {flag}{mistake}\n  {forget}"));
        let kept_backup = Some(Backup::Sealed("/headers/ata-A.x.jwe".into()));
        let facts = Facts { kept_backup, ..disk(content) };
        let line = format!("pc-unlock header restore {device} --from /headers/ata-A.x.jwe {flag}");
        assert!(remedy(&facts).starts_with(&line), "{}", remedy(&facts));
        assert!(remedy(&facts).ends_with(", nor that backup, which is lost with it"));
    }
    // Forgotten, or its record lost.
    let kept = || Some(Backup::Sealed(format!("/headers/ata-A.{OURS}.jwe")));
    let then = format!("  # if it is that brick, its data comes back: then pc-brick adopt {device}");
    let wipe = format!("pc-brick wipe {device} --yes-destroy-all-data-on-it  # if nothing on it is needed");
    assert_eq!(remedy(&disk(Content::Unknown)), wipe);
    let lost = ", nor that backup, which is lost with it";
    for (header_backup, kept_backup, command) in [
        (
            None,
            kept(),
            format!(
                "pc-unlock header restore {device} --from /headers/ata-A.{OURS}.jwe --yes-destroy-all-data-on-it"
            ),
        ),
        (
            Some(sealed()),
            kept(),
            format!(
                "pc-unlock header restore {device} --from /headers/ata-A.jwe --yes-destroy-all-data-on-it"
            ),
        ),
        (
            None,
            image(),
            format!("cryptsetup luksHeaderRestore {device} --header-backup-file /headers/ata-A.img"),
        ),
    ] {
        let facts = Facts { header_backup, kept_backup, ..disk(Content::Unknown) };
        assert_eq!(remedy(&facts), format!("{command}{then}\n  {wipe}{lost}"));
        assert!(refused(&facts).starts_with("holds data without a signature, and a backup of a LUKS header"));
    }
}
