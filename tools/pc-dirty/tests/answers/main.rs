//! The real program on images of every kind, against a comparison made here; real qemu-img, real virsh.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod bitmap;
mod digest;
mod vm;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const SEGMENT: usize = 1 << 16;

fn dirty() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pc-dirty"))
}

/// `pc-dirty --image --state --json`, small segments.
fn of(image: &str, state: &Path, more: &[&str]) -> Command {
    let mut command = dirty();
    command.args(["--image", image, "--json", "--segment", "64KiB", "--state"]).arg(state).args(more);
    command
}

fn answer(mut command: Command) -> (Value, String) {
    let output = command.output().unwrap();
    let said = ended(&output, 0);
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

fn ended(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn extents(answer: &Value) -> Vec<(usize, usize)> {
    let number = |extent: &Value, key: &str| usize::try_from(extent[key].as_u64().unwrap()).unwrap();
    let list = answer["disks"][0]["extents"].as_array().unwrap();
    list.iter().map(|extent| (number(extent, "offset_bytes"), number(extent, "length_bytes"))).collect()
}

/// Ranges of whole segments that differ, found by comparing the bytes.
fn differing(old: &[u8], new: &[u8]) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (index, (old, new)) in old.chunks(SEGMENT).zip(new.chunks(SEGMENT)).enumerate() {
        match ranges.last_mut() {
            _ if old == new => {}
            Some((from, length)) if *from + *length == index * SEGMENT => *length += new.len(),
            _ => ranges.push((index * SEGMENT, new.len())),
        }
    }
    ranges
}

fn write(directory: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}
