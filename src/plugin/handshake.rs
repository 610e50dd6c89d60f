//! The first words between Terraform and its plugin.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// The environment variable that proves that Terraform started the process.
const COOKIE_KEY: &str = "TF_PLUGIN_MAGIC_COOKIE";
const COOKIE_VALUE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";
/// The protocol version of go-plugin itself.
const CORE_PROTOCOL: u8 = 1;
/// The major version of Terraform's plugin protocol.
const APP_PROTOCOL: u8 = 6;

/// Why a process that Terraform started cannot serve it.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Terraform was told to switch TLS off, which would let any local process in.
    #[error(
        "Terraform announced no client certificate (PLUGIN_CLIENT_CERT is empty, as it is with \
         TF_DISABLE_PLUGIN_TLS=1); a plugin that anybody on this machine may call is refused"
    )]
    NoClientCertificate,
    /// What was announced is no certificate.
    #[error("PLUGIN_CLIENT_CERT is not a PEM certificate")]
    BadClientCertificate(#[source] rustls::pki_types::pem::Error),
    /// Terraform speaks only other major versions of the protocol.
    #[error("Terraform offers plugin protocol {0}; this provider needs 6 (Terraform 1.0 or newer)")]
    Protocol(String),
}

/// What Terraform says of itself in the plugin's environment.
#[derive(Clone, Debug)]
pub struct Cookie {
    client_certificate: Option<String>,
    protocols: Option<String>,
}

impl Cookie {
    /// Reads the environment through `variable`. `None` when the process was not started by Terraform.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        (variable(COOKIE_KEY).as_deref() == Some(COOKIE_VALUE)).then(|| Self {
            client_certificate: variable("PLUGIN_CLIENT_CERT").filter(|text| !text.is_empty()),
            protocols: variable("PLUGIN_PROTOCOL_VERSIONS").filter(|text| !text.is_empty()),
        })
    }

    /// The one certificate that a caller must show.
    ///
    /// # Errors
    /// None announced, none that can be read, or no common protocol version.
    pub fn client_certificate(&self) -> Result<CertificateDer<'static>, HandshakeError> {
        if let Some(offered) = &self.protocols {
            let ours = APP_PROTOCOL.to_string();
            if !offered.split(',').any(|one| one.trim() == ours) {
                return Err(HandshakeError::Protocol(offered.clone()));
            }
        }
        let pem = self.client_certificate.as_ref().ok_or(HandshakeError::NoClientCertificate)?;
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(HandshakeError::BadClientCertificate)
    }
}

/// The line on standard output that tells Terraform where and as whom the plugin listens.
pub(super) fn handshake_line(address: SocketAddr, certificate: &CertificateDer<'static>) -> String {
    let certificate = STANDARD_NO_PAD.encode(certificate);
    format!("{CORE_PROTOCOL}|{APP_PROTOCOL}|tcp|{address}|grpc|{certificate}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(certificate: &str, protocols: &str) -> Option<Cookie> {
        Cookie::read(|name| match name {
            COOKIE_KEY => Some(COOKIE_VALUE.into()),
            "PLUGIN_CLIENT_CERT" => Some(certificate.into()),
            "PLUGIN_PROTOCOL_VERSIONS" => Some(protocols.into()),
            _ => None,
        })
    }

    #[test]
    fn without_the_cookie_nobody_started_us() {
        assert!(Cookie::read(|_| None).is_none());
        assert!(Cookie::read(|_| Some("wrong".into())).is_none());
    }

    #[test]
    fn plaintext_is_refused() {
        let refused = cookie("", "5,6").unwrap().client_certificate();
        assert!(matches!(refused, Err(HandshakeError::NoClientCertificate)));
        let refused = cookie("not a certificate", "6").unwrap().client_certificate();
        assert!(matches!(refused, Err(HandshakeError::BadClientCertificate(_))));
    }

    #[test]
    fn only_protocol_6_is_served() {
        let refused = cookie("x", "4,5").unwrap().client_certificate();
        assert!(matches!(refused, Err(HandshakeError::Protocol(_))));
    }
}
