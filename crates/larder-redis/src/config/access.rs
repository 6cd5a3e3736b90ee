//! How servers are reached: as which user, over which kind of connection, and at which addresses.

use std::{fmt, sync::Arc};

use crate::credentials::CredentialsProvider;

/// How servers are reached, apart from the address.
#[derive(Clone, Default)]
pub(crate) struct Access {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) provider: Option<Arc<dyn CredentialsProvider>>,
    pub(crate) root_certificate: Option<Vec<u8>>,
    /// The chain and its key, in PEM.
    pub(crate) client_certificate: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) sentinel_user: Option<String>,
    pub(crate) sentinel_password: Option<String>,
    pub(crate) address_map: AddressMap,
}

/// Translates the addresses that servers tell into those at which this process reaches them.
#[derive(Clone, Default)]
pub(crate) struct AddressMap(Option<Arc<Translation>>);

type Translation = dyn Fn(&str, u16) -> (String, u16) + Send + Sync;

impl AddressMap {
    pub(super) fn new(
        translate: impl Fn(&str, u16) -> (String, u16) + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(translate)))
    }

    /// The address at which this process reaches the server that calls itself `host:port`.
    pub(crate) fn reachable(&self, host: &str, port: u16) -> (String, u16) {
        match &self.0 {
            Some(translate) => translate(host, port),
            None => (host.to_owned(), port),
        }
    }
}

impl fmt::Debug for Access {
    /// Tells what is set, and nothing of what it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = [
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("credentials", self.provider.is_some()),
            ("root_certificate", self.root_certificate.is_some()),
            ("client_certificate", self.client_certificate.is_some()),
            ("sentinel_user", self.sentinel_user.is_some()),
            ("sentinel_password", self.sentinel_password.is_some()),
            ("address_map", self.address_map.0.is_some()),
        ];
        let set = set.iter().filter(|(_, is_set)| *is_set);
        f.debug_list().entries(set.map(|(name, _)| name)).finish()
    }
}
