//! What makes a VM the same VM on every node: UUID, MAC addresses, port ids. Derived from names, so that no
//! node has to be told by another, and a definition that is made again is the same definition. pc-vm plugs a port in
//! by these, pc-ovs says by the same who may use it.

use sha2::{Digest, Sha256};

use crate::names::Name;

fn digest(kind: &str, parts: &[&Name]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"personal-cluster/");
    hash.update(kind);
    for part in parts {
        // Names hold no slash: no two lists of names read the same.
        hash.update(b"/");
        hash.update(part.as_str());
    }
    hash.finalize().into()
}

/// The first 16 bytes of a hash as a UUID of version 8 (RFC 9562: the maker's own derivation).
fn uuid_of(hash: &[u8; 32]) -> String {
    let mut number = [0; 16];
    number.copy_from_slice(&hash[..16]);
    // Version in the top four bits of the third group, variant in the top two of the fourth.
    let kept = u128::from_be_bytes(number) & !(0xf000 << 64) & !(0xc000 << 48);
    let number = kept | (0x8000 << 64) | (0x8000 << 48);
    let hex = format!("{number:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The domain's UUID.
pub fn uuid(cluster: &Name, vm: &Name) -> String {
    uuid_of(&digest("vm", &[cluster, vm]))
}

/// The id of a VM's port in Open vSwitch (`external_ids:iface-id`).
pub fn interface_id(cluster: &Name, vm: &Name, network: &Name) -> String {
    uuid_of(&digest("interface", &[cluster, vm, network]))
}

/// The MAC address of a VM on one network: QEMU's prefix 52:54:00 and 24 bits of a hash.
pub fn mac(cluster: &Name, vm: &Name, network: &Name) -> String {
    let hash = digest("mac", &[cluster, vm, network]);
    format!("52:54:00:{:02x}:{:02x}:{:02x}", hash[0], hash[1], hash[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::try_from(text.to_string()).unwrap()
    }

    #[test]
    fn the_same_names_give_the_same_vm() {
        let (home, mail, lan) = (name("home"), name("mail"), name("lan"));
        // printf personal-cluster/vm/home/mail | sha256sum, version and variant set by hand; and so on.
        assert_eq!(uuid(&home, &mail), "32bb3f29-f1f3-8955-8093-5b31b9c88b6c");
        assert_eq!(mac(&home, &mail, &lan), "52:54:00:82:ef:34");
        assert_eq!(interface_id(&home, &mail, &lan), "78d013c2-c563-86e3-b684-fc6d85c57199");
        assert_ne!(uuid(&home, &mail), uuid(&name("office"), &mail));
        assert_ne!(mac(&home, &mail, &lan), mac(&home, &mail, &name("wan")));
    }
}
