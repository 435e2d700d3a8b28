//! `cargo xtask test`: everything, cheapest first.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::{cache, deb, lab, packages, tidy};

/// Programs that the tests run for real.
const TEST: &[&str] = &[
    "bindfs",
    "borgbackup",
    "clevis",
    "clevis-luks",
    "clevis-tpm2",
    "corosync",
    "cryptsetup-bin",
    "curl",
    "dbus-daemon",
    "dosfstools",
    "fdisk",
    "fuse3",
    "gdisk",
    "glusterfs-client",
    "glusterfs-server",
    "iproute2",
    "iptables",
    "jose",
    "jq",
    "libtss2-tcti-swtpm0",
    "libvirt-clients",
    "libvirt-daemon-system",
    "libxml2-utils",
    "luksmeta",
    "lvm2",
    "mdadm",
    "mtools",
    "mypy",
    "nix-bin",
    "openssh-client",
    "openssh-server",
    "openssl",
    "openvswitch-switch",
    "ovn-central",
    "ovn-host",
    "pacemaker",
    "pacemaker-cli-utils",
    "procps",
    "prometheus",
    "prometheus-alertmanager",
    "python3-jsonschema",
    "qemu-system-x86",
    "qemu-utils",
    "qrencode",
    // ocf-tester.
    "resource-agents",
    "restic",
    "socat",
    "strace",
    "swtpm",
    "systemd",
    "tang",
    "tang-common",
    "thin-provisioning-tools",
    "tpm2-tools",
    "uidmap",
    "util-linux",
    "xfsprogs",
];

/// What is tested together.
const MOST: &[&str] = &["--workspace", "--exclude", "pc-gluster", "--exclude", "pc-borg"];
const BACKUPS: &[&str] = &["-p", "pc-borg"];
const GLUSTER: &[&str] = &["-p", "pc-gluster"];

/// What a stage does.
type Run = fn(&Shell) -> Result<()>;

/// Each can be run alone: `cargo xtask stage NAME`.
const STAGES: &[(&str, Run)] = &[
    ("packages", |sh| {
        packages::ensure(sh, packages::BUILD)?;
        packages::ensure(sh, TEST)
    }),
    ("format", |sh| run(sh, &["cargo", "fmt", "--all", "--check"])),
    ("tidy", |_| tidy::main()),
    ("clippy", |sh| cargo(sh, "clippy", &["--workspace", "--all-targets", "--", "-D", "warnings"])),
    ("build", build),
    ("tests", |sh| cargo(sh, "test", &[MOST, &["--no-fail-fast"]].concat())),
    // Real repositories, over ssh too: as long as half of all the others.
    ("backups", |sh| cargo(sh, "test", &[BACKUPS, &["--no-fail-fast"]].concat())),
    // Another transport of the same client; no tool of ours needs it.
    ("https", |sh| cargo(sh, "test", &["-p", "tang-client", "--features", "https"])),
    ("python", |sh| {
        let mypy = ["/usr/bin/mypy", "--strict", "--cache-dir=/dev/null"];
        run(sh, &[&["env", "MYPYPATH=tests"], &mypy[..], &["-p", "lab"]].concat())?;
        run(
            sh,
            &[
                "env",
                "PYTHONPATH=tests",
                "/usr/bin/python3",
                "-B",
                "-m",
                "unittest",
                "--quiet",
                "lab.records_test",
                "lab.drill_test",
                "lab.translators_test",
            ],
        )?;
        run(sh, &[&mypy[..], &["tests/bad-input/check.py"]].concat())?;
        run(sh, &[&["env", "MYPYPATH=tests/nix"], &mypy[..], &["tests/nix/check.py"]].concat())
    }),
    ("json", |sh| run(sh, &["/usr/bin/python3", "tests/json/validate.py"])),
    ("telemetry", |sh| run(sh, &["sh", "telemetry/check.sh"])),
    ("nix", nix),
    ("pipes", pipes),
    ("bad input", |sh| run(sh, &["/usr/bin/python3", "-B", "tests/bad-input/check.py"])),
    // Three private glusterds: most of it is waiting for them.
    ("gluster", |sh| cargo(sh, "test", &[GLUSTER, &["--no-fail-fast"]].concat())),
    ("debs", |_| deb::repository().map(drop)),
    ("lintian", |_| deb::lintian()),
    ("packages alone", |_| deb::lifecycle()),
    ("two nodes", |sh| cargo(sh, "test", &["-p", "pc-vm", "--test", "two_nodes"])),
    ("lab machines", |_| lab::main(&["prepare".into()])),
    ("lab smoke", |_| lab::main(&["test".into(), "smoke".into()])),
];

const FIRST: &[&str] = &["packages", "format", "tidy", "clippy", "build"];
/// Side by side, on two cores: one lane calculates, the others wait for daemons and virtual machines half of the time.
const CALCULATES: &[&str] = &["tests", "python", "json", "telemetry", "nix"];
const CALCULATES_FOR_LAB: &[&str] = &["lab machines"];
const WAITS: &[&str] = &["gluster"];
const WAITS_FOR_PACKAGES: &[&str] = &["debs", "lintian", "packages alone"];
const WAITS_FOR_QEMU: &[&str] = &["two nodes"];
const ASKS: &[&str] = &["https", "pipes", "bad input", "backups"];
/// It has the machine for itself.
const LAST: &[&str] = &["lab smoke"];

/// `cargo xtask test [--quick | --no-lab]`.
pub fn main(args: &[String]) -> Result<()> {
    let (packages, lab) = match args {
        [] => (true, true),
        [flag] if flag == "--no-lab" => (true, false),
        [flag] if flag == "--quick" => (false, false),
        other => bail!("unknown arguments {other:?}: --quick and --no-lab are known"),
    };
    FIRST.iter().try_for_each(|name| stage(name))?;
    let mut calculates = CALCULATES.to_vec();
    calculates.extend(lab.then_some(CALCULATES_FOR_LAB).into_iter().flatten());
    let mut waits = WAITS.to_vec();
    waits.extend(packages.then_some(WAITS_FOR_PACKAGES).into_iter().flatten());
    let mut asks: Vec<&str> = lab.then_some(WAITS_FOR_QEMU).into_iter().flatten().copied().collect();
    asks.extend(ASKS);
    lanes(&[&calculates, &waits, &asks])?;
    if lab { LAST.iter().try_for_each(|name| stage(name)) } else { Ok(()) }
}

/// `cargo xtask stage NAME`: one of them, its output as it comes.
pub fn one(args: &[String]) -> Result<()> {
    let name = args.join(" ");
    let Some((_, run)) = STAGES.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = STAGES.iter().map(|(name, _)| *name).collect();
        bail!("unknown stage {name:?}: {} are known", known.join(", "));
    };
    run(&cache::workspace()?)
}

fn stage(name: &str) -> Result<()> {
    let started = Instant::now();
    eprintln!("== {name}");
    one(&[name.into()]).with_context(|| format!("stage {name}"))?;
    eprintln!("== {name}: ok, {} s", started.elapsed().as_secs());
    Ok(())
}

/// Runs lists of stages side by side. What a stage says is shown when it ends, in one piece. After a failure no other one
/// is begun.
fn lanes(lanes: &[&[&str]]) -> Result<()> {
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let lane = |names: &[&str]| {
            for name in names {
                if failed.load(Ordering::Relaxed) {
                    break;
                }
                apart(name).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        };
        let lanes: Vec<_> = lanes.iter().map(|names| scope.spawn(move || lane(names))).collect();
        let ended =
            lanes.into_iter().map(|lane| lane.join().unwrap_or_else(|_| bail!("a lane of stages panicked")));
        ended.collect::<Vec<Result<()>>>().into_iter().collect()
    })
}

/// A stage in a process of its own, whose output is kept together.
fn apart(name: &str) -> Result<()> {
    let started = Instant::now();
    let program = std::env::current_exe().context("finding this program")?;
    let output = Command::new("sh")
        .args(["-c", "exec \"$0\" stage \"$1\" 2>&1"])
        .arg(program)
        .arg(name)
        .output()
        .with_context(|| format!("stage {name}"))?;
    let how = if output.status.success() { "ok" } else { "FAILED" };
    let said = String::from_utf8_lossy(&output.stdout);
    eprint!("== {name}\n{said}== {name}: {how}, {} s\n", started.elapsed().as_secs());
    if output.status.success() { Ok(()) } else { bail!("stage {name}") }
}

fn cargo(sh: &Shell, verb: &str, rest: &[&str]) -> Result<()> {
    run(sh, &[&["cargo", verb, "--quiet", "--locked"], rest].concat())
}

fn run(sh: &Shell, argv: &[&str]) -> Result<()> {
    let (program, rest) = argv.split_first().context("an empty command")?;
    cmd!(sh, "{program} {rest...}").quiet().run()?;
    Ok(())
}

/// Every Nix file parses; with `PC_NIXOS_TREE` the modules are evaluated against the module tree of `NixOS` (docs/nixos.md).
fn nix(sh: &Shell) -> Result<()> {
    let files = cache::files(sh, &["*.nix"])?;
    cmd!(sh, "nix-instantiate --parse {files...}").quiet().ignore_stdout().run()?;
    build(sh)?;
    let program = sh.current_dir().join("target/debug/pc-config");
    cmd!(sh, "/usr/bin/python3 -B tests/nix/check.py").env("PC_CONFIG", program).quiet().run()?;
    Ok(())
}

/// Tests, and the programs that they and others run. By the same selections as they are tested: any other one, `cargo build` too, has
/// other features, and would put other files into the place of programs that tests start at that moment.
fn build(sh: &Shell) -> Result<()> {
    [MOST, BACKUPS, GLUSTER]
        .iter()
        .try_for_each(|chosen| cargo(sh, "test", &[chosen, &["--no-run"][..]].concat()))
}

/// The pipelines that README and docs/pipes.md show.
fn pipes(sh: &Shell) -> Result<()> {
    build(sh)?;
    let binaries = sh.current_dir().join("target/debug");
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
    for script in cache::files(sh, &["tests/pipes/*.sh"])? {
        cmd!(sh, "timeout 300 bash -euo pipefail {script}")
            .env("PATH", &path)
            .quiet()
            .run()
            .with_context(|| format!("pipeline {script}"))?;
    }
    Ok(())
}
