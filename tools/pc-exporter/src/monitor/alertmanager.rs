//! Alertmanager: who is told, how often, and what is not worth telling.

use cluster::{Cluster, Monitor};

use super::{OWN, There};

/// Debian's mail servers offer no TLS to the machine itself.
const LOCAL: &str = "localhost:25";

/// What follows the receiver that everything goes to.
const ROUTE: &str = "  group_by: [cluster, alertname]
  group_wait: 1m
  group_interval: 10m
  repeat_interval: 1d
  routes:
    - matchers: [severity=\"critical\"]
      group_wait: 15s
      repeat_interval: 4h
inhibit_rules:
  # Of a node that is down, nothing less is news.
  - source_matchers: [alertname=\"PersonalClusterNodeDown\"]
    target_matchers: [severity=\"warning\"]
    equal: [cluster, instance]
receivers:
";

/// alertmanager.yml.
pub fn configuration(file: &Cluster, there: There) -> String {
    let head = "# Written by `pc-exporter monitor` out of [monitor] of the cluster file: what is changed here is written over.\n\
                # An alertmanager.yml of your own in /etc/personal-cluster/monitor/ is taken instead.\n";
    let Some(monitor) = &file.monitor else {
        return format!("{head}route:\n  receiver: nobody\n{ROUTE}  - name: nobody\n");
    };
    let mails = monitor.mail.iter().fold(String::new(), |text, address| {
        text + "      - to: " + &quoted(address) + "\n        send_resolved: true\n"
    });
    let global = global(monitor, there);
    format!("{head}{global}route:\n  receiver: mail\n{ROUTE}  - name: mail\n    email_configs:\n{mails}")
}

fn global(monitor: &Monitor, there: There) -> String {
    let from = monitor.from.as_ref().or(monitor.mail.first()).map(String::as_str).unwrap_or_default();
    let smarthost = monitor.smarthost.as_deref().unwrap_or(LOCAL);
    let login = match &monitor.user {
        Some(user) if there.password => format!(
            "  smtp_auth_username: {}\n  smtp_auth_password_file: {OWN}/smtp.password\n",
            quoted(user)
        ),
        _ => String::new(),
    };
    format!(
        "global:\n  smtp_from: {}\n  smtp_smarthost: {}\n  smtp_require_tls: {}\n{login}",
        quoted(from),
        quoted(smarthost),
        monitor.smarthost.is_some(),
    )
}

/// alertmanager.env. It has no peers, so it opens no port for them.
pub fn environment(directory: &str) -> String {
    format!(
        "# Read by prometheus-alertmanager.service (/usr/lib/systemd/system/prometheus-alertmanager.service.d/50-personal-cluster.conf).\n\
         ARGS=\"--config.file={directory}/alertmanager.yml --web.listen-address=127.0.0.1:9093 --cluster.listen-address=\"\n"
    )
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
