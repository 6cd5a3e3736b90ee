use std::{fs, path::Path};

use super::program::{ServerError, free_port};

/// A port for TLS and the self-signed certificate that the server shows there.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) port: u16,
    /// In PEM.
    pub(super) text: String,
    /// The certificate and the key that clients are to show, in PEM.
    pub(super) client: (String, String),
}

/// The names of the files in the server's folder.
pub(super) const CERTIFICATE_FILE: &str = "certificate.pem";
pub(super) const KEY_FILE: &str = "key.pem";
pub(super) const CLIENT_FILE: &str = "client.pem";

impl Certificate {
    /// Makes a certificate for `localhost` and 127.0.0.1, and writes it and its key into a folder,
    /// with the certificate of clients.
    pub(super) fn make(folder: &Path) -> Result<Self, ServerError> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names)?;
        let text = made.cert.pem();
        fs::write(folder.join(CERTIFICATE_FILE), &text)?;
        fs::write(folder.join(KEY_FILE), made.signing_key.serialize_pem())?;
        let client = rcgen::generate_simple_self_signed(vec!["client".to_owned()])?;
        let client = (client.cert.pem(), client.signing_key.serialize_pem());
        fs::write(folder.join(CLIENT_FILE), &client.0)?;
        Ok(Self {
            port: free_port()?,
            text,
            client,
        })
    }
}
