//! Man pages and shell completions out of the command-line definition itself.

use std::io::Write;
use std::process::ExitCode;

use crate::exit::Exit;

/// Answers the hidden `--generate` argument; `None` when the command line is an ordinary one.
pub(crate) fn generate<C: clap::CommandFactory>() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != "--generate" {
        return None;
    }
    let kind = arguments.next().unwrap_or_default();
    let mut command = C::command();
    let name = command.get_name().to_string();
    let mut out = Vec::new();
    let shell = match kind.as_str() {
        "man" => None,
        "bash" => Some(clap_complete::Shell::Bash),
        "zsh" => Some(clap_complete::Shell::Zsh),
        "fish" => Some(clap_complete::Shell::Fish),
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
    let verbs: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    let page = clap_mangen::Man::new(command).section("8").manual("personal-cluster");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    if verbs.iter().any(|verb| verb.get_name() != "help") {
        writeln!(out, ".SH VERBS")?;
    }
    for mut verb in verbs.into_iter().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set()) {
        let usage = verb.render_usage().to_string().replace("Usage: ", "");
        writeln!(out, ".SS \"{}\"", usage.replace('\\', "\\\\").replace('"', "\\(dq"))?;
        if let Some(about) = verb.get_long_about().or_else(|| verb.get_about()) {
            writeln!(out, "{}", escape(&about.to_string()))?;
        }
        let global: Vec<&clap::Arg> =
            verb.get_arguments().filter(|arg| !arg.is_global_set() && !arg.is_hide_set()).collect();
        for arg in global.into_iter().filter(|arg| arg.get_id() != "help") {
            writeln!(out, ".TP\n\\fB{}\\fR", escape(&arg.to_string()))?;
            if let Some(help) = arg.get_long_help().or_else(|| arg.get_help()) {
                writeln!(out, "{}", escape(&help.to_string()))?;
            }
        }
    }
    writeln!(
        out,
        ".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\ndone, answered, or nothing to do\n.TP\n\\fB1\\fR\nfailed\n\
         .TP\n\\fB2\\fR\nusage, or refused\n.TP\n\\fB3\\fR\nwith \\-\\-exit\\-code: differs or unhealthy\n\
         .TP\n\\fB75\\fR\ntry again later"
    )?;
    writeln!(out, ".SH \"SEE ALSO\"\n\\fBpc\\-config\\fR(8), \\fBpersonal\\-cluster\\fR(7)")
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
