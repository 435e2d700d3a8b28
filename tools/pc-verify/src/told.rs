//! What one check has to tell, before it is known on which node.

use crate::verdict::Severity;

/// One thing that a check tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Problem or warning.
    pub severity: Severity,
    /// What is wrong.
    pub fault: String,
    /// What to do.
    pub remedy: String,
}

impl Told {
    /// Something is wrong.
    pub fn problem(fault: impl Into<String>, remedy: impl Into<String>) -> Told {
        Told { severity: Severity::Problem, fault: fault.into(), remedy: remedy.into() }
    }

    /// Something is risky.
    pub fn warning(fault: impl Into<String>, remedy: impl Into<String>) -> Told {
        Told { severity: Severity::Warning, ..Told::problem(fault, remedy) }
    }

    /// A sentence of a tool, which often has its remedy as its second line; `otherwise` stands in.
    pub fn sentence(severity: Severity, text: &str, otherwise: &str) -> Told {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let fault = lines.next().unwrap_or("says nothing").to_string();
        let remedy = lines.next().unwrap_or(otherwise).to_string();
        Told { severity, fault, remedy }
    }
}
