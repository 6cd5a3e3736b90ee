//! TLS by rustls, with the cryptography that the process has chosen, or else that of this crate's
//! features.

use deadpool_redis::redis::{Client, ClientTlsConfig, ConnectionInfo, TlsCertificates};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::config::Access;

/// Prepares a `rediss://` endpoint to trust the root certificate instead of the system's, and to
/// show the client certificate, where they are given.
///
/// # Errors
/// The problem of a certificate.
pub(crate) fn configure(info: ConnectionInfo, access: &Access) -> Result<ConnectionInfo, String> {
    install_provider()?;
    if let Some(pem) = &access.root_certificate {
        check_root_certificate(pem)?;
    }
    let client_tls = match &access.client_certificate {
        None => None,
        Some((chain, key)) => {
            check_client_certificate(chain, key)?;
            Some(ClientTlsConfig {
                client_cert: chain.clone(),
                client_key: key.clone(),
            })
        }
    };
    let certificates = TlsCertificates {
        client_tls,
        root_cert: access.root_certificate.clone(),
    };
    let client = Client::build_with_tls(info, certificates)
        .map_err(|error| format!("the certificates cannot be used: {error}"))?;
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

/// Tells what is wrong with a client certificate and its private key.
fn check_client_certificate(chain: &[u8], key: &[u8]) -> Result<(), String> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the client certificate is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err(
            "the client certificate is not PEM: it has no -----BEGIN CERTIFICATE-----".to_owned(),
        );
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("the client certificate's key is not PEM: {error}"))?;
    ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(chain, key)
        .map(drop)
        .map_err(|error| format!("the client certificate cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use crate::{config::RedisConfig, connection::addresses::Addresses};

    fn problem_of(config: &RedisConfig) -> String {
        match Addresses::parse(config) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{config:?} is accepted"),
        }
    }

    fn problem(pem: &str) -> String {
        problem_of(&RedisConfig::new("rediss://host").root_certificate(pem))
    }

    #[test]
    fn garbage_is_no_client_certificate() {
        let config = |url| RedisConfig::new(url).client_certificate("garbage", "garbage");
        let problem = problem_of(&config("rediss://host"));
        assert!(
            problem.contains("the client certificate is not PEM"),
            "{problem}"
        );
        let problem = problem_of(&config("redis://host"));
        assert!(problem.contains("rediss://"), "{problem}");
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
        let problem = problem_of(&config);
        assert!(problem.contains("rediss://"), "{problem}");
    }
}
