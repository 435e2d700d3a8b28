//! `pc-vm baseline`, with a stand-in for virsh: libvirt's test driver knows no processors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scene;

use scene::{NODES, Scene};

/// n1 and n2 have AES, n3 has not; what all have in common is `$COMMON`'s to say.
fn scene(common: &str) -> Scene {
    let scene = Scene::new("use = \"vm\"\nreplicas = 3");
    for node in NODES {
        scene.libvirt(node, Some(""));
    }
    let script = format!(
        r#"echo "$*" >> "$LOG"
v2="cx16 lahf_lm pni popcnt sse4.1 sse4.2 ssse3"
cpu() {{ echo "<cpu><model>$1</model>"; shift; for f; do echo "<feature policy='require' name='$f'/>"; done; echo "</cpu>"; }}
case "$*" in
*192.0.2.3.xml\ domcapabilities*) echo "<domainCapabilities>old</domainCapabilities>" ;;
*domcapabilities*) echo "<domainCapabilities>new</domainCapabilities>" ;;
*--features) read -r given
  case "$given" in *old*) cpu Nehalem $v2 ;; *) cpu Westmere $v2 aes ;; esac ;;
*) test "$(tr -d '\n')" = "<domainCapabilities>new</domainCapabilities><domainCapabilities>new</domainCapabilities><domainCapabilities>old</domainCapabilities>" || exit 9
  {common} ;;
esac
"#
    );
    scene.program("virsh", &script);
    scene
}

fn baseline(scene: &Scene) -> (i32, String) {
    scene.pc_vm("n1", &scene.root("shared"), &["baseline", "--json"])
}

#[test]
fn what_every_node_has_is_found_by_asking_each() {
    let scene = scene("cpu Nehalem x2apic");
    let (exit, said) = baseline(&scene);
    assert_eq!(exit, 0, "{said}");
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    let nodes: Vec<&str> =
        answer["nodes"].as_array().unwrap().iter().map(|node| node["model"].as_str().unwrap()).collect();
    assert_eq!(nodes, ["Westmere", "Westmere", "Nehalem"]);
    assert_eq!(answer["levels"], serde_json::json!(["x86-64-v2"]));
    assert_eq!((&answer["model"], &answer["reason"]), (&"Nehalem,+x2apic".into(), &serde_json::Value::Null));
    let called = std::fs::read_to_string(scene.path("called")).unwrap();
    let last = called.lines().last().unwrap();
    let n1 = scene.path("192.0.2.1.xml");
    assert_eq!(
        last,
        format!(
            "--connect test://{} hypervisor-cpu-baseline --migratable --file /dev/stdin --arch i686 --virttype test --machine q35",
            n1.display()
        )
    );
}

#[test]
fn makers_that_differ_leave_the_levels() {
    let scene = scene("echo 'error: internal error: CPU vendors do not match' >&2; exit 1");
    let (exit, said) = baseline(&scene);
    assert_eq!(exit, 0, "{said}");
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["levels"], serde_json::json!(["x86-64-v2"]));
    assert_eq!(answer["reason"], "internal error: CPU vendors do not match");
}

/// A node that was not asked may be the one that has less.
#[test]
fn a_silent_node_leaves_no_answer() {
    let scene = scene("exit 9");
    scene.libvirt("n3", None);
    let (exit, said) = baseline(&scene);
    assert_eq!(exit, 75, "{said}");
    assert!(said.contains("not every node answers: n3: "), "{said}");
}
