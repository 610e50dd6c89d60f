//! Who gets in: the Terraform that started the plugin, and nobody else.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, version::TLS12};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};
use trading::plugin::wire::{self, provider_client::ProviderClient};

use super::toy::Toy;
use crate::support::{
    core::{Caller, Core, client},
    flood::Flood,
};

async fn gets_in(core: &Core, config: ClientConfig) -> bool {
    let Ok(channel) = core.announced.connect(config).await else { return false };
    let call = async { ProviderClient::new(channel).get_metadata(wire::Empty {}).await };
    matches!(timeout(Duration::from_secs(10), call).await, Ok(Ok(_)))
}

#[tokio::test]
async fn only_the_announced_certificate_gets_in() {
    let core = Core::start(Arc::new(Toy::new())).await;
    let server = &core.announced.certificate;
    assert!(gets_in(&core, core.caller.tls(server, &[])).await, "Terraform itself");

    let stranger = Caller::new();
    assert!(!gets_in(&core, stranger.tls(server, &[])).await, "another certificate");
    let behind = [core.caller.certificate.clone()];
    assert!(!gets_in(&core, stranger.tls(server, &behind)).await, "the right one as an issuer");
    let behind = [stranger.certificate.clone()];
    assert!(!gets_in(&core, core.caller.tls(server, &behind)).await, "one more in the chain");

    let mut nobody = client(server).with_no_client_auth();
    nobody.alpn_protocols = vec![b"h2".to_vec()];
    assert!(!gets_in(&core, nobody).await, "no certificate");

    let mut http1 = core.caller.tls(server, &[]);
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(!gets_in(&core, http1).await, "HTTP/1.1");

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS12]);
    if let Ok(builder) = old {
        let mut old = builder
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_client_auth_cert(vec![core.caller.certificate.clone()], core.caller.key())
            .unwrap();
        old.alpn_protocols = vec![b"h2".to_vec()];
        assert!(!gets_in(&core, old).await, "TLS 1.2");
    }
}

#[tokio::test]
async fn somebody_elses_key_does_not_make_the_certificate_ones_own() {
    let core = Core::start(Arc::new(Toy::new())).await;
    let stranger = Caller::new();
    // rustls itself refuses to build such a pair, so the resolver is given by hand.
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&stranger.key()).unwrap();
    let forged = rustls::sign::CertifiedKey::new(vec![core.caller.certificate.clone()], signer);
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(forged));
    let mut config = client(&core.announced.certificate).with_client_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec()];
    assert!(!gets_in(&core, config).await);
}

#[tokio::test]
async fn callers_that_say_nothing_keep_nobody_waiting() {
    let mut core = Core::start(Arc::new(Toy::new())).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut socket = TcpStream::connect(&core.announced.address).await.unwrap();
        let _ = socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        silent.push(socket);
        silent.push(TcpStream::connect(&core.announced.address).await.unwrap());
    }
    let second = core.caller.tls(&core.announced.certificate, &[]);
    assert!(gets_in(&core, second).await);
    core.provider.get_metadata(wire::Empty {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_keeps_terraform_neither_out_nor_from_working() {
    let mut core = Core::start(Arc::new(Toy::new())).await;
    let port = core.announced.address.parse().unwrap();
    let flood = Flood::start(move || vec![port]);
    while flood.opened() < 3000 {
        core.provider.get_metadata(wire::Empty {}).await.unwrap();
    }
    for _ in 0..5 {
        let another = core.caller.tls(&core.announced.certificate, &[]);
        assert!(gets_in(&core, another).await, "after {} connections", flood.opened());
    }
    core.provider.get_metadata(wire::Empty {}).await.unwrap();
}
