//! Collector: how long each VM may be down, out of the cluster file; an alert holds what happened against it.

use cluster::Cluster;

use crate::metric::{Samples, families};

families! {
    BUDGET: Gauge "pc_vm_downtime_budget_seconds" ["vm", "period"] "How long the VM may be down within the period, by the cluster file; every node tells the same.";
}

/// Of every VM that has one.
pub fn look(file: &Cluster) -> Samples {
    let mut samples = Samples::default();
    for (name, vm) in &file.vms {
        if let Some(budget) = vm.budget() {
            samples.count(&BUDGET, &[name.as_str(), budget.period], budget.seconds);
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
                    disks.vms = [\"/dev/disk/by-id/nvme-A\"]\n[volume.vms]\nuse = \"vm\"\nreplicas = 1\n";
        let text = format!(
            "{head}{}{}{}",
            vm("db", "downtime_budget = \"90min/week\""),
            vm("mail", "downtime_budget = \"3d/month\""),
            vm("web", "")
        );
        let samples = super::look(&cluster::parse("test", &text).unwrap()).0;
        let seen: Vec<_> =
            samples.iter().map(|sample| (sample.labels.join("/"), sample.value.to_string())).collect();
        let told = |labels: &str, value: &str| (labels.to_string(), value.to_string());
        assert_eq!(seen, [told("db/week", "5400"), told("mail/month", "259200")]);
    }
}
