//! pc-trust: certificates and secrets.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::{parsed, timestamp};
use crate::metric::{Samples, families};

families! {
    HEALTHY: Gauge "pc_trust_healthy" [] "1 when pc-trust knows of no problem.";
    PROBLEMS: Gauge "pc_trust_problems" [] "What is wrong with certificates and secrets, counted; pc-trust status says it in words.";
    CA_EXPIRY: Gauge "pc_trust_ca_expiry_timestamp_seconds" [] "End of the life of the cluster's CA.";
    EXPIRY: Gauge "pc_trust_certificate_expiry_timestamp_seconds" [] "End of the life of this node's certificate.";
    RENEWAL: Gauge "pc_trust_certificate_renewal_timestamp_seconds" [] "When half of the life of this node's certificate is over.";
    OPEN: Gauge "pc_trust_secret_open" ["secret"] "1 when the secret is open in memory.";
    SEALED: Gauge "pc_trust_secret_sealed" ["secret"] "1 when the secret is kept sealed to the unlock servers.";
    CLEAR: Gauge "pc_trust_secret_clear" ["secret"] "1 when the secret lies in clear on the system disk, for want of [unlock].";
    TOKENS: Gauge "pc_trust_tokens" [] "Join tokens that are outstanding.";
}

#[derive(Deserialize)]
struct Status {
    healthy: bool,
    problems: Vec<String>,
    ca_not_after: Option<String>,
    certificate: Option<Certificate>,
    secrets: Vec<Secret>,
    tokens: Vec<Value>,
}

#[derive(Deserialize)]
struct Certificate {
    not_after: String,
    renew_after: String,
}

#[derive(Deserialize)]
struct Secret {
    name: String,
    sealed: bool,
    clear: bool,
    open: bool,
}

/// `pc.trust.status/1`.
pub fn read(answer: Value) -> Result<Samples> {
    let status: Status = parsed(answer)?;
    let mut samples = Samples::default();
    samples.truth(&HEALTHY, &[], status.healthy);
    samples.length(&PROBLEMS, &[], &status.problems);
    if let Some(end) = &status.ca_not_after {
        samples.number(&CA_EXPIRY, &[], timestamp(end)?);
    }
    if let Some(certificate) = &status.certificate {
        samples.number(&EXPIRY, &[], timestamp(&certificate.not_after)?);
        samples.number(&RENEWAL, &[], timestamp(&certificate.renew_after)?);
    }
    for secret in &status.secrets {
        let name = [secret.name.as_str()];
        samples.truth(&OPEN, &name, secret.open);
        samples.truth(&SEALED, &name, secret.sealed);
        samples.truth(&CLEAR, &name, secret.clear);
    }
    samples.length(&TOKENS, &[], &status.tokens);
    Ok(samples)
}
