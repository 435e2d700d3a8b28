//! What sshd does for root without us, so that our drop-in takes nothing from anybody; all calls of sshd(8).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::paths::TRUST;
use xshell::{Shell, cmd};

use crate::files;
use crate::paths::{Paths, SSH_AUTHORIZED, SSH_PRINCIPALS};

const DEADLINE: Duration = Duration::from_secs(30);
/// The host for which our drop-in says nothing: asking about it shows what would be without us. No connection comes from
/// there, as no name below `.invalid` exists (RFC 6761, 6.4).
pub const WITHOUT: &str = "without.personal-cluster.invalid";

/// How our drop-in tells sshd about the nodes' certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// As the only CA whose certificates count for root: nobody else has named one.
    Authority,
    /// Somebody has, and sshd takes one setting: our CA goes into one more file of keys, behind root's own, which these are.
    Keys(Vec<String>),
}

/// What is known of sshd's configuration.
pub enum Told {
    /// The form that takes nothing from anybody.
    Form(Form),
    /// Why sshd cannot be asked.
    Unknown(String),
    /// A drop-in of ours, from before it made room for the question, answered.
    Ourselves,
}

/// Asks sshd about root without our drop-in. Below a `--root`, and where there is no sshd, nobody else logs in.
pub fn without_us(paths: &Paths) -> Result<Told> {
    Ok(match ask(paths, WITHOUT)? {
        Asked::Nobody => Told::Form(Form::Authority),
        Asked::Failed(why) => Told::Unknown(why),
        Asked::Said(text) => form(&text).map_or(Told::Ourselves, Told::Form),
    })
}

/// Whether sshd lets nodes in as root, as the drop-in says; `None` when it cannot be asked.
pub fn in_force(paths: &Paths, form: &Form) -> Result<Option<bool>> {
    let Asked::Said(text) = ask(paths, "node.invalid")? else { return Ok(None) };
    let (setting, file) = match form {
        Form::Authority => ("authorizedprincipalsfile", SSH_PRINCIPALS),
        Form::Keys(_) => ("authorizedkeysfile", SSH_AUTHORIZED),
    };
    let ours = format!("{TRUST}/{file}");
    Ok(Some(words(&text, setting).any(|word| word == ours)))
}

enum Asked {
    Nobody,
    Failed(String),
    Said(String),
}

fn ask(paths: &Paths, host: &str) -> Result<Asked> {
    if !paths.is_machine() {
        return Ok(Asked::Nobody);
    }
    // The PATH that `su` leaves has no sbin.
    let sshd = ["/usr/sbin/sshd"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("sshd");
    let who = format!("user=root,host={host},addr=192.0.2.1,laddr=192.0.2.1,lport=22");
    let sh = Shell::new()?;
    // Since OpenSSH 9.3: -T wants host keys and its directory below /run as well, which sshd's unit makes.
    let dump = cmd!(sh, "{sshd} -G -C {who}");
    match pc_run::run(dump).deadline(DEADLINE).read() {
        Ok(text) => return Ok(Asked::Said(text)),
        Err(error) if error.is_missing() => return Ok(Asked::Nobody),
        Err(_) => {}
    }
    let made = files::make_public(Path::new("/run/sshd"));
    match (pc_run::run(cmd!(sh, "{sshd} -T -C {who}")).deadline(DEADLINE).read(), made) {
        (Ok(text), _) => Ok(Asked::Said(text)),
        (Err(error), Ok(())) => Ok(Asked::Failed(error.to_string())),
        (Err(error), Err(made)) => Ok(Asked::Failed(format!("{error}; {made:#}"))),
    }
}

/// The words of a setting, as `sshd -T` prints it.
fn words<'a>(text: &'a str, setting: &str) -> impl Iterator<Item = &'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(setting)?.strip_prefix(' '));
    line.unwrap_or_default().split_whitespace().filter(|word| *word != "none")
}

/// The form for what `sshd -T` says of root; `None` when what it says is our own.
fn form(text: &str) -> Option<Form> {
    let settings = ["trustedusercakeys", "authorizedprincipalsfile", "authorizedprincipalscommand"];
    let mut theirs = settings.into_iter().flat_map(|setting| words(text, setting)).peekable();
    if theirs.peek().is_none() {
        return Some(Form::Authority);
    }
    if theirs.any(|word| Path::new(word).starts_with(TRUST)) {
        return None;
    }
    Some(keys(words(text, "authorizedkeysfile")))
}

fn keys<'a>(words: impl Iterator<Item = &'a str>) -> Form {
    Form::Keys(words.filter(|word| !Path::new(word).starts_with(TRUST)).map(ToString::to_string).collect())
}

/// The form that a drop-in of ours has.
pub fn form_of(drop_in: &str) -> Form {
    let line = drop_in.lines().find_map(|line| line.trim().strip_prefix("AuthorizedKeysFile "));
    line.map_or(Form::Authority, |line| keys(line.split_whitespace()))
}

/// The drop-in that stands, when it is ours.
pub fn standing(paths: &Paths) -> Result<Option<Form>> {
    let path = paths.at(crate::places::SSHD);
    if !path.is_file() {
        return Ok(None);
    }
    let text = files::read(&path).context("reading our drop-in for sshd")?;
    Ok(text.filter(|text| text.starts_with(crate::plan::HEADER)).map(|text| form_of(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `sshd -T` (OpenSSH 9.2), with the settings in question.
    fn said(ca: &str, principals: &str, command: &str, keys: &str) -> String {
        format!(
            "port 22\ntrustedusercakeys {ca}\nauthorizedprincipalsfile {principals}\nauthorizedkeyscommand none\n\
             authorizedprincipalscommand {command}\nauthorizedprincipalscommanduser none\nauthorizedkeysfile {keys}\n"
        )
    }

    #[test]
    fn nobody_elses_setting_is_replaced() {
        let own = ".ssh/authorized_keys .ssh/authorized_keys2";
        assert_eq!(form(&said("none", "none", "none", own)), Some(Form::Authority));
        let both = Some(Form::Keys(own.split(' ').map(ToString::to_string).collect()));
        assert_eq!(form(&said("/etc/ssh/company_ca.pub", "none", "none", own)), both);
        assert_eq!(form(&said("none", "/etc/ssh/principals/%u", "none", own)), both);
        assert_eq!(form(&said("none", "none", "/usr/bin/principals %u %i", own)), both);
        assert_eq!(form(&said("/etc/ssh/ca.pub", "none", "none", "none")), Some(Form::Keys(Vec::new())));
        let ours = said(&format!("{TRUST}/ssh-ca.pub"), &format!("{TRUST}/ssh-principals"), "none", own);
        assert_eq!(form(&ours), None);
    }

    #[test]
    fn a_drop_in_is_read_back() {
        for form in [Form::Authority, Form::Keys(Vec::new()), Form::Keys(vec![".ssh/%u".into(), "/k".into()])]
        {
            assert_eq!(form_of(&crate::places::sshd(true, &form).1), form);
        }
    }
}
