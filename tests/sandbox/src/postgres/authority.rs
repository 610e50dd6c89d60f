//! The sandbox's certificate authority: an authority of its own, and a certificate for every endpoint.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// An authority, and what it has signed.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate in PEM, for clients to trust.
    pub(super) pem: String,
    configs: Mutex<BTreeMap<String, Arc<ServerConfig>>>,
}

fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

impl Authority {
    /// A new one.
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "aws-sandbox RDS root");
        let certificate = params.self_signed(&key)?;
        let pem = pem(certificate.der());
        Ok(Self { issuer: Issuer::new(params, key), pem, configs: Mutex::default() })
    }

    /// What an endpoint shows: a certificate for its own name alone, as RDS has it (failover.md, "For the user").
    pub(super) fn server(&self, name: &str) -> Result<Arc<ServerConfig>, String> {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = configs.get(name) {
            return Ok(Arc::clone(known));
        }
        let signed = || -> Result<_, rcgen::Error> {
            let key = KeyPair::generate()?;
            let params = CertificateParams::new([name.to_owned()])?;
            Ok((params.signed_by(&key, &self.issuer)?, key))
        };
        let (certificate, key) = signed().map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)
            })
            .map_err(|error| error.to_string())?;
        let config = Arc::new(config);
        configs.insert(name.to_owned(), Arc::clone(&config));
        Ok(config)
    }
}
