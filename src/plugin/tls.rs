//! Mutual TLS with exactly one caller.
//!
//! Terraform announces a self-signed P-521 certificate that is marked as a CA. Stock verifiers refuse such
//! an end entity, and one that makes the client certificate optional lets every local process in. So the
//! verifier here compares the caller's certificate byte by byte with the announced one and leaves only the
//! proof of possession, the handshake signature, to the crypto provider.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    version::TLS13,
};

/// A server certificate for this process's life and the configuration that serves it.
pub(super) struct Identity {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) config: Arc<ServerConfig>,
}

/// Why no identity could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate could be generated.
    #[error("cannot generate the plugin's TLS certificate")]
    Generate(#[from] rcgen::Error),
    /// The TLS library refused the configuration.
    #[error("cannot set up TLS for the plugin")]
    Configure(#[from] Error),
}

/// Makes a P-256 identity that serves nobody but the holder of `caller`'s key.
pub(super) fn identity_for(caller: CertificateDer<'static>) -> Result<Identity, TlsError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
    let certificate = certificate.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));

    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(OnlyCaller { caller, provider: Arc::clone(&provider) });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Terraform connects once; a ticket would only be one more way in.
    config.send_tls13_tickets = 0;
    Ok(Identity { certificate, config: Arc::new(config) })
}

#[derive(Debug)]
struct OnlyCaller {
    caller: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for OnlyCaller {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if *end_entity == self.caller && intermediates.is_empty() {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(Error::General("the caller is not the Terraform that started this plugin".into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is served".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
