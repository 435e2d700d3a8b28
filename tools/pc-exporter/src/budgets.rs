//! Collector: how long each VM may be down, and which can run on one node only, out of the cluster file; alerts hold what
//! happened against it.

use cluster::Cluster;

use crate::metric::{Samples, families};

families! {
    BUDGET: Gauge "pc_vm_downtime_budget_seconds" ["vm", "period"] "How long the VM may be down within the period, by the cluster file; every node tells the same.";
    ONLY_ON: Info "pc_vm_only_on_info" ["vm", "peer"] "The only node that can run the VM, as its disk or a device of it is there; every node tells the same.";
}

/// Of every VM that has one.
pub fn look(file: &Cluster) -> Samples {
    let mut samples = Samples::default();
    for (name, vm) in &file.vms {
        if let Some(budget) = vm.budget() {
            samples.count(&BUDGET, &[name.as_str(), budget.period], budget.seconds);
        }
        if let Some(home) = file.home_of(vm).filter(|_| file.stays_home(vm)) {
            samples.info(&ONLY_ON, &[name.as_str(), home.name.as_str()]);
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    #[test]
    fn of_the_file() {
        let vm = |name: &str, budget: &str| {
            format!(
                "[vm.{name}]\nmemory = \"1GiB\"\ndisk = \"1GiB\"\nvolume = \"vms\"\nnetworks = []\n{budget}\n"
            )
        };
        let head = "schema = \"personal-cluster/1\"\nname = \"home\"\n[[node]]\nname = \"node1\"\naddress = \"192.168.0.50\"\n\
                    disks.vms = [\"/dev/disk/by-id/nvme-A\"]\ndisks.local = [\"/dev/disk/by-id/nvme-B\"]\n[volume.vms]\nuse = \"vm\"\nreplicas = 1\n";
        let text = format!(
            "{head}[volume.local]\nuse = \"local\"\n{}{}{}{}",
            vm("cache", "").replace("\"vms\"", "\"local\""),
            vm("db", "downtime_budget = \"90min/week\""),
            vm("mail", "downtime_budget = \"3d/month\""),
            vm("web", "")
        );
        let samples = super::look(&cluster::parse("test", &text).unwrap()).0;
        let seen: Vec<_> =
            samples.iter().map(|sample| (sample.labels.join("/"), sample.value.to_string())).collect();
        let told = |labels: &str, value: &str| (labels.to_string(), value.to_string());
        assert_eq!(seen, [told("cache/node1", "1"), told("db/week", "5400"), told("mail/month", "259200")]);
    }
}
