//! What the house asks of every tool, found by looking, so that a new tool cannot be forgotten.

use std::path::Path;

use anyhow::{Result, bail};
use xshell::Shell;

use crate::cache;

/// Longest file of code, in lines.
const LINES: usize = 400;
/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] = &[];

/// `cargo xtask tidy`.
pub fn main() -> Result<()> {
    let sh = cache::workspace()?;
    let mut faults = Vec::new();
    for tool in names(&sh, "tools")? {
        house(&sh, &tool, &mut faults);
        dependencies(&sh, &tool, &mut faults)?;
    }
    for krate in names(&sh, "crates")? {
        crate_direction(&sh, &krate, &mut faults)?;
    }
    versions(&sh, &mut faults)?;
    budget(&sh, &mut faults)?;
    for fault in &faults {
        eprintln!("{fault}");
    }
    if faults.is_empty() { Ok(()) } else { bail!("{} faults", faults.len()) }
}

fn names(sh: &Shell, directory: &str) -> Result<Vec<String>> {
    let paths = sh.read_dir(directory)?;
    Ok(paths
        .iter()
        .filter(|path| path.join("Cargo.toml").exists())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_string()))
        .collect())
}

/// A tool is a crate, a unit (or a reason for none), a module, a .deb, a page of documentation and an example.
fn house(sh: &Shell, tool: &str, faults: &mut Vec<String>) {
    let mut need = |path: String, what: &str| {
        if !sh.path_exists(&path) {
            faults.push(format!("{tool}: no {what}: {path} is missing"));
        }
    };
    need(format!("tools/{tool}/src/main.rs"), "binary");
    need(format!("debian/{tool}.install"), ".deb");
    need(format!("nixos-modules/{tool}.nix"), "NixOS module");
    need(format!("docs/tools/{tool}.md"), "page");
    let manifest = sh.read_file(format!("tools/{tool}/Cargo.toml")).unwrap_or_default();
    let unit = Path::new("units").join(format!("{tool}.service"));
    if !sh.path_exists(unit) && !manifest.contains("no-unit = \"") {
        faults.push(format!(
            "{tool}: no unit: add units/{tool}.service, or no-unit = \"reason\" under [package.metadata.personal-cluster]"
        ));
    }
    let page = sh.read_file(format!("docs/tools/{tool}.md")).unwrap_or_default();
    if !page.contains("```") && !page.lines().any(|line| line.starts_with(&format!("    {tool} "))) {
        faults.push(format!("{tool}: no example in docs/tools/{tool}.md"));
    }
    let control = sh.read_file("debian/control").unwrap_or_default();
    if !control.lines().any(|line| line == format!("Package: {tool}")) {
        faults.push(format!("{tool}: no package in debian/control"));
    }
    let crate_docs = sh.read_file(format!("tools/{tool}/src/main.rs")).unwrap_or_default();
    if !crate_docs.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains("ever ")) {
        faults.push(format!("{tool}: the crate docs do not begin with what it never does"));
    }
}

/// Tools depend on crates, never on one another.
fn dependencies(sh: &Shell, tool: &str, faults: &mut Vec<String>) -> Result<()> {
    let manifest = sh.read_file(format!("tools/{tool}/Cargo.toml"))?;
    for other in names(sh, "tools")? {
        if manifest
            .lines()
            .any(|line| line.starts_with(&format!("{other}.")) || line.starts_with(&format!("{other} ")))
        {
            faults.push(format!("{tool}: depends on the tool {other}; run it and read its JSON instead"));
        }
    }
    if !manifest.contains("[lints]\nworkspace = true") {
        faults.push(format!("{tool}: does not take the workspace's lints"));
    }
    Ok(())
}

/// tang-client and pc-cli know nothing of ours; no crate knows a tool.
fn crate_direction(sh: &Shell, krate: &str, faults: &mut Vec<String>) -> Result<()> {
    let manifest = sh.read_file(format!("crates/{krate}/Cargo.toml"))?;
    let uses = |name: &str| {
        manifest
            .lines()
            .any(|line| line.starts_with(&format!("{name}.")) || line.starts_with(&format!("{name} ")))
    };
    for tool in names(sh, "tools")? {
        if uses(&tool) {
            faults.push(format!("crates/{krate}: depends on the tool {tool}"));
        }
    }
    if ["tang-client", "pc-cli"].contains(&krate) {
        for other in names(sh, "crates")? {
            if other != krate && uses(&other) {
                faults.push(format!("crates/{krate}: depends on {other}; it must stand alone"));
            }
        }
    }
    Ok(())
}

/// One version everywhere.
fn versions(sh: &Shell, faults: &mut Vec<String>) -> Result<()> {
    let manifest = sh.read_file("Cargo.toml")?;
    let quoted = |line: &str| line.split('"').nth(1).unwrap_or_default().to_string();
    let version =
        manifest.lines().find(|line| line.starts_with("version = ")).map(quoted).unwrap_or_default();
    for line in manifest.lines().filter(|line| line.contains("{ path = ")) {
        if !line.contains(&format!("version = \"{version}\"")) {
            faults.push(format!("Cargo.toml: {line} is not version {version}"));
        }
    }
    let changelog = sh.read_file("debian/changelog")?;
    if !changelog.starts_with(&format!("personal-cluster ({version}) ")) {
        faults.push(format!("debian/changelog does not begin with version {version}"));
    }
    if !sh.read_file("CHANGELOG.md")?.contains(&format!("## {version}")) {
        faults.push(format!("CHANGELOG.md has no section {version}"));
    }
    for directory in ["tools", "crates"] {
        for name in names(sh, directory)? {
            let manifest = sh.read_file(format!("{directory}/{name}/Cargo.toml"))?;
            for key in ["version", "edition", "rust-version", "license"] {
                if !manifest.contains(&format!("{key}.workspace = true")) {
                    faults.push(format!("{directory}/{name}: {key} is not the workspace's"));
                }
            }
        }
    }
    Ok(())
}

fn budget(sh: &Shell, faults: &mut Vec<String>) -> Result<()> {
    for file in cache::files(sh, &["*.rs", "*.py", "*.nix"])? {
        let lines = sh.read_file(&file)?.lines().count();
        let excused = LONGER.iter().any(|(path, _)| *path == file);
        if lines > LINES && !excused {
            faults.push(format!("{file}: {lines} lines, more than {LINES}: split it by noun"));
        }
    }
    Ok(())
}
