use std::path::PathBuf;

use pc_cli::Refused;
use xshell::{Shell, cmd};

use super::*;
use crate::qemu_img;

/// A directory with `base.raw`: 3 MiB whose second one is sevens.
struct Place {
    directory: tempfile::TempDir,
    sh: Shell,
}

impl Place {
    fn new() -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap(), sh: Shell::new().unwrap() };
        place.sh.change_dir(place.directory.path());
        let mut bytes = vec![0; 3 << 20];
        bytes[1 << 20..2 << 20].fill(7);
        std::fs::write(place.path("base.raw"), bytes).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn look(&self, name: &str) -> Result<Input> {
        look(&self.path(name), name)
    }

    /// What it says of a file that it does not take.
    fn refusal(&self, name: &str) -> String {
        let error = self.look(name).unwrap_err();
        assert!(error.is::<Refused>(), "{error:#}");
        error.to_string()
    }

    /// Reads an image as it was found to be, and compares it with the base.
    fn assert_holds_base(&self, name: &str) {
        let input = self.look(name).unwrap();
        assert_eq!(qemu_img::info(&input).unwrap().virtual_size, 3 << 20, "{name}");
        let copy = self.path("copy");
        qemu_img::convert(&input, Format::Raw, &copy).unwrap();
        assert!(std::fs::read(copy).unwrap() == std::fs::read(self.path("base.raw")).unwrap(), "{name}");
    }

    fn vmdk(&self, name: &str, subformat: &str) {
        let option = format!("subformat={subformat}");
        cmd!(self.sh, "qemu-img convert -f raw -O vmdk -o {option} base.raw {name}").run().unwrap();
    }
}

#[test]
fn each_kind_is_known_by_its_own_bytes() {
    let place = Place::new();
    place.assert_holds_base("base.raw");
    let sh = &place.sh;
    cmd!(sh, "qemu-img convert -c -f raw -O qcow2 base.raw disk.img").run().unwrap();
    place.assert_holds_base("disk.img");
    for subformat in ["monolithicSparse", "streamOptimized"] {
        place.vmdk(subformat, subformat);
        place.assert_holds_base(subformat);
    }
}

/// As appliances come, and with a size that has no room in the header.
#[test]
fn the_disk_of_an_appliance_is_read_where_it_lies() {
    let place = Place::new();
    place.vmdk("disk1.vmdk", "streamOptimized");
    let sh = &place.sh;
    sh.write_file("box.ovf", "<Envelope/>").unwrap();
    sh.write_file("box.mf", "SHA256(box.ovf)= 00\n").unwrap();
    for format in ["ustar", "gnu", "pax"] {
        cmd!(sh, "tar --format={format} -cf box.ova box.ovf box.mf disk1.vmdk").run().unwrap();
        place.assert_holds_base("box.ova");
    }
    cmd!(sh, "tar --format=pax --pax-option=size:=2 -cf sized.ova box.ovf").run().unwrap();
    let file = File::open(place.path("sized.ova")).unwrap();
    let members = ova::members(&file, file.metadata().unwrap().len(), "sized.ova").unwrap();
    assert_eq!((members[0].name.as_str(), members[0].bytes), ("box.ovf", 2));
    // A long name comes in a member of its own.
    let long = format!("{}.vmdk", "x".repeat(120));
    cmd!(sh, "cp disk1.vmdk {long}").run().unwrap();
    cmd!(sh, "tar --format=gnu -cf long.ova box.ovf {long}").run().unwrap();
    place.assert_holds_base("long.ova");
}

#[test]
fn an_appliance_with_another_number_of_disks_is_refused() {
    let place = Place::new();
    place.vmdk("a.vmdk", "streamOptimized");
    let sh = &place.sh;
    place.vmdk("b.vmdk", "streamOptimized");
    cmd!(sh, "tar -cf two.ova a.vmdk base.raw b.vmdk").run().unwrap();
    let says =
        "two.ova: holds 2 disks, and a VM has one\n  tar -xf two.ova, then import the one that it boots from";
    assert_eq!(place.refusal("two.ova"), says);
    cmd!(sh, "tar -cf none.ova base.raw").run().unwrap();
    assert_eq!(
        place.refusal("none.ova"),
        "none.ova: is an archive without a VMDK or qcow2 disk\n  tar -tvf none.ova"
    );
}

#[test]
fn a_damaged_appliance_is_refused() {
    let place = Place::new();
    place.vmdk("a.vmdk", "streamOptimized");
    let sh = &place.sh;
    cmd!(sh, "tar -cf whole.ova a.vmdk").run().unwrap();
    let whole = std::fs::read(place.path("whole.ova")).unwrap();
    std::fs::write(place.path("cut.ova"), &whole[..2048]).unwrap();
    assert_eq!(
        place.refusal("cut.ova"),
        "cut.ova: is cut off: a member ends behind its end\n  fetch it again"
    );
    let mut flipped = whole;
    flipped[3] ^= 1;
    std::fs::write(place.path("flipped.ova"), flipped).unwrap();
    let says = "flipped.ova: is damaged: the checksum of a member does not match\n  fetch it again";
    assert_eq!(place.refusal("flipped.ova"), says);
}

/// Such an image would have qemu-img, which is root here, open whatever file it names.
#[test]
fn what_names_other_files_is_never_opened() {
    let place = Place::new();
    for subformat in ["monolithicFlat", "twoGbMaxExtentSparse"] {
        let name = format!("{subformat}.vmdk");
        place.vmdk(&name, subformat);
        let says = format!(
            "{name}: describes a disk whose data is in other files\n  \
             where they are: qemu-img convert -O qcow2 {name} disk.qcow2"
        );
        assert_eq!(place.refusal(&name), says);
    }
    // A sparse header without capacity has the description further on.
    place.vmdk("hidden.vmdk", "monolithicSparse");
    let mut bytes = std::fs::read(place.path("hidden.vmdk")).unwrap();
    bytes[12..20].fill(0);
    std::fs::write(place.path("hidden.vmdk"), bytes).unwrap();
    assert!(place.refusal("hidden.vmdk").contains("describes a disk"));
    // A parent is no data file, but is read all the same.
    let sh = &place.sh;
    cmd!(sh, "qemu-img create -q -f qcow2 -F raw -b base.raw over.qcow2").run().unwrap();
    assert!(qemu_img::info(&place.look("over.qcow2").unwrap()).unwrap().reads_other_files());
    place.vmdk("parent.vmdk", "monolithicSparse");
    cmd!(sh, "qemu-img create -q -f vmdk -F vmdk -b parent.vmdk over.vmdk").run().unwrap();
    assert!(qemu_img::info(&place.look("over.vmdk").unwrap()).unwrap().reads_other_files());
}

#[test]
fn what_is_no_image_of_ours_is_named_with_the_way_to_one() {
    let place = Place::new();
    let sh = &place.sh;
    for (format, what) in [
        ("vdi", "a VirtualBox disk (VDI)"),
        ("vhdx", "a Hyper-V disk (VHDX)"),
        ("vpc", "a Virtual PC disk (VHD)"),
    ] {
        cmd!(sh, "qemu-img convert -f raw -O {format} base.raw other").run().unwrap();
        let says = format!(
            "other: is {what}, not raw, qcow2, VMDK or an OVA\n  qemu-img convert -O qcow2 other disk.qcow2"
        );
        assert_eq!(place.refusal("other"), says);
    }
    // Of this kind only the end tells.
    cmd!(sh, "qemu-img convert -f raw -O vpc -o subformat=fixed base.raw fixed").run().unwrap();
    assert!(place.refusal("fixed").contains("a Virtual PC disk (VHD)"));
    cmd!(sh, "gzip -k base.raw").run().unwrap();
    assert_eq!(place.refusal("base.raw.gz"), "base.raw.gz: is compressed (gzip)\n  gunzip -k base.raw.gz");
    sh.write_file("nothing", "").unwrap();
    assert_eq!(place.refusal("nothing"), "nothing: is empty");
}
