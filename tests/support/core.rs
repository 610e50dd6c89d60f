//! A client that plays Terraform core: the same handshake, the same TLS, the same calls.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use trading::plugin::{
    Cookie, Host, Provider, ServeError, go_plugin_wire as go,
    wire::{self, provider_client::ProviderClient},
};

/// The certificate that Terraform makes for each plugin process: self-signed, P-521, marked as a CA.
pub struct Caller {
    pub certificate: CertificateDer<'static>,
    pub pem: String,
    key: Vec<u8>,
}

impl Caller {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let key_der = key.serialize_der();
        let certificate = certificate.der().clone();
        let pem = pem(&certificate);
        Self { certificate, pem, key: key_der }
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    /// The environment in which Terraform starts a plugin.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            (
                "TF_PLUGIN_MAGIC_COOKIE",
                "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2".into(),
            ),
            ("PLUGIN_CLIENT_CERT", self.pem.clone()),
            ("PLUGIN_PROTOCOL_VERSIONS", "5,6".into()),
        ]
    }

    pub fn cookie(&self) -> Cookie {
        let environment = self.environment();
        Cookie::read(|name| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        })
        .unwrap()
    }

    /// The TLS configuration of a caller that shows this certificate, and `extra` ones behind it.
    pub fn tls(
        &self,
        server: &CertificateDer<'static>,
        extra: &[CertificateDer<'static>],
    ) -> ClientConfig {
        let mut chain = vec![self.certificate.clone()];
        chain.extend_from_slice(extra);
        let mut config = client(server).with_client_auth_cert(chain, self.key()).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// A certificate in the form in which Terraform announces it.
fn pem(certificate: &CertificateDer<'static>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let body = STANDARD.encode(certificate);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The start of a TLS configuration that trusts exactly `server`.
pub fn client(
    server: &CertificateDer<'static>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OnlyServer(server.clone(), provider)))
}

#[derive(Debug)]
struct OnlyServer(CertificateDer<'static>, Arc<CryptoProvider>);

impl ServerCertVerifier for OnlyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        assert_eq!(*end_entity, self.0, "the server shows the certificate that it announced");
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.1.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.1.signature_verification_algorithms.supported_schemes()
    }
}

/// What a handshake line says.
pub struct Announced {
    pub address: String,
    pub certificate: CertificateDer<'static>,
}

impl Announced {
    pub fn parse(line: &str) -> Self {
        use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
        let parts: Vec<_> = line.split('|').collect();
        let ["1", "6", "tcp", address, "grpc", certificate] = parts[..] else {
            panic!("no handshake line: {line}")
        };
        let certificate = STANDARD_NO_PAD.decode(certificate).unwrap().into();
        Self { address: address.to_owned(), certificate }
    }

    /// A connection of a caller with this TLS configuration.
    ///
    /// # Errors
    /// The plugin turned the caller away.
    pub async fn connect(&self, config: ClientConfig) -> Result<Channel, tonic::transport::Error> {
        let (address, connector) = (self.address.clone(), TlsConnector::from(Arc::new(config)));
        let connect = tower::service_fn(move |_: Uri| {
            let (address, connector) = (address.clone(), connector.clone());
            async move {
                let socket = TcpStream::connect(address).await?;
                let name = ServerName::try_from("localhost").unwrap();
                connector.connect(name, socket).await.map(TokioIo::new)
            }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connect).await
    }
}

/// A provider that serves in this process, and a connection to it.
pub struct Core {
    pub provider: ProviderClient<Channel>,
    pub channel: Channel,
    pub announced: Announced,
    pub caller: Caller,
    pub server: tokio::task::JoinHandle<Result<(), ServeError>>,
}

impl Core {
    pub async fn start(provider: Arc<dyn Provider>) -> Self {
        let caller = Caller::new();
        let host = Host::bind(provider, &caller.cookie()).await.unwrap();
        let announced = Announced::parse(host.handshake());
        let server = tokio::spawn(host.run());
        let channel = announced.connect(caller.tls(&announced.certificate, &[])).await.unwrap();
        let provider = ProviderClient::new(channel.clone())
            .max_decoding_message_size(256 << 20)
            .max_encoding_message_size(256 << 20);
        Self { provider, channel, announced, caller, server }
    }

    pub async fn shutdown(&self) {
        let mut controller =
            go::grpc_controller_client::GrpcControllerClient::new(self.channel.clone());
        controller.shutdown(go::Nothing {}).await.unwrap();
    }
}

/// The messages of a list of diagnostics, each as `severity path: summary — detail`.
pub fn texts(diagnostics: &[wire::Diagnostic]) -> Vec<String> {
    use wire::attribute_path::step::Selector;
    let path = |one: &wire::Diagnostic| -> String {
        let steps = one.attribute.iter().flat_map(|path| &path.steps);
        let names = steps.map(|step| match &step.selector {
            Some(Selector::AttributeName(name) | Selector::ElementKeyString(name)) => name.clone(),
            Some(Selector::ElementKeyInt(index)) => index.to_string(),
            None => "?".into(),
        });
        names.collect::<Vec<_>>().join(".")
    };
    diagnostics
        .iter()
        .map(|one| format!("{:?} {}: {} — {}", one.severity(), path(one), one.summary, one.detail))
        .collect()
}
