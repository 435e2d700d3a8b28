//! Where large things are kept between runs: below the user's cache directory, named by the hash of what
//! they were made from, never in the repository.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

/// `$XDG_CACHE_HOME/personal-cluster`, made when missing.
pub fn directory() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    let directory = base.join("personal-cluster");
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    Ok(directory)
}

/// A shell that stands in the workspace's first directory.
pub fn workspace() -> Result<Shell> {
    let sh = Shell::new()?;
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    sh.change_dir(manifest.parent().context("the workspace has no directory")?);
    Ok(sh)
}

/// The files below `paths` that git knows or does not ignore, sorted.
pub fn files(sh: &Shell, paths: &[&str]) -> Result<Vec<String>> {
    let listed = cmd!(sh, "git ls-files -co --exclude-standard -- {paths...}").quiet().read()?;
    let mut files: Vec<String> =
        listed.lines().filter(|file| sh.path_exists(file)).map(str::to_string).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Twelve hex digits over names and contents of the files below `paths` and over `salt`.
pub fn hash(sh: &Shell, paths: &[&str], salt: &str) -> Result<String> {
    let files = files(sh, paths)?.join("\n");
    let sums = cmd!(sh, "xargs -d \\n sha256sum").stdin(&files).quiet().read()?;
    let sum = cmd!(sh, "sha256sum").stdin(format!("{salt}\n{sums}")).quiet().read()?;
    Ok(sum[..12].to_string())
}
