//! The JSON that others read, against golden files, to the byte: order of fields included.

use crate::common::compare;
use crate::machine::Machine;

/// What a kernel has dropped by now is its own business: any number is 0, and that there is one is in the golden file.
fn counted(text: &str) -> String {
    let line = |line: &str| match line.split_once("\": ") {
        Some((key, number)) if key.ends_with("_dropped") || key.ends_with("_errors") => {
            let digits = number.trim_end_matches(',').bytes().all(|byte| byte.is_ascii_digit());
            let comma = if number.ends_with(',') { "," } else { "" };
            if digits { format!("{key}\": 0{comma}\n") } else { format!("{line}\n") }
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn golden() {
    let machine = Machine::configured();
    compare("plan-take-over.json", &machine.pc(&["plan", "--take-over", "--json"]).with(0).out);
    machine.pc(&["apply", "--take-over", "--confirm", "30s"]).with(0);
    compare("status.json", &counted(&machine.pc(&["status", "--json"]).with(0).out));
    compare("status.json", &counted(&machine.read("run/personal-cluster/ovs.json")));

    let machine = Machine::blank();
    compare("plan.json", &machine.pc(&["plan", "--json"]).with(0).out);
    machine.write("etc/network/interfaces", crate::machine::INTERFACES);
    compare("status-refused.json", &machine.pc(&["status", "--json"]).with(0).out);
    machine.write("etc/network/interfaces", "");
    compare("apply.json", &machine.pc(&["apply", "--json"]).with(0).out);
}
