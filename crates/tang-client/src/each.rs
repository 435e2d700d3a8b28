//! Every pin of a message by itself. A threshold hides those that give nothing until one of the others is down.

use std::time::Instant;

use crate::Error;
use crate::client::{Client, all_at_once};
use crate::pin::{Node, Policy};
use crate::sss::Sharing;

impl Client {
    /// Why single pins of a message give nothing, although the others may open it. All are asked at once, none of them
    /// twice; empty when each one gives its part.
    pub fn faults(&self, policy: &Policy) -> Vec<Error> {
        let (mut parts, mut faults) = (Vec::new(), Vec::new());
        collect(policy, None, &mut parts, &mut faults);
        let until = Instant::now() + self.budget.attempt;
        let asked = all_at_once(parts.into_iter(), |(part, sharing)| {
            let text = self.open(part, until)?;
            sharing.map_or(Ok(()), |sharing| sharing.share(&text).map(drop))
        });
        faults.extend(asked.into_iter().filter_map(Result::err));
        faults
    }
}

/// A pin that is no sharing, and the sharing that its text is a share of.
type Part<'a> = (&'a Policy, Option<&'a Sharing>);

fn collect<'a>(
    policy: &'a Policy,
    of: Option<&'a Sharing>,
    parts: &mut Vec<Part<'a>>,
    faults: &mut Vec<Error>,
) {
    let Node::Sss(sharing, shares) = &policy.node else {
        parts.push((policy, of));
        return;
    };
    for share in shares {
        match share {
            Ok(share) => collect(share, Some(sharing), parts, faults),
            Err(error) => faults.push(error.clone()),
        }
    }
}
