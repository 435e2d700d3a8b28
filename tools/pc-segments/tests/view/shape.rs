//! Answers have the shape of the recorded ones, which docs/json/ describes.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::lab::{Lab, ok, signal, wait};

/// Every key of an answer with the kind of its value.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                keys(value, &format!("{at}.{key}"), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{at}[]"), found)),
        Value::Number(_) => drop(found.insert(format!("{at}: number"))),
        Value::String(_) => drop(found.insert(format!("{at}: string"))),
        Value::Bool(_) => drop(found.insert(format!("{at}: bool"))),
        Value::Null => drop(found.insert(format!("{at}: null"))),
    }
}

fn same_shape(answer: &Value, recorded: &str) {
    let shape = |value: &Value| {
        let mut found = BTreeSet::new();
        keys(value, "", &mut found);
        found
    };
    assert_eq!(shape(answer), shape(&serde_json::from_str(recorded).unwrap()));
}

#[test]
fn of_a_view_and_of_a_run() {
    let lab = Lab::new();
    lab.image(&[1; 10]);
    let mut command = lab.segments();
    let mut child = command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Standard output is closed once the view is there: this ends.
    let mut answer = String::new();
    child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    same_shape(&answer, include_str!("../golden/mount.json"));
    assert_eq!((&answer["pid"], &answer["dirty_bytes"]), (&child.id().into(), &10.into()));
    let manifest = std::fs::read(lab.view().join("manifest.json")).unwrap();
    same_shape(&serde_json::from_slice(&manifest).unwrap(), include_str!("../golden/manifest.json"));
    signal(&child, nix::sys::signal::Signal::SIGTERM);
    ok(&wait(child));

    let mut command = lab.segments();
    ok(&command.args(["--", "sh", "-c", "cat \"$0\"/vda/* > /dev/null"]).arg(lab.view()).output().unwrap());
    let extents = lab.extents(&[1; 10], &[1; 10], "digest");
    ok(&lab.with_extents(&extents).args(["--", "true"]).output().unwrap());
    same_shape(&lab.report(), include_str!("../golden/run.json"));
}
