//! The .debs: built in a Debian 13 root by its own compiler, offline, out of vendored crates.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::{cache, root};

/// What ends up in the packages; anything else can change without a new build.
const SOURCES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "Makefile",
    "crates",
    "tools",
    "units",
    "udev",
    "telemetry",
    "debian",
    "docs/man",
    "examples",
];

/// `cargo xtask deb [--repo DIR] [--sign KEY]`.
pub fn main(args: &[String]) -> Result<()> {
    let mut repo = None;
    let mut key = None;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--repo" => repo = Some(PathBuf::from(rest.next().context("--repo needs a directory")?)),
            "--sign" => key = Some(rest.next().context("--sign needs a key id")?.clone()),
            other => bail!("unknown argument {other:?}"),
        }
    }
    let built = repository()?;
    let Some(repo) = repo else {
        println!("{}", built.display());
        return Ok(());
    };
    let sh = cache::workspace()?;
    sh.create_dir(&repo)?;
    for entry in sh.read_dir(&built)? {
        sh.copy_file(entry, &repo)?;
    }
    if let Some(key) = key {
        sign(&sh, &repo, &key)?;
    }
    println!("{}", repo.display());
    Ok(())
}

fn sign(sh: &Shell, repo: &Path, key: &str) -> Result<()> {
    let (release, inline) = (repo.join("Release"), repo.join("InRelease"));
    let detached = repo.join("Release.gpg");
    cmd!(sh, "gpg --batch --yes --local-user {key} --clearsign --output {inline} {release}").run()?;
    cmd!(sh, "gpg --batch --yes --local-user {key} --armor --detach-sign --output {detached} {release}")
        .run()?;
    Ok(())
}

/// The flat apt repository of the present sources: made when the sources changed, else the kept one.
pub fn repository() -> Result<PathBuf> {
    let sh = cache::workspace()?;
    let hash = cache::hash(&sh, SOURCES, "deb")?;
    let repo = cache::directory()?.join("debs").join(&hash);
    if repo.join("Release").exists() {
        return Ok(repo);
    }
    let started = Instant::now();
    let root = root::build_root(&sh)?;
    let vendor = vendor(&sh)?;
    let source = stage(&sh, &hash)?;
    let out = cache::directory()?.join("debs").join(format!("{hash}.new"));
    sh.remove_path(&out)?;
    sh.create_dir(&out)?;
    // The target directory stays in the root between builds: only what changed is compiled again.
    let target = cache::directory()?.join("deb-target");
    sh.create_dir(&target)?;
    eprintln!("building the .debs with Debian 13's own compiler");
    root::enter(
        &sh,
        &root,
        &[(&source, "/source"), (&vendor, "/vendor"), (&target, "/target"), (&out, "/out")],
        include_str!("deb.sh"),
    )?;
    sh.remove_path(&source)?;
    sh.remove_path(&repo)?;
    std::fs::rename(&out, &repo).with_context(|| format!("naming {}", repo.display()))?;
    forget_older(&sh, &repo)?;
    eprintln!("built {} in {} s", repo.display(), started.elapsed().as_secs());
    Ok(repo)
}

/// lintian, in the build root, on the packages of the present sources.
pub fn lintian() -> Result<()> {
    let repo = repository()?;
    let sh = cache::workspace()?;
    let root = root::build_root(&sh)?;
    root::enter(
        &sh,
        &root,
        &[(&repo, "/out")],
        "lintian --allow-root --fail-on error,warning --tag-display-limit 0 /out/*.changes",
    )
}

/// Installs, upgrades, removes and purges each package by itself on a bare Debian 13.
pub fn lifecycle() -> Result<()> {
    let repo = repository()?;
    let sh = cache::workspace()?;
    let root = root::bare_root(&sh)?;
    // Debian's own packages are downloaded once.
    let archives = cache::directory()?.join("apt-archives");
    sh.create_dir(archives.join("partial"))?;
    let control = sh.read_file("debian/control")?;
    for package in control.lines().filter_map(|line| line.strip_prefix("Package: ")) {
        let script = format!("package={package}\n{}", sh.read_file("tests/debian/lifecycle.sh")?);
        root::enter_copy(&sh, &root, &[(&repo, "/out"), (&archives, "/var/cache/apt/archives")], &script)
            .with_context(|| format!("package {package}"))?;
    }
    Ok(())
}

/// Crates' sources for the offline build, kept per Cargo.lock.
fn vendor(sh: &Shell) -> Result<PathBuf> {
    let hash = cache::hash(sh, &["Cargo.lock"], "vendor")?;
    let vendor = cache::directory()?.join(format!("vendor-{hash}"));
    if !vendor.join("ready").exists() {
        cmd!(sh, "cargo vendor --quiet --locked --versioned-dirs {vendor}").quiet().ignore_stdout().run()?;
        sh.write_file(vendor.join("ready"), "")?;
    }
    Ok(vendor)
}

/// A copy of the sources as git sees them, so that the build neither reads nor writes anything else.
fn stage(sh: &Shell, hash: &str) -> Result<PathBuf> {
    let source = cache::directory()?.join(format!("source-{hash}"));
    sh.remove_path(&source)?;
    sh.create_dir(&source)?;
    let mut paths = SOURCES.to_vec();
    // A member of the workspace, though not of the packages.
    paths.push("xtask");
    let files = cache::files(sh, &paths)?.join("\n");
    cmd!(sh, "xargs -d \\n cp --parents --no-dereference --preserve=mode,timestamps -t {source}")
        .stdin(files)
        .quiet()
        .run()?;
    Ok(source)
}

fn forget_older(sh: &Shell, keep: &Path) -> Result<()> {
    let directory = keep.parent().context("a repository has a directory")?;
    let mut others: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for path in sh.read_dir(directory)? {
        if path != keep {
            others.push((std::fs::metadata(&path)?.modified()?, path));
        }
    }
    others.sort();
    others.reverse();
    for (_, path) in others.into_iter().skip(3) {
        sh.remove_path(path)?;
    }
    Ok(())
}
