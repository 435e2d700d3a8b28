//! TLS around a connection, for https URLs. The server's certificate must be vouched for by the bundle that
//! `SSL_CERT_FILE` names, else by the system's.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::Error;
use crate::http::Timed;

/// Where distributions keep the certificates they trust: Debian and NixOS, Fedora.
const BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// TLS over `stream` to the server that is called `host`; the handshake comes with the first write.
pub(crate) fn over(stream: Timed, host: &str) -> Result<StreamOwned<ClientConnection, Timed>, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .with_root_certificates(roots()?)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_string()).map_err(|error| wrong(&error))?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| wrong(&error))?;
    Ok(StreamOwned::new(connection, stream))
}

fn roots() -> Result<RootCertStore, Error> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = named.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
    let bundle = bundle.ok_or_else(|| Error::Tls("no bundle of certificates on this machine".into()))?;
    let reading =
        |error: rustls::pki_types::pem::Error| Error::Tls(format!("reading {}: {error}", bundle.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&bundle).map_err(reading)? {
        // A bundle may hold an oddity that rustls does not take; whoever needs it is told that nobody vouches.
        let _ = roots.add(certificate.map_err(reading)?);
    }
    Ok(roots)
}
