//! Everything a developer runs: the lab, the tests, the packages.

mod cache;
mod check;
mod deb;
mod lab;
mod packages;
mod root;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND
  lab up|down|status|...   a whole cluster of virtual machines on this computer (lab --help)
  drill --seed S --count N [FAULT...]   faults drawn at random in that cluster; docs/drills.md is their tally
  test [--quick|--no-lab]  everything; --quick leaves out the packages and the lab, --no-lab only the lab
  stage NAME               one stage of test
  tidy                     what the house asks of every tool
  deb [--repo DIR] [--sign KEY]   build the .debs in a Debian 13 root, make a flat apt repository
  lintian                  lintian on those .debs
  lifecycle                each of them alone on a bare Debian 13: install, verify, upgrade, remove, purge
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let Some((command, rest)) = args.split_first() else {
        bail!("no command\n{USAGE}");
    };
    match command.as_str() {
        "lab" => lab::main(rest),
        "drill" => lab::main(&[&["drill".into()], rest].concat()),
        "test" => check::main(rest),
        "stage" => check::one(rest),
        "tidy" => tidy::main(),
        "deb" => deb::main(rest),
        "lintian" => deb::lintian(),
        "lifecycle" => deb::lifecycle(),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("unknown command {other:?}\n{USAGE}"),
    }
}
