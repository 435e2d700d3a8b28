//! A verdict as the lines of a terminal. Pure: nothing is written here.

use crate::html::turns;
use crate::tables::{Row, Table, Tone, made, tables};
use crate::verdict::{Severity, Verdict};

/// What is to be shown.
pub struct View<'a> {
    /// The last verdict.
    pub verdict: Option<&'a Verdict>,
    /// Why the last look gave none.
    pub error: Option<&'a str>,
    /// So many seconds ago there should have been another one.
    pub late: Option<u64>,
    /// So many seconds after a look the next one begins.
    pub every: u64,
    /// Lines that are left out at the top.
    pub from: usize,
    /// Colours are wanted.
    pub colour: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Plain,
    Strong,
    Quiet,
    Tone(Tone),
}

/// The lines for so many columns and rows, and the largest `from` that makes sense.
pub fn draw(view: &View<'_>, columns: usize, rows: usize) -> (Vec<String>, usize) {
    let body = body(view, columns.max(1));
    let room = rows.saturating_sub(1);
    let most = body.len().saturating_sub(room);
    let from = view.from.min(most);
    let mut lines: Vec<String> = body
        .iter()
        .skip(from)
        .take(room)
        .map(|(paint, text)| painted(*paint, &clipped(text, columns), view.colour))
        .collect();
    lines.resize(room, String::new());
    let mut foot = format!("q ends, r looks again; else every {} s", view.every);
    if most > 0 {
        foot = format!("lines {}-{} of {}, j and k scroll; {foot}", from + 1, from + room, body.len());
    }
    lines.push(painted(Paint::Quiet, &clipped(&foot, columns), view.colour));
    lines.truncate(rows);
    (lines, most)
}

fn body(view: &View<'_>, columns: usize) -> Vec<(Paint, String)> {
    let mut lines = Vec::new();
    let bad = Paint::Tone(Tone::Bad);
    if let Some(error) = view.error {
        let words = format!("The last look failed: {}", error.replace('\n', " "));
        lines.extend(wrapped(&words, columns, "  ").map(|line| (bad, line)));
    }
    if let Some(seconds) = view.late {
        let words = format!("No answer for {seconds} s: what follows is old.");
        lines.extend(wrapped(&words, columns, "  ").map(|line| (bad, line)));
    }
    let Some(verdict) = view.verdict else {
        if view.error.is_none() {
            lines.push((Paint::Quiet, "Looking.".into()));
        }
        return lines;
    };
    let tone = if verdict.healthy { Paint::Strong } else { bad };
    let words = format!("{}: {}", verdict.subject(), verdict.sentence());
    lines.extend(wrapped(&words, columns, "  ").map(|line| (tone, line)));
    let words = format!("as {} saw it on {}, in {:.1} s", verdict.node, made(verdict), verdict.seconds);
    lines.push((Paint::Quiet, plain(&words)));
    if !verdict.findings.is_empty() {
        lines.push((Paint::Plain, String::new()));
    }
    for finding in &verdict.findings {
        let tone = match finding.severity {
            Severity::Problem => bad,
            Severity::Warning => Paint::Tone(Tone::Weak),
        };
        let words = format!("{}: {}: {}", verdict.place(finding), finding.check, finding.fault);
        lines.extend(wrapped(&words, columns, "    ").map(|line| (tone, line)));
        let remedy = format!("  {}", finding.remedy);
        lines.extend(wrapped(&remedy, columns, "    ").map(|line| (Paint::Plain, line)));
    }
    for table in tables(verdict) {
        lines.push((Paint::Plain, String::new()));
        lines.push((Paint::Strong, table.title.into()));
        lines.extend(rows(&table));
    }
    lines
}

/// In columns as wide as their widest cell.
fn rows(table: &Table) -> Vec<(Paint, String)> {
    let headings = table.headings.iter().map(ToString::to_string).collect();
    let mut all: Vec<(Paint, Vec<String>)> = vec![(Paint::Quiet, headings)];
    for Row { tone, cells } in &table.rows {
        let paint = if *tone == Tone::Well { Paint::Plain } else { Paint::Tone(*tone) };
        all.push((paint, cells.iter().map(|cell| plain(cell)).collect()));
    }
    let count = |cell: &String| cell.chars().count();
    let width = |column: usize| all.iter().filter_map(|(_, cells)| cells.get(column)).map(count).max();
    let widths: Vec<usize> =
        (0..table.headings.len()).map(|column| width(column).unwrap_or_default()).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("  {cell:width$}"));
        padded.collect::<String>().trim_end().to_string()
    };
    all.iter().map(|(paint, cells)| (*paint, line(cells))).collect()
}

/// Text that a terminal shows and does not obey, on one line.
fn plain(text: &str) -> String {
    let one_line: String = text
        .chars()
        .flat_map(|c| {
            let written = if turns(c) { c.escape_unicode().to_string() } else { c.to_string() };
            written.chars().collect::<Vec<char>>()
        })
        .map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c })
        .collect();
    pc_cli::printable(&one_line).into_owned()
}

fn clipped(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.into();
    }
    let mut kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    kept.push('~');
    kept
}

/// Broken at spaces; every line but the first is indented. A word that is longer than a line stays whole.
fn wrapped(text: &str, columns: usize, indent: &'static str) -> std::vec::IntoIter<String> {
    let text = plain(text);
    let mut lines = Vec::new();
    let lead = &text[..text.len() - text.trim_start().len()];
    let mut line = lead.to_string();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(std::mem::replace(&mut line, indent.into()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines.into_iter()
}

/// Select Graphic Rendition (ECMA-48, 8.3.117); the row's end takes it back.
fn painted(paint: Paint, text: &str, colour: bool) -> String {
    let code = match paint {
        Paint::Tone(Tone::Bad) if colour => "1;31",
        Paint::Tone(Tone::Weak) if colour => "33",
        Paint::Strong | Paint::Tone(Tone::Bad) => "1",
        Paint::Quiet | Paint::Tone(Tone::Unknown) => "2",
        Paint::Plain | Paint::Tone(Tone::Well | Tone::Weak) => return text.into(),
    };
    if text.is_empty() { String::new() } else { format!("\x1b[{code}m{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::there::Vm;
    use crate::verdict::{Finding, Looked};

    fn verdict(name: &str, fault: &str) -> Verdict {
        let vm = |name: &str, state: &str| Vm {
            name: name.into(),
            state: state.into(),
            reason: None,
            here: true,
            should_run_here: Some(true),
        };
        let vms = vec![vm(name, "running"), vm("a", "paused")];
        let looked = Looked { reachable: true, vms, ..Looked::unreachable("node1".into()) };
        let found = Finding {
            severity: Severity::Problem,
            check: "vm".into(),
            nodes: vec!["node1".into()],
            fault: fault.into(),
            remedy: "pc-vm status".into(),
        };
        Verdict::new("home", "node1", "2026-01-02T03:04:05Z".into(), vec![looked], vec![found])
    }

    fn view(verdict: Option<&Verdict>) -> View<'_> {
        View { verdict, error: None, late: None, every: 15, from: 0, colour: false }
    }

    #[test]
    fn the_whole_screen() {
        let (lines, most) = draw(&view(Some(&verdict("mail", "vm a is paused"))), 60, 16);
        let expected = [
            "\u{1b}[1mnode1: not healthy, 1 problem",
            "\u{1b}[2mas node1 saw it on 2026-01-02 03:04 UTC, in 0.0 s",
            "",
            "\u{1b}[1mproblem: vm: vm a is paused",
            "  pc-vm status",
            "",
            "\u{1b}[1mNodes",
            "\u{1b}[2m  node   state      file  version",
            "\u{1b}[1m  node1  1 problem  none",
            "",
            "\u{1b}[1mVirtual machines",
            "\u{1b}[2m  vm    state    on",
            "  mail  running  node1",
            "\u{1b}[1m  a     paused   node1",
            "",
            "\u{1b}[2mq ends, r looks again; else every 15 s",
        ];
        assert_eq!((lines, most), (expected.map(String::from).to_vec(), 0));
    }

    #[test]
    fn a_small_one_scrolls_and_is_never_overrun() {
        let told = verdict("mail", &"a long word after another ".repeat(9));
        for (columns, rows) in [(1, 1), (7, 3), (20, 10), (0, 0), (300, 200)] {
            for from in [0, 3, 1_000] {
                let view = View { from, ..view(Some(&told)) };
                let (lines, most) = draw(&view, columns, rows);
                assert_eq!(lines.len(), rows);
                let bare = |line: &String| line.strip_prefix("\u{1b}[1m").unwrap_or(line).chars().count();
                let wide = lines.iter().map(|line| bare(&line.replace("\u{1b}[2m", ""))).max().unwrap_or(0);
                assert!(wide <= columns.max(1), "{columns}x{rows}: {lines:?}");
                assert!(rows < 100 || most == 0);
            }
        }
        let (lines, most) = draw(&View { from: 1_000, ..view(Some(&told)) }, 60, 5);
        assert_eq!(lines[3], "\u{1b}[1m  a     paused   node1", "the end is the end");
        let body = most + 4;
        assert!(
            lines[4].starts_with(&format!("\u{1b}[2mlines {}-{body} of {body}, j and k", most + 1)),
            "{lines:?}"
        );
    }

    #[test]
    fn a_terminal_obeys_nobody_but_us() {
        let hostile = "\u{1b}]0;x\u{7}\u{9b}2J\r\n\u{202e}tfel";
        let (lines, _) = draw(&view(Some(&verdict(hostile, hostile))), 200, 40);
        let all = lines.join("|");
        assert!(!all.replace("\u{1b}[1m", "").replace("\u{1b}[2m", "").contains(char::is_control), "{all:?}");
        assert!(!all.contains('\u{202e}'), "{all:?}");
        assert!(all.contains("  \\u{1b}]0;x\\u{7}\\u{9b}2J\\r \\u{202e}tfel  running"), "{all:?}");
    }

    #[test]
    fn colours_where_they_are_wanted() {
        let told = verdict("mail", "x");
        let (lines, _) = draw(&View { colour: true, ..view(Some(&told)) }, 60, 16);
        assert_eq!(lines[0], "\u{1b}[1;31mnode1: not healthy, 1 problem");
    }

    #[test]
    fn what_is_not_known_is_not_shown_as_known() {
        assert_eq!(draw(&view(None), 60, 3).0[0], "\u{1b}[2mLooking.");
        let told = verdict("mail", "x");
        let failed = View { error: Some("no such file\n  do y"), late: Some(75), ..view(Some(&told)) };
        let (lines, _) = draw(&failed, 60, 16);
        assert_eq!(lines[0], "\u{1b}[1mThe last look failed: no such file do y");
        assert_eq!(lines[1], "\u{1b}[1mNo answer for 75 s: what follows is old.");
    }
}
