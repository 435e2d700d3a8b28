use super::*;

fn definition(name: &str, digest: &str) -> Definition {
    Definition {
        name: name.into(),
        uuid: format!("uuid-of-{name}"),
        digest: digest.into(),
        xml: format!("<domain digest='{digest}'/>"),
    }
}

fn found(name: &str, mark: Option<&str>) -> Found {
    Found {
        name: name.into(),
        uuid: format!("uuid-of-{name}"),
        mark: mark.map(Into::into),
        running_mark: None,
        active: false,
        autostart: false,
    }
}

fn want(definitions: Vec<Definition>) -> Want {
    Want { node: "n1".into(), definitions, listen: None }
}

fn have(domains: Vec<Found>, files: &[(&str, &str)]) -> Have {
    Have {
        domains,
        files: files
            .iter()
            .map(|(vm, digest)| ((*vm).into(), format!("<domain digest='{digest}'/>")))
            .collect(),
        listening: Listening { drop_in: None, active: false },
    }
}

fn ids(outcome: &Outcome) -> Vec<&str> {
    outcome.plan.steps.iter().map(|step| step.id.as_str()).collect()
}

/// What `have` looks like after the plan: the machine as a pure function.
fn after(outcome: &Outcome, want: &Want, mut have: Have) -> Have {
    let wanted = |vm: &str| want.definitions.iter().find(|definition| definition.name == vm).unwrap();
    for step in &outcome.plan.steps {
        match &step.action {
            Action::Render { vm, .. } => {
                have.files.insert(vm.clone(), wanted(vm).xml.clone());
            }
            Action::Define { vm, digest, .. } => {
                let uuid = wanted(vm).uuid.clone();
                let kept = have.domains.iter().position(|found| found.uuid == uuid);
                let mut next = kept.map_or_else(|| found(vm, None), |at| have.domains.remove(at));
                next.mark = Some(digest.clone());
                have.domains.push(next);
            }
            Action::AutostartOff { vm } => {
                have.domains
                    .iter_mut()
                    .filter(|found| found.name == *vm)
                    .for_each(|found| found.autostart = false);
            }
            Action::Forget { vm, .. } => {
                have.domains.retain(|found| found.name != *vm);
                have.files.remove(vm);
            }
            Action::Listen { .. } => {
                let drop_in = want.listen.as_ref().map(listen::Want::drop_in);
                have.listening = Listening { drop_in, active: true };
            }
        }
    }
    have
}

#[test]
fn a_blank_node_gets_everything_and_then_nothing() {
    let mut want = want(vec![definition("db", "d1"), definition("mail", "d2")]);
    want.listen = Some(listen::Want { address: "192.168.0.50".parse().unwrap(), certificate: "c".into() });
    let have = have(Vec::new(), &[]);
    let outcome = plan(&want, &have);
    assert_eq!(ids(&outcome), ["db/render", "db/define", "mail/render", "mail/define", "listen"]);
    assert_eq!(outcome.plan.steps[1].needs, ["db/render"]);
    assert_eq!(ids(&plan(&want, &after(&outcome, &want, have))), Vec::<&str>::new());
}

/// Every combination of a VM's state converges in one go, and conflicts change nothing.
#[test]
fn one_apply_is_enough_from_anywhere() {
    for mark in [None, Some(None), Some(Some("old")), Some(Some("new"))] {
        for (active, autostart) in [(false, false), (false, true), (true, false), (true, true)] {
            for file in [None, Some("old"), Some("new")] {
                let domain = mark.map(|mark| Found { active, autostart, ..found("mail", mark) });
                let files: Vec<(&str, &str)> = file.iter().map(|digest| ("mail", *digest)).collect();
                let want = want(vec![definition("mail", "new")]);
                let have = have(domain.into_iter().collect(), &files);
                let outcome = plan(&want, &have);
                let foreign = mark == Some(None);
                assert_eq!(outcome.conflicts.len(), usize::from(foreign));
                assert!(!foreign || outcome.plan.steps.is_empty());
                let again = plan(&want, &after(&outcome, &want, have));
                assert!(
                    again.plan.steps.is_empty(),
                    "{mark:?} {active} {autostart} {file:?}: {:?}",
                    ids(&again)
                );
            }
        }
    }
}

#[test]
fn a_running_vm_is_redefined_for_its_next_start() {
    let have = have(vec![Found { active: true, ..found("mail", Some("old")) }], &[("mail", "new")]);
    let outcome = plan(&want(vec![definition("mail", "new")]), &have);
    assert_eq!(outcome.plan.to_string(), "redefine vm mail, from its next start\n");
}

/// `apply` has redefined it, and it runs on as it was started: there is nothing to do but to say so.
#[test]
fn what_waits_for_a_start_is_told() {
    let runs =
        |mark: &str| Found { active: true, running_mark: Some(mark.into()), ..found("mail", Some("new")) };
    let plan =
        |mark| plan(&want(vec![definition("mail", "new")]), &have(vec![runs(mark)], &[("mail", "new")]));
    assert_eq!(
        plan("old").to_string(),
        "nothing to do\nnote: vm mail runs by an older definition, the file's takes effect at its next start\n"
    );
    assert_eq!(plan("new").to_string(), "nothing to do\n");
    assert_eq!((plan("old").pending, plan("new").pending), (vec!["mail".to_string()], Vec::new()));
}

#[test]
fn other_peoples_domains_are_left_alone() {
    let mut twin = found("old-name", Some("x"));
    twin.uuid = "uuid-of-mail".into();
    let mut moved = found("mail", Some("x"));
    moved.uuid = "uuid-of-another-cluster".into();
    for (domain, words) in
        [(found("mail", None), "not made by pc-vm"), (twin, "UUID"), (moved, "of another cluster name")]
    {
        let outcome = plan(&want(vec![definition("mail", "new")]), &have(vec![domain.clone()], &[]));
        assert!(outcome.conflicts[0].contains(words), "{outcome}");
        assert!(!ids(&outcome).iter().any(|id| id.starts_with("mail/")), "{outcome}");
    }
    let outcome = plan(&want(Vec::new()), &have(vec![found("desktop", None)], &[]));
    assert_eq!((outcome.plan.steps.len(), outcome.conflicts.len(), outcome.notices.len()), (0, 0, 0));
}

#[test]
fn a_vm_that_left_the_file_is_forgotten_unless_it_runs() {
    let gone = have(vec![found("old", Some("x"))], &[("old", "x"), ("older", "y")]);
    assert_eq!(ids(&plan(&want(Vec::new()), &gone)), ["old/forget", "older/forget"]);
    let runs = have(vec![Found { active: true, ..found("old", Some("x")) }], &[("old", "x")]);
    let outcome = plan(&want(Vec::new()), &runs);
    assert_eq!(ids(&outcome), Vec::<&str>::new());
    assert_eq!(outcome.notices, ["vm old left the file and runs: left alone"]);
}

#[test]
fn a_printed_plan_is_read_back() {
    let outcome = plan(&want(vec![definition("mail", "new")]), &have(Vec::new(), &[]));
    let text = serde_json::to_string(&outcome).unwrap();
    let read: Plan<Action> = Plan::read(&text).unwrap();
    assert_eq!(read, outcome.plan);
    assert!(text.starts_with(r#"{"schema":"pc.vm.plan/1""#), "{text}");
}

/// A plan with every kind of step, for the samples.
pub fn sample() -> Outcome {
    let mut want = want(vec![definition("mail", "new")]);
    want.listen = Some(listen::Want { address: "192.168.0.50".parse().unwrap(), certificate: "c".into() });
    let running_mark = Some("old".into());
    let mail = Found { active: true, autostart: true, running_mark, ..found("mail", Some("old")) };
    plan(
        &want,
        &have(vec![mail, found("gone", Some("x")), Found { active: true, ..found("left", Some("x")) }], &[]),
    )
}
