//! A VM of libvirt's test driver, asked through the real virsh.

use crate::{dirty, ended, write};

#[test]
fn disks_of_a_vm_are_those_of_its_definition() {
    let directory = tempfile::tempdir().unwrap();
    let image = write(directory.path(), "disk.img", &vec![1; 100_000]);
    let node = format!(
        "<node><domain type='test'><name>mail</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid><memory>65536</memory>\
         <os><type>hvm</type></os><devices><disk type='file' device='disk'><source file='{}'/><target dev='vda'/></disk>\
         <disk type='file' device='cdrom'><target dev='hda'/><readonly/></disk></devices></domain></node>",
        image.display()
    );
    let node = write(directory.path(), "node.xml", node.as_bytes());
    let uri = format!("test://{}", node.display());
    let output = dirty().args(["mail", "--json", "--connect", &uri]).output().unwrap();
    // The test driver's domains run from the start.
    assert!(ended(&output, 0).contains("warning: mail runs: its images may change while they are read"));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["vm"], &answer["running"]), (&"mail".into(), &true.into()));
    assert_eq!(answer["disks"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&answer["disks"][0]["name"], &answer["disks"][0]["size_bytes"]),
        (&"vda".into(), &100_000.into())
    );
    let unknown = dirty().args(["nobody", "--connect", &uri]).output().unwrap();
    assert!(ended(&unknown, 2).contains("knows no VM \"nobody\"\n  virsh --connect"));
}
