//! The JSON that others read, against golden files, to the byte: order of fields included.

use crate::common::compare;
use crate::machine::Machine;

#[test]
fn golden() {
    let machine = Machine::configured();
    compare("plan-take-over.json", &machine.pc(&["plan", "--take-over", "--json"]).with(0).out);
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    compare("status.json", &machine.pc(&["status", "--json"]).with(0).out);
    compare("status.json", &machine.read("run/personal-cluster/ovs.json"));

    let machine = Machine::blank();
    compare("plan.json", &machine.pc(&["plan", "--json"]).with(0).out);
    machine.write("etc/network/interfaces", crate::machine::INTERFACES);
    compare("status-refused.json", &machine.pc(&["status", "--json"]).with(0).out);
    machine.write("etc/network/interfaces", "");
    compare("apply.json", &machine.pc(&["apply", "--json"]).with(0).out);
}
