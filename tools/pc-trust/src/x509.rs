//! X.509: the CA's certificate, nodes' certificates, and reading them back.
//!
//! Every certificate is valid from 2020, so that a machine whose clock fell back to its firmware's date
//! still accepts it, and until a date counted from no earlier than [`FLOOR`].

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::token::{Fingerprint, fingerprint};

/// Start of every certificate's life.
pub const NOT_BEFORE: OffsetDateTime = datetime!(2020-01-01 00:00 UTC);
/// A clock that is earlier than this is wrong, and lives are counted from here.
const FLOOR: OffsetDateTime = datetime!(2025-08-01 00:00 UTC);
const CA_LIFE: Duration = Duration::days(20 * 365);
const NODE_LIFE: Duration = Duration::days(2 * 365);
/// A node's certificate is renewed when less than this is left.
pub const RENEW_BEFORE: Duration = Duration::days(365);

/// Now, or the floor when the clock is behind it.
pub fn sane_now() -> OffsetDateTime {
    OffsetDateTime::now_utc().max(FLOOR)
}

/// End of a certificate that is issued now.
pub fn node_end() -> OffsetDateTime {
    sane_now() + NODE_LIFE
}

/// A new P-256 key.
pub fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making a key")
}

/// The certificate of a new CA, PEM.
pub fn new_ca(cluster: &str, key: &KeyPair) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("{cluster} personal-cluster CA"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = NOT_BEFORE;
    params.not_after = sane_now() + CA_LIFE;
    Ok(params.self_signed(key).context("making the CA's certificate")?.pem())
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// What a node is called in its certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Host name: the common name, which Gluster's `auth.ssl-allow` compares.
    pub node: String,
    /// Host name with the cluster's domain.
    pub full: String,
    /// Address of the node.
    pub address: IpAddr,
}

impl Names {
    /// The names of a node of the file.
    pub fn of(cluster: &cluster::Cluster, node: &cluster::Node) -> Result<Names> {
        let address = node.address.split('/').next().unwrap_or_default();
        Ok(Names {
            node: node.name.to_string(),
            full: format!("{}.{}", node.name, cluster.domain),
            address: address.parse().map_err(|_| {
                pc_cli::refused(format!("node {}: {address:?} is not an IP address", node.name))
            })?,
        })
    }

    /// All of them, as text.
    pub fn all(&self) -> [String; 3] {
        [self.node.clone(), self.full.clone(), self.address.to_string()]
    }
}

/// Signs a node's public key. Of a request only the key counts: the names are those of the cluster file.
pub fn sign_node(ca: &str, ca_key: &KeyPair, names: &Names, key: &impl PublicKeyData) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&names.node);
    let dns = |name: &str| name.try_into().map(SanType::DnsName).with_context(|| format!("naming {name}"));
    params.subject_alt_names = vec![dns(&names.node)?, dns(&names.full)?, SanType::IpAddress(names.address)];
    params.is_ca = IsCa::ExplicitNoCa;
    // Key encipherment means nothing for ECDSA, but releases of libvirt refuse a critical usage without it
    // (src/rpc/virnettlscert.c).
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = NOT_BEFORE;
    params.not_after = node_end();
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_pem(ca, ca_key).context("reading the CA's certificate")?;
    Ok(params.signed_by(key, &issuer).context("signing the certificate")?.pem())
}

/// A request for `key`, PEM.
pub fn request(node: &str, key: &KeyPair) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(node);
    params.serialize_request(key).and_then(|request| request.pem()).context("making a certificate request")
}

/// The key of a request that proves possession of it.
pub fn read_request(pem: &str) -> Result<rcgen::PublicKey> {
    let request = CertificateSigningRequestParams::from_pem(pem)
        .map_err(|error| pc_cli::refused(format!("reading the certificate request: {error}")))?;
    if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
        return Err(pc_cli::refused("the certificate request is not for a P-256 key"));
    }
    Ok(request.public_key)
}

/// DER of a PEM certificate.
pub fn der(pem: &str) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| anyhow!("reading a certificate: {error}"))
}

/// PEM of a DER certificate (RFC 7468).
pub fn to_pem(der: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for start in (0..text.len()).step_by(64) {
        pem.push_str(&text[start..text.len().min(start + 64)]);
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// SHA-256 of a PEM certificate.
pub fn pem_fingerprint(pem: &str) -> Result<Fingerprint> {
    Ok(fingerprint(&der(pem)?))
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Common name.
    pub common_name: String,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// End of its life.
    pub not_after: OffsetDateTime,
    /// The public key's bytes (an uncompressed point).
    pub public_key: Vec<u8>,
}

/// Reads a certificate.
pub fn facts(pem: &str) -> Result<Facts> {
    let der = der(pem)?;
    let (_, certificate) = X509Certificate::from_der(&der).context("reading a certificate")?;
    let mut names = Vec::new();
    if let Some(extension) =
        certificate.subject_alternative_name().context("reading a certificate's names")?
    {
        names.extend(extension.value.general_names.iter().filter_map(general_name));
    }
    Ok(Facts {
        common_name: first_common_name(&certificate).to_string(),
        names,
        not_after: certificate.validity().not_after.to_datetime(),
        public_key: certificate.public_key().subject_public_key.data.to_vec(),
    })
}

fn first_common_name<'a>(certificate: &'a X509Certificate<'_>) -> &'a str {
    certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default()
}

fn general_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_string()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Checks that `pem` was issued by `ca` for a node, whatever the clock says; gives its facts.
pub fn issued_by(pem: &str, ca: &str) -> Result<Facts> {
    let (leaf_der, ca_der) = (der(pem)?, der(ca)?);
    let (_, leaf) = X509Certificate::from_der(&leaf_der).context("reading the certificate")?;
    let (_, ca) = X509Certificate::from_der(&ca_der).context("reading the CA's certificate")?;
    if leaf.is_ca() || leaf.issuer() != ca.subject() || leaf.verify_signature(Some(ca.public_key())).is_err()
    {
        return Err(pc_cli::refused("the certificate was not issued by this cluster's CA"));
    }
    facts(pem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn names() -> Names {
        Names { node: "node1".into(), full: "node1.home.arpa".into(), address: "192.0.2.1".parse().unwrap() }
    }

    #[test]
    fn openssl_verifies_the_chain_with_clocks_years_off() {
        let (ca_key, key) = (new_key().unwrap(), new_key().unwrap());
        let ca = new_ca("home", &ca_key).unwrap();
        let node = sign_node(&ca, &ca_key, &names(), &key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (ca_file, node_file) = (directory.path().join("ca"), directory.path().join("node"));
        std::fs::write(&ca_file, &ca).unwrap();
        std::fs::write(&node_file, &node).unwrap();
        let verify = |arguments: &[&str]| {
            let mut command = Command::new("openssl");
            command.args(["verify", "-x509_strict", "-CAfile"]).arg(&ca_file).args(arguments).arg(&node_file);
            command.output().unwrap()
        };
        // 2020-06-01, and now.
        for arguments in
            [&["-attime", "1590969600"][..], &["-purpose", "sslserver"], &["-purpose", "sslclient"]]
        {
            let output = verify(arguments);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        assert!(verify(&["-verify_hostname", "node1.home.arpa"]).status.success());
        assert!(verify(&["-verify_ip", "192.0.2.1"]).status.success());
        assert!(!verify(&["-verify_hostname", "node2"]).status.success());
        let mut show = Command::new("openssl");
        show.args(["x509", "-noout", "-subject", "-ext", "keyUsage", "-in"]);
        let text = show.arg(&node_file).output().unwrap();
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains("CN = node1") && text.contains("Key Encipherment"), "{text}");
    }

    #[test]
    fn facts_are_what_was_asked_for() {
        let (ca_key, key) = (new_key().unwrap(), new_key().unwrap());
        let ca = new_ca("home", &ca_key).unwrap();
        let node = sign_node(&ca, &ca_key, &names(), &key).unwrap();
        let facts = issued_by(&node, &ca).unwrap();
        assert_eq!((facts.common_name.as_str(), facts.names.as_slice()), ("node1", &names().all()[..]));
        assert_eq!(facts.public_key, key.public_key_raw());
        assert!(facts.not_after >= FLOOR + NODE_LIFE);
        let stranger_key = new_key().unwrap();
        let stranger = new_ca("home", &stranger_key).unwrap();
        assert!(issued_by(&node, &stranger).is_err(), "same names, another key");
        assert!(issued_by(&ca, &ca).is_err(), "a CA is no node");
    }

    #[test]
    fn requests_prove_their_key() {
        let key = new_key().unwrap();
        let pem = request("node2", &key).unwrap();
        assert_eq!(read_request(&pem).unwrap().der_bytes(), key.public_key_raw());
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert!(read_request(&request("node2", &other).unwrap()).is_err());
        for bad in ["", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"] {
            assert!(read_request(bad).is_err());
        }
    }
}
