//! Man pages and shell completions out of the command-line definition itself.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use crate::exit::Exit;

/// Answers the hidden `--generate` argument; `None` when the command line is an ordinary one.
/// Arguments are what the kernel handed over, which need not be text.
pub(crate) fn generate<C: clap::CommandFactory>(
    mut arguments: impl Iterator<Item = OsString>,
) -> Option<ExitCode> {
    if arguments.next()? != "--generate" {
        return None;
    }
    let kind = arguments.next().unwrap_or_default();
    let mut command = C::command();
    let name = command.get_name().to_string();
    let mut out = Vec::new();
    let shell = match kind.to_str() {
        Some("man") => None,
        Some("bash") => Some(clap_complete::Shell::Bash),
        Some("zsh") => Some(clap_complete::Shell::Zsh),
        Some("fish") => Some(clap_complete::Shell::Fish),
        _ => return Some(Exit::Refused.into()),
    };
    if let Some(shell) = shell {
        clap_complete::generate(shell, &mut command, name, &mut out);
    } else if render(command, &mut out).is_err() {
        return Some(Exit::Failed.into());
    }
    Some(match std::io::stdout().write_all(&out) {
        Ok(()) => Exit::Done.into(),
        Err(_) => Exit::Failed.into(),
    })
}

/// One page for the tool: its own flags, then a section per verb with that verb's flags.
fn render(command: clap::Command, out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut command = command;
    command.build();
    let verbs = leaves(&command);
    let page = clap_mangen::Man::new(command).section("8").manual("personal-cluster");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    if !verbs.is_empty() {
        writeln!(out, ".SH VERBS")?;
    }
    for verb in verbs {
        section(verb, out)?;
    }
    writeln!(
        out,
        ".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\ndone, answered, or nothing to do\n.TP\n\\fB1\\fR\nfailed\n\
         .TP\n\\fB2\\fR\nusage, or refused\n.TP\n\\fB3\\fR\nwith \\-\\-exit\\-code: differs or unhealthy\n\
         .TP\n\\fB75\\fR\ntry again later"
    )?;
    writeln!(out, ".SH \"SEE ALSO\"\n\\fBpc\\-config\\fR(8), \\fBpersonal\\-cluster\\fR(7)")
}

/// Every verb that can be typed, in the order of the definition; of `header backup` and `header restore` both.
fn leaves(command: &clap::Command) -> Vec<clap::Command> {
    let shown = |verb: &&clap::Command| verb.get_name() != "help" && !verb.is_hide_set();
    let below = |verb: &clap::Command| {
        let inner = leaves(verb);
        if inner.is_empty() { vec![verb.clone()] } else { inner }
    };
    command.get_subcommands().filter(shown).flat_map(below).collect()
}

/// The section of one verb.
fn section(mut verb: clap::Command, out: &mut Vec<u8>) -> std::io::Result<()> {
    let usage = verb.render_usage().to_string().replace("Usage: ", "");
    writeln!(out, ".SS \"{}\"", usage.replace('\\', "\\\\").replace('"', "\\(dq"))?;
    if let Some(about) = verb.get_long_about().or_else(|| verb.get_about()) {
        writeln!(out, "{}", escape(&about.to_string()))?;
    }
    let own = verb.get_arguments().filter(|arg| !arg.is_global_set() && !arg.is_hide_set());
    for arg in own.filter(|arg| arg.get_id() != "help") {
        writeln!(out, ".TP\n\\fB{}\\fR", escape(&arg.to_string()))?;
        if let Some(help) = arg.get_long_help().or_else(|| arg.get_help()) {
            writeln!(out, "{}", escape(&help.to_string()))?;
        }
    }
    Ok(())
}

/// roff: a backslash, a hyphen, and a dot or quote at the start of a line are special (man(7)).
fn escape(text: &str) -> String {
    text.lines()
        .map(|line| {
            let line = line.replace('\\', "\\\\").replace('-', "\\-");
            if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, Command};
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn every_verb_that_can_be_typed_has_a_section() {
        let header = Command::new("header")
            .about("Copies of headers")
            .subcommand(Command::new("backup").about("Keep one").arg(Arg::new("DEVICE").required(true)))
            .subcommand(Command::new("restore").about("Put one back"));
        let tool = Command::new("pc-x")
            .subcommand(Command::new("open").about("Open it"))
            .subcommand(header)
            .subcommand(Command::new("inner").hide(true));
        let mut page = Vec::new();
        render(tool, &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        let sections: Vec<&str> = page.lines().filter(|line| line.starts_with(".SS")).collect();
        assert_eq!(
            sections,
            [".SS \"pc-x open\"", ".SS \"pc-x header backup <DEVICE>\"", ".SS \"pc-x header restore\""],
        );
        assert!(page.contains("\nKeep one\n"), "{page}");
    }

    #[test]
    fn what_is_no_text_is_an_ordinary_argument() {
        #[derive(clap::Parser)]
        struct Tool {}
        let not_text = || OsString::from_vec(vec![0xff]);
        assert!(generate::<Tool>([not_text()].into_iter()).is_none());
        assert!(generate::<Tool>(["--generate".into(), not_text()].into_iter()).is_some());
    }
}
