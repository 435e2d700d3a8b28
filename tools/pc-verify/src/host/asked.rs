//! What is asked of others than our own tools: unlock servers and power supplies. Nothing is changed there.

use std::process::Command;
use std::time::Duration;

use cluster::Tang;
use pc_cli::log;
use tang_client::adv::Trust;
use tang_client::{Budget, Client};

use crate::machine::Server;

/// A server that takes longer is of no use to a machine that boots.
const SERVER: Duration = Duration::from_secs(2);

/// Asks each unlock server for its keys, all at once.
pub fn servers(tang: &[Tang], patience: Duration) -> Vec<Server> {
    let client = Client::new(Budget { server: SERVER.min(patience), attempt: SERVER.min(patience) });
    let ask = |server: &Tang| {
        let answer = client.advertisement(&server.url, &Trust::Pinned(&server.thumbprint));
        Server {
            url: server.url.clone(),
            fault: answer.err().map(|error| without_url(&error.to_string(), &server.url)),
        }
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = tang.iter().map(|server| (server, scope.spawn(move || ask(server)))).collect();
        let lost = |url: &str| Server { url: url.into(), fault: Some("asking it ended badly".into()) };
        asked
            .into_iter()
            .map(|(server, thread)| thread.join().unwrap_or_else(|_| lost(&server.url)))
            .collect()
    })
}

/// Its name stands before the fault already.
fn without_url(fault: &str, url: &str) -> String {
    let line = fault.lines().next().unwrap_or_default();
    let prefixes = [format!("asking {url}: "), format!("{url}: ")];
    let rest = prefixes.iter().find_map(|prefix| line.strip_prefix(prefix.as_str()));
    rest.unwrap_or(line).to_string()
}

/// Every power supply that NUT knows, with its status words. No NUT here, or none that answers: no word of it.
pub fn supplies(patience: Duration) -> Vec<(String, String)> {
    let upsc = |arguments: &[&str]| {
        let mut command = Command::new("upsc");
        command.args(arguments);
        pc_run::run(command).deadline(patience / 2).read()
    };
    let names = match upsc(&["-l"]) {
        Ok(names) => names,
        Err(error) => {
            log::debug(format_args!("asking NUT: {error}"));
            return Vec::new();
        }
    };
    let status = |name: &str| match upsc(&[name, "ups.status"]) {
        Ok(words) => Some((name.to_string(), words.trim().to_string())),
        Err(error) => {
            log::debug(format_args!("asking NUT for {name}: {error}"));
            None
        }
    };
    names.lines().map(str::trim).filter(|name| !name.is_empty()).filter_map(status).collect()
}
