//! The disks of a libvirt domain, out of its XML: <https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms>.

use pc_cli::refused;
use roxmltree::{Document, Node};
use segment_map::{Format, Source, valid_name};

/// A domain.
#[derive(Debug, PartialEq, Eq)]
pub struct Domain {
    /// A QEMU process has its images open.
    pub running: bool,
    /// Its disks by target; what a guest cannot write is left out.
    pub disks: Vec<Source>,
}

/// Reads `virsh dumpxml`.
pub fn parse(vm: &str, xml: &str) -> anyhow::Result<Domain> {
    let document =
        Document::parse(xml).map_err(|error| anyhow::anyhow!("reading libvirt's XML of {vm}: {error}"))?;
    let domain = document.root_element();
    let devices = child(domain, "devices");
    let disks = devices.into_iter().flat_map(|devices| devices.children()).filter(|node| {
        let kind = node.attribute("device").unwrap_or("disk");
        node.has_tag_name("disk") && ["disk", "lun"].contains(&kind) && child(*node, "readonly").is_none()
    });
    let disks = disks.map(|node| disk(node).map_err(|fault| refused(format!("VM {vm}: {fault}"))));
    Ok(Domain { running: domain.attribute("id").is_some(), disks: disks.collect::<anyhow::Result<_>>()? })
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn disk(node: Node<'_, '_>) -> Result<Source, String> {
    let target = child(node, "target").and_then(|target| target.attribute("dev")).unwrap_or_default();
    if !valid_name(target) {
        return Err(format!("a disk has the target {target:?}"));
    }
    let source = child(node, "source");
    let path = source.and_then(|source| source.attribute("file").or_else(|| source.attribute("dev")));
    let Some(path) = path else {
        let kind = node.attribute("type").unwrap_or_default();
        return Err(format!(
            "disk {target} is no file and no block device ({kind})\n  pc-dirty --image {target}=nbd+unix:///EXPORT?socket=PATH"
        ));
    };
    let format = match child(node, "driver").and_then(|driver| driver.attribute("type")).unwrap_or("raw") {
        "raw" => Format::Raw(path.into()),
        "qcow2" => Format::Qcow2(path.into()),
        other => return Err(format!("disk {target} is {other}: raw and qcow2 are known")),
    };
    Ok(Source { name: target.into(), format })
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r"<domain type='kvm' id='3'>
      <name>mail</name>
      <devices>
        <emulator>/usr/bin/qemu-system-x86_64</emulator>
        <disk type='file' device='disk'>
          <driver name='qemu' type='raw' cache='none'/>
          <source file='/mnt/vms/vms/mail/disk.img'/>
          <target dev='vda' bus='virtio'/>
        </disk>
        <disk type='file' device='disk'>
          <driver name='qemu' type='raw'/><source file='/mnt/vms/vms/mail/seed.img'/>
          <target dev='vdb' bus='virtio'/><readonly/>
        </disk>
        <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
        <disk type='block' device='disk'><driver name='qemu' type='qcow2'/><source dev='/dev/vg/x'/><target dev='vdc'/></disk>
      </devices>
    </domain>";

    #[test]
    fn disks_are_what_a_guest_can_write() {
        let domain = parse("mail", XML).unwrap();
        let vda = Source { name: "vda".into(), format: Format::Raw("/mnt/vms/vms/mail/disk.img".into()) };
        let vdc = Source { name: "vdc".into(), format: Format::Qcow2("/dev/vg/x".into()) };
        assert_eq!(domain, Domain { running: true, disks: vec![vda, vdc] });
        assert!(!parse("mail", &XML.replace(" id='3'", "")).unwrap().running);
    }

    #[test]
    fn what_cannot_be_read_is_refused_not_left_out() {
        let refusal = |xml: &str| {
            let error = parse("mail", xml).unwrap_err();
            assert_eq!(pc_cli::Exit::of(&error), pc_cli::Exit::Refused);
            error.to_string()
        };
        let network = XML.replace("<source dev='/dev/vg/x'/>", "<source protocol='rbd' name='a'/>");
        assert!(refusal(&network).starts_with("VM mail: disk vdc is no file and no block device (block)\n"));
        assert!(
            refusal(&XML.replace("'qcow2'", "'vmdk'")).ends_with("disk vdc is vmdk: raw and qcow2 are known")
        );
        assert!(refusal(&XML.replace("dev='vdc'", "dev='../x'")).contains("the target \"../x\""));
        assert!(parse("mail", "<domain>").is_err());
    }
}
