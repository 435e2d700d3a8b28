//! The join's TLS 1.3: the member shows its node certificate, the joiner pins the CA by the token.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::token::{Token, fingerprint};

/// Label of the exported key that both proofs are bound to (RFC 8446, 7.5).
const LABEL: &[u8] = b"EXPORTER-personal-cluster-join-1";

/// The moment at which a joiner judges certificates: all of ours are valid from 2020, and the clock of a new
/// machine says nothing.
const JUDGED_AT: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_590_969_600));

/// The member's side.
pub fn server(node_certificate: &str, ca: &str, node_key: &str) -> Result<Arc<ServerConfig>> {
    let chain = vec![crate::x509::der(node_certificate)?, crate::x509::der(ca)?];
    let key = PrivateKeyDer::from_pem_slice(node_key.as_bytes())
        .map_err(|error| anyhow!("reading the node's key: {error}"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("preparing TLS")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("using the node's certificate and key")?;
    // One session per connection: nothing to resume, nothing to keep.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The joiner's side; the CA's certificate is left in `Pinned` once the session stands.
pub fn client(token: Arc<Token>) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Pinned { token, provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("preparing TLS")?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Trusts the CA whose fingerprint the token carries, and any node that it vouches for.
struct Pinned {
    token: Arc<Token>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|der| self.token.pins(&fingerprint(der)));
        let Some(ca) = pinned else {
            return Err(rustls::Error::General("the token was made by another cluster".into()));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        // The name does not matter: every node of the cluster may sign, at any address.
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], JUDGED_AT, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The CA's certificate out of the chain that was verified.
pub fn pinned_ca(chain: Option<&[CertificateDer<'_>]>, token: &Token) -> Result<CertificateDer<'static>> {
    let ca = chain.into_iter().flatten().find(|der| token.pins(&fingerprint(der)));
    ca.map(|der| der.clone().into_owned()).context("the other side showed no CA")
}

/// A socket that gives up at a moment, however slowly the other side drips.
pub struct Timed {
    socket: TcpStream,
    until: Instant,
}

impl Timed {
    /// Gives up after `patience`.
    pub fn new(socket: TcpStream, patience: Duration) -> Timed {
        Timed { socket, until: Instant::now() + patience }
    }

    /// Moves the end.
    pub fn extend(&mut self, patience: Duration) {
        self.until = Instant::now() + patience;
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the join took too long"));
        }
        Ok(left)
    }
}

/// The kernel says `EAGAIN` when a socket's time is up.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        return io::Error::new(io::ErrorKind::TimedOut, "the join took too long");
    }
    error
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        self.socket.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(buffer).map_err(timed_out)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// The key that only the two ends of this session have in common.
pub fn session<D>(connection: &rustls::ConnectionCommon<D>) -> Result<zeroize::Zeroizing<[u8; 32]>> {
    let key = connection.export_keying_material([0; 32], LABEL, None).context("binding to the session")?;
    Ok(zeroize::Zeroizing::new(key))
}
