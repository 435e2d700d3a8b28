//! TLS 1.3 for scrapes, with the node's own certificate. A certificate that is renewed is taken up while it runs.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use pc_cli::{log, try_again};
use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What tells one content of a file from another: inode, size, seconds and nanoseconds of its last change.
type Stamp = [(u64, u64, i64, i64); 2];

/// A certificate with its key.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    now: Mutex<(Option<Stamp>, Arc<ServerConfig>)>,
}

impl Tls {
    /// Reads both; 75 while the key is not there, or not open yet.
    pub fn new(certificate: &Path, key: &Path) -> Result<Tls> {
        let (certificate, key) = (certificate.to_path_buf(), key.to_path_buf());
        let stamp = stamp(&certificate, &key);
        let config = load(&certificate, &key)?;
        Ok(Tls { certificate, key, now: Mutex::new((stamp, config)) })
    }

    /// For the next connection. Files that have changed and cannot be used are told of once; the last good ones serve on.
    pub fn config(&self) -> Arc<ServerConfig> {
        let stamp = stamp(&self.certificate, &self.key);
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.0 != stamp {
            now.0 = stamp;
            match load(&self.certificate, &self.key) {
                Ok(config) => {
                    log::info(format_args!("took up {} anew", self.certificate.display()));
                    now.1 = config;
                }
                Err(error) => log::warning(format_args!("{error:#}; serving with the certificate before it")),
            }
        }
        Arc::clone(&now.1)
    }
}

fn stamp(certificate: &Path, key: &Path) -> Option<Stamp> {
    let of = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
    };
    Some([of(certificate)?, of(key)?])
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let reading = |path: &Path| format!("reading {}", path.display());
    let private = match PrivateKeyDer::from_pem_file(key) {
        Ok(private) => private,
        Err(error) if is_absent(&error) => {
            return Err(try_again(format!("the key {} is not open yet\n  pc-unlock status", key.display())));
        }
        Err(error) => return Err(error).with_context(|| reading(key)),
    };
    let chain = match CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect) {
        Ok(chain) => chain,
        Err(error) if is_absent(&error) => {
            let fault = format!("the certificate {} is not there yet", certificate.display());
            return Err(try_again(format!("{fault}\n  pc-trust status")));
        }
        Err(error) => return Err(error).with_context(|| reading(certificate)),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing a version of TLS")?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| format!("using {} with {}", certificate.display(), key.display()))?;
    Ok(Arc::new(config))
}

/// No file, or one in which nothing begins like a key: what stands in for a credential that is not there.
fn is_absent(error: &PemError) -> bool {
    match error {
        PemError::NoItemsFound => true,
        PemError::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}
