//! Every call of curl(1).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use pc_cli::TryAgain;
use xshell::{Shell, cmd};

/// curl's exit codes for a network that may be better later: names (5, 6), connections (7), a short body (18),
/// time-outs (28), TLS handshakes cut off (35), and what breaks on the way (52, 55, 56, 92).
const PASSING: [i32; 10] = [5, 6, 7, 18, 28, 35, 52, 55, 56, 92];

/// Downloads a file over http(s), and nothing else, whatever a redirection says.
pub fn download(url: &str, to: &Path) -> Result<()> {
    let sh = Shell::new()?;
    let command = cmd!(
        sh,
        "curl --fail --silent --show-error --location --max-redirs 10 --proto =http,https --proto-redir =http,https
         --connect-timeout 30 --speed-limit 1024 --speed-time 120 --output {to} -- {url}"
    );
    let result = pc_run::run(command).deadline(Duration::from_secs(4 * 3600)).output();
    let Err(error) = result else { return Ok(()) };
    let passing = error.code().is_some_and(|code| PASSING.contains(&code));
    let error = anyhow::Error::new(error);
    if passing {
        let message = format!("downloading {url}: {error}");
        return Err(TryAgain(message).into());
    }
    Err(error).with_context(|| format!("downloading {url}"))
}
