//! Prometheus: what it scrapes, and the arguments that its unit is started with.

use cluster::Cluster;

use super::{OWN, There};

/// Up to the jobs. Paths are relative to the file.
const HEAD: &str = "\
# Written by `pc-exporter monitor` out of the cluster file: what is changed here is written over.
# Rules of your own belong in /etc/personal-cluster/monitor/rules/.
global:
  scrape_interval: 30s
  evaluation_interval: 30s
rule_files:
  - rules/*.yml
  - /etc/personal-cluster/monitor/rules/*.yml
alerting:
  alertmanagers:
    - static_configs:
        - targets: [\"127.0.0.1:9093\"]
scrape_configs:
";

/// A job's last lines.
const NAMED: &str = "    relabel_configs:
      # \"192.168.0.50:9100\" with the label node=\"node1\" is shown as \"node1\". The label stays: dashboards choose by it.
      - source_labels: [node]
        regex: (.+)
        target_label: instance
";

/// prometheus.yml. What is not there yet is not named: Prometheus would give up the job for good.
pub fn configuration(file: &Cluster, there: There) -> String {
    let guarded = file.exporter.clone().unwrap_or_default();
    let when = |wanted: bool, text: String| if wanted { text } else { String::new() };
    let tls = when(guarded.tls && there.ca, format!("    tls_config:\n      ca_file: {OWN}/ca.crt\n"));
    // Never in clear.
    let token = when(
        guarded.tls && guarded.token && there.token,
        format!("    authorization:\n      credentials_file: {OWN}/exporter.token\n"),
    );
    let job = |name: &str, guards: &str, targets: &str| {
        format!(
            "  - job_name: {name}\n{guards}    file_sd_configs:\n      - files: [targets/{targets}.json]\n{NAMED}"
        )
    };
    let nodes = job("personal-cluster", "", "node-exporter");
    let ours = job("personal-cluster-exporter", &(tls + &token), "pc-exporter");
    let cluster = &file.name;
    format!(
        "{HEAD}{nodes}{ours}  - job_name: personal-cluster-monitor
    static_configs:
      - targets: [\"127.0.0.1:9090\", \"127.0.0.1:9093\"]
        labels: {{cluster: \"{cluster}\", role: monitor}}
"
    )
}

/// prometheus.env. Downtime budgets look back a year; a small box is not filled for it.
pub fn environment(directory: &str) -> String {
    format!(
        "# Read by prometheus.service (/usr/lib/systemd/system/prometheus.service.d/50-personal-cluster.conf).\n\
         ARGS=\"--config.file={directory}/prometheus.yml --web.listen-address=127.0.0.1:9090 \
         --storage.tsdb.retention.time=400d --storage.tsdb.retention.size=5GB\"\n"
    )
}
