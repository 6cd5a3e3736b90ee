//! TLS by rustls, with the cryptography that the process has chosen, or else that of this crate's
//! features.

use deadpool_redis::redis::{Client, ConnectionInfo, TlsCertificates};
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Prepares a `rediss://` endpoint to trust this root certificate (PEM) instead of the system's.
///
/// # Errors
/// The problem of the certificate.
pub(crate) fn configure(
    info: ConnectionInfo,
    root_certificate: Option<&[u8]>,
) -> Result<ConnectionInfo, String> {
    install_provider()?;
    if let Some(pem) = root_certificate {
        check_root_certificate(pem)?;
    }
    let root_cert = root_certificate.map(<[u8]>::to_vec);
    let client = Client::build_with_tls(
        info,
        TlsCertificates {
            client_tls: None,
            root_cert,
        },
    )
    .map_err(|error| format!("the root certificate cannot be used: {error}"))?;
    Ok(client.get_connection_info().clone())
}

/// Installs the provider of this crate's features, if the process has none: without one, rustls
/// panics at the first connection.
fn install_provider() -> Result<(), String> {
    if CryptoProvider::get_default().is_some() {
        return Ok(());
    }
    #[cfg(feature = "tls-aws-lc-rs")]
    let provider = Some(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc-rs")))]
    let provider = Some(rustls::crypto::ring::default_provider());
    #[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
    let provider: Option<CryptoProvider> = None;
    let provider = provider.ok_or(
        "the process has no rustls provider: install one with CryptoProvider::install_default, or enable the \
         feature tls-ring or tls-aws-lc-rs",
    )?;
    // An error says that another thread has installed one meanwhile, which is as good.
    let _ = provider.install_default();
    Ok(())
}

/// Tells what is wrong with a root certificate. The client library would take a text without any
/// for one that trusts nobody.
fn check_root_certificate(pem: &[u8]) -> Result<(), String> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the root certificate is not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err(
            "the root certificate is not PEM: it has no -----BEGIN CERTIFICATE-----".to_owned(),
        );
    }
    let mut roots = RootCertStore::empty();
    certificates.into_iter().try_for_each(|certificate| {
        roots
            .add(certificate)
            .map_err(|error| format!("the root certificate cannot be used: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use crate::{config::RedisConfig, connection::endpoint::Endpoint};

    fn problem(pem: &str) -> String {
        let config = RedisConfig::new("rediss://host").root_certificate(pem);
        match Endpoint::parse(&config) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{pem:?} is accepted"),
        }
    }

    #[test]
    fn garbage_is_no_root_certificate() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for pem in ["", "garbage", key] {
            assert!(
                problem(pem).contains("it has no -----BEGIN CERTIFICATE-----"),
                "{}",
                problem(pem)
            );
        }
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(
            problem(cut).contains("the root certificate is not PEM"),
            "{}",
            problem(cut)
        );
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(
            problem(nonsense).contains("the root certificate cannot be used"),
            "{}",
            problem(nonsense)
        );
    }

    #[test]
    fn root_certificate_without_tls_is_refused() {
        let config = RedisConfig::new("redis://host").root_certificate("garbage");
        let Err(error) = Endpoint::parse(&config) else {
            panic!("accepted")
        };
        assert!(error.to_string().contains("rediss://"), "{error}");
    }
}
