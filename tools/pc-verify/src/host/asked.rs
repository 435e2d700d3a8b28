//! What is asked of others than our own tools: unlock servers and power supplies. Nothing is changed there.

use std::process::Command;
use std::time::Duration;

use cluster::Tang;
use pc_cli::log;
use tang_client::adv::Trust;
use tang_client::{Budget, Client};

use crate::machine::{Server, Supply};

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

/// Every power supply that NUT knows, all at once. No NUT here, or none that takes questions: no word of it.
pub fn supplies(patience: Duration) -> Vec<Supply> {
    let names = match upsc(&["-l"], patience) {
        Ok(names) => names,
        Err(error @ pc_run::Error::TimedOut { .. }) => {
            return vec![Supply { name: None, status: Err(error.to_string()) }];
        }
        Err(error) => {
            log::debug(format_args!("asking NUT: {error}"));
            return Vec::new();
        }
    };
    let ask = |name: &str| match upsc(&[name, "ups.status"], patience) {
        Ok(words) => Ok(words.trim().to_string()),
        Err(error) => Err(said(&error)),
    };
    let names: Vec<&str> = names.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> = names.iter().map(|name| (name, scope.spawn(move || ask(name)))).collect();
        let lost = || Err("asking it ended badly".into());
        asked
            .into_iter()
            .map(|(name, thread)| Supply {
                name: Some(name.to_string()),
                status: thread.join().unwrap_or_else(|_| lost()),
            })
            .collect()
    })
}

/// Two questions follow each other within `patience`.
fn upsc(arguments: &[&str], patience: Duration) -> Result<String, pc_run::Error> {
    let mut command = Command::new("upsc");
    command.args(arguments);
    pc_run::run(command).deadline(patience / 2).read()
}

/// `Error: Driver not connected`, as upsc says it.
fn said(error: &pc_run::Error) -> String {
    let line = error.stderr().lines().map(str::trim).find(|line| !line.is_empty());
    line.map_or_else(|| error.to_string(), |line| line.trim_start_matches("Error: ").to_string())
}
