//! How much of a node's memory its guests may have: what pacemaker counts, and what `pc-vm status` and `pc-ha upgrade` reckon with.

/// Of a node's memory this share stays the host's own, and no less than the other: Gluster, libvirt, Open vSwitch, and what
/// each QEMU needs beyond its guest's memory.
const SHARE: u64 = 16;
const LEAST: u64 = 512 << 20;

/// Bytes for guests, of so many that the node has.
#[must_use]
pub fn for_guests(total: u64) -> u64 {
    total.saturating_sub((total / SHARE).max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sixteenth_and_half_a_gibibyte_stay_the_host_s() {
        let mib = |total: u64| for_guests(total << 20) >> 20;
        assert_eq!([mib(400), mib(512), mib(4096), mib(8192), mib(32768)], [0, 0, 3584, 7680, 30720]);
    }
}
