//! Every query of every dashboard, put to a real Prometheus that scrapes recorded metrics by the shipped configuration: it
//! answers, and with the labels that the panel shows.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::service::PATIENCE;

const TELEMETRY: &str = "../../telemetry";
/// What the tools have on record, as metrics; what no recorded answer has; what node-exporter says.
const OURS: &[&str] = &["tests/golden/format.prom", "fixtures/scrape/others.txt"];
const NODE_EXPORTER: &str = "fixtures/node_exporter-1.5/metrics.txt";

/// The same scrape for everybody who asks, until the test ends.
fn told_by_all(text: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let request = BufReader::new(&client).lines().map_while(Result::ok);
            request.take_while(|line| !line.is_empty()).for_each(drop);
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n\r\n";
            // A client that goes away is none of ours.
            let _ = client.write_all(format!("{head}{text}").as_bytes());
        }
    });
    address
}

struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    /// With the configuration in this directory.
    fn start(directory: &Path) -> Prometheus {
        // Its log does not say which port it got: one that was free a moment ago is asked for.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", directory.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Prometheus { child, url: format!("http://127.0.0.1:{port}") }
    }

    /// The answer of this moment, a series a line; nothing while it does not answer.
    fn ask(&self, query: &str) -> Vec<String> {
        let output =
            Command::new("promtool").args(["query", "instant", "--", &self.url, query]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| line.contains(" => ")).map(String::from).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The shipped configuration and rules, with node1 of the shipped targets at these addresses and no other machine.
fn configured(directory: &Path, exporters: &BTreeMap<&str, SocketAddr>) {
    let shipped = fs::read_to_string(format!("{TELEMETRY}/prometheus.yml")).unwrap();
    let hasty = shipped.replace("_interval: 30s", "_interval: 1s");
    assert_ne!(shipped, hasty);
    fs::write(directory.join("prometheus.yml"), hasty).unwrap();
    for kind in ["rules", "targets"] {
        fs::create_dir(directory.join(kind)).unwrap();
        for entry in fs::read_dir(format!("{TELEMETRY}/{kind}")).unwrap() {
            let entry = entry.unwrap();
            let mut text = fs::read_to_string(entry.path()).unwrap();
            if kind == "targets" {
                let mut groups: Vec<Value> = serde_json::from_str(&text).unwrap();
                groups.retain(|group| group["labels"]["node"] == "node1");
                for group in &mut groups {
                    let address = exporters[group["labels"]["role"].as_str().unwrap()];
                    group["targets"] = serde_json::json!([address.to_string()]);
                }
                text = serde_json::to_string(&groups).unwrap();
            }
            fs::write(
                directory.join(kind).join(entry.file_name()),
                text.replace("interval: 1m", "interval: 1s"),
            )
            .unwrap();
        }
    }
}

/// As Grafana puts it when a person has chosen the one cluster, the one node and all of the rest.
fn filled_in(query: &str) -> String {
    let chosen = [("$cluster", "home"), ("$node", "node1"), ("$vm", ".*"), ("$policy", ".*")];
    let text = chosen.iter().fold(query.to_string(), |text, (name, value)| text.replace(name, value));
    assert!(!text.contains('$'), "{text}");
    text
}

/// A question of a dashboard, and the labels that its answer must have.
struct Question {
    place: String,
    query: String,
    labels: Vec<String>,
}

fn questions() -> Vec<Question> {
    let mut questions = Vec::new();
    for entry in fs::read_dir(format!("{TELEMETRY}/dashboards")).unwrap() {
        let board: Value = serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        let title = board["title"].as_str().unwrap();
        for panel in board["panels"].as_array().unwrap() {
            let place = format!("{title}: {}", panel["title"].as_str().unwrap());
            for target in panel["targets"].as_array().unwrap() {
                let legend = target["legendFormat"].as_str().unwrap();
                let names = legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
                questions.push(Question {
                    place: place.clone(),
                    query: filled_in(target["expr"].as_str().unwrap()),
                    labels: names.map(String::from).collect(),
                });
            }
        }
        for variable in board["templating"]["list"].as_array().unwrap() {
            let Some(definition) = variable["definition"].as_str() else { continue };
            let inner = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (series, label) = inner.unwrap().rsplit_once(", ").unwrap();
            questions.push(Question {
                place: format!("{title}: ${}", variable["name"].as_str().unwrap()),
                query: filled_in(series),
                labels: vec![label.into()],
            });
        }
    }
    questions
}

#[test]
fn every_query_of_a_dashboard_is_answered() {
    let read = |path: &&str| fs::read_to_string(path).unwrap();
    let ours: String = OURS.iter().map(read).collect();
    let exporters =
        BTreeMap::from([("pc-exporter", told_by_all(ours)), ("node", told_by_all(read(&NODE_EXPORTER)))]);
    let directory = tempfile::tempdir().unwrap();
    configured(directory.path(), &exporters);
    let prometheus = Prometheus::start(directory.path());
    let mut open = questions();
    assert!(open.len() >= 80, "the dashboards are read: {}", open.len());
    // Rates need two scrapes, recorded rules a round of them.
    let end = Instant::now() + PATIENCE;
    loop {
        open.retain(|question| {
            let answer = prometheus.ask(&question.query);
            let named =
                |line: &String| question.labels.iter().all(|label| line.contains(&format!("{label}=\"")));
            answer.is_empty() || !answer.iter().all(named)
        });
        if open.is_empty() {
            break;
        }
        let left: Vec<String> =
            open.iter().map(|one| format!("{}: {} has no {:?}", one.place, one.query, one.labels)).collect();
        assert!(Instant::now() < end, "without an answer: {left:#?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}
