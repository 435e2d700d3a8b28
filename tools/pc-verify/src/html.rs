//! A verdict as one page of HTML: no script, nothing from elsewhere, readable on a phone and in the dark. Pure.
//!
//! Whatever a node, a guest or a disk calls itself is text here and nothing else: every word that is not of this file
//! goes through [`escaped`].

use std::fmt::Write;

use crate::tables::{Row, Table, Tone, made, tables};
use crate::verdict::{Severity, Verdict};

/// Who shows the page (pc-exporter) says here how old it has become: it cannot know that itself.
pub const AGE: &str = "<!-- age -->";
/// The page asks for itself again after so many seconds.
const AGAIN: u32 = 60;

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(verdict: &Verdict) -> String {
    let subject = escaped(verdict.subject());
    let (tone, badge) = if verdict.healthy { ("well", "healthy") } else { ("bad", "not healthy") };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta http-equiv=\"refresh\" content=\"{AGAIN}\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{subject}: {badge}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header class=\"{tone}\">\n<h1>{subject}</h1>\n<p class=\"verdict\">{}</p>\n\
         <p class=\"made\">as {} saw it on <time datetime=\"{}\">{}</time></p>\n{AGE}\n</header>\n",
        escaped(&verdict.sentence()),
        escaped(&verdict.node),
        escaped(&verdict.measured_at),
        escaped(&made(verdict)),
    );
    findings(&mut page, verdict);
    for table in tables(verdict) {
        section(&mut page, &table);
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Writing to a string does not fail.
macro_rules! put {
    ($page:expr, $($words:tt)*) => {
        let _ = write!($page, $($words)*);
    };
}

fn findings(page: &mut String, verdict: &Verdict) {
    page.push_str("<section>\n<h2>What is wrong</h2>\n");
    if verdict.findings.is_empty() {
        page.push_str("<p>Nothing.</p>\n</section>\n");
        return;
    }
    page.push_str("<ul>\n");
    for finding in &verdict.findings {
        let tone = match finding.severity {
            Severity::Problem => "bad",
            Severity::Warning => "weak",
        };
        let (place, check) = (escaped(&verdict.place(finding)), escaped(&finding.check));
        let (fault, remedy) = (escaped(&finding.fault), escaped(&finding.remedy));
        put!(
            page,
            "<li class=\"{tone}\">\n<p class=\"place\">{place}: {check}</p>\n<p class=\"fault\">{fault}</p>\n\
             <p class=\"remedy\"><code>{remedy}</code></p>\n</li>\n"
        );
    }
    page.push_str("</ul>\n</section>\n");
}

fn section(page: &mut String, table: &Table) {
    put!(page, "<section>\n<h2>{}</h2>\n<table>\n<thead><tr>", escaped(table.title));
    for heading in table.headings {
        put!(page, "<th scope=\"col\">{}</th>", escaped(heading));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for Row { tone, cells } in &table.rows {
        put!(page, "<tr class=\"{}\">", class(*tone));
        for (heading, cell) in table.headings.iter().zip(cells) {
            // On a phone a row is a card, and each cell tells its own heading.
            put!(page, "<td data-heading=\"{}\">{}</td>", escaped(heading), escaped(cell));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n</section>\n");
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Bad => "bad",
        Tone::Weak => "weak",
        Tone::Unknown => "unknown",
        Tone::Well => "well",
    }
}

/// Text that is text in an element and in a quoted attribute (HTML, 13.1.2.3 and 13.1.4). What has no shape on a page, or
/// turns the order of what stands around it, is written out.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() || turns(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

/// Marks, embeddings and isolates of the bidirectional algorithm, and what has no width (Unicode, Annex 9).
pub fn turns(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::there::{Vm, Volume};
    use crate::verdict::{Finding, Looked};

    const HOSTILE: &str = "<script>alert('1')</script>\" onload=x & \u{202e}cba\u{1b}[2J";

    fn looked(name: &str, vms: Vec<Vm>) -> Looked {
        let volume = Volume {
            name: "vms".into(),
            started: true,
            mounted: true,
            quorum: true,
            bricks: 3,
            bricks_online: 3,
            heal_pending: Some(0),
            split_brain: None,
        };
        let (reachable, generation, version) = (true, Some(4), Some("0.1.0".to_string()));
        let volumes = vec![volume];
        Looked { reachable, version, generation, volumes, vms, ..Looked::unreachable(name.into()) }
    }

    fn vm(name: &str) -> Vm {
        let (state, reason) = ("running".to_string(), None);
        Vm { name: name.into(), state, reason, here: true, should_run_here: Some(true) }
    }

    fn verdict(node: &str, name: &str, found: &[&str]) -> Verdict {
        let found = found.iter().map(|text| Finding {
            severity: Severity::Problem,
            check: "vm".into(),
            nodes: vec![node.into()],
            fault: (*text).into(),
            remedy: (*text).into(),
        });
        let looked = vec![looked(node, vec![vm(name)])];
        Verdict::new("home", node, "2026-01-02T03:04:05Z".into(), looked, found.collect())
    }

    /// The names of the elements of a page, in their order, and the text between them.
    fn taken_apart(page: &str) -> (Vec<String>, String) {
        let (mut elements, mut text) = (Vec::new(), String::new());
        for part in page.split('<').skip(1) {
            let (tag, rest) = part.split_once('>').unwrap();
            elements.push(tag.split([' ', '\n']).next().unwrap().to_string());
            text.push_str(rest);
        }
        (elements, text)
    }

    #[test]
    fn a_hostile_name_is_text() {
        let usual = taken_apart(&page(&verdict("node1", "mail", &["x"])));
        let page = page(&verdict(HOSTILE, HOSTILE, &[HOSTILE]));
        let (elements, text) = taken_apart(&page);
        assert_eq!(elements, usual.0, "it has made no element");
        assert!(!elements.iter().any(|name| name == "script"), "{page}");
        // As a heading, as a cell and as a fault it is read as it was written, but for what a page must not obey.
        let shown =
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onload=x &amp; \\u{202e}cba\\u{1b}[2J";
        assert!(text.matches(shown).count() >= 5, "{page}");
        assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'), "{page}");
        // The time is a quoted attribute.
        let time = Verdict { measured_at: "\" onclick=\"x".into(), ..verdict("node1", "mail", &[]) };
        assert!(super::page(&time).contains("<time datetime=\"&quot; onclick=&quot;x\">"));
        assert_eq!(page.matches(AGE).count(), 1);
    }

    #[test]
    fn it_needs_nothing_from_elsewhere_and_runs_nothing() {
        let page = page(&verdict("node1", "mail", &["x"]));
        let (elements, _) = taken_apart(&page);
        for name in ["script", "iframe", "img", "object", "embed", "form", "a", "base"] {
            assert!(!elements.iter().any(|element| element == name), "{name}");
        }
        assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("@import"), "{page}");
        assert!(!page.contains("url("), "{page}");
        // Every element that is opened is closed.
        let void = ["!doctype", "meta", "link", "!--"];
        let mut open = Vec::new();
        for element in elements.iter().filter(|element| !void.contains(&element.as_str())) {
            match element.strip_prefix('/') {
                Some(closed) => assert_eq!(open.pop().as_deref(), Some(closed)),
                None => open.push(element.clone()),
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn what_is_wrong_comes_first_with_its_remedy() {
        let page = page(&verdict("node1", "mail", &["disk x is locked"]));
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}: {page}"));
        assert!(at("not healthy, 1 problem") < at("What is wrong"));
        assert!(at("<p class=\"fault\">disk x is locked</p>") < at("<h2>Nodes</h2>"));
        assert!(
            at("<h2>Volumes</h2>")
                < at("<td data-heading=\"vm\">mail</td><td data-heading=\"state\">running</td>")
        );
        assert!(
            at("as node1 saw it on <time datetime=\"2026-01-02T03:04:05Z\">2026-01-02 03:04 UTC</time>") > 0
        );
        let page = super::page(&verdict("node1", "mail", &[]));
        assert!(page.contains("<p>Nothing.</p>") && page.contains("<title>node1: healthy</title>"), "{page}");
    }
}
