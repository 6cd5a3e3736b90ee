/// The behaviour of a policy while the shared store is out of reach.
///
/// ```
/// use larder_ttl::{OnOutage, TtlTable};
///
/// let table = TtlTable::from_toml("[price]\nttl = '1m'\non_outage = 'fail'")?;
/// assert_eq!(table.policy("price").unwrap().on_outage(), OnOutage::Fail);
/// # Ok::<(), larder_ttl::TableError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnOutage {
    /// `serve`: reads go to the loader, and writes go on.
    #[default]
    Serve,
    /// `fail`: writes fail before the database is touched, and so do reads that L1 cannot serve.
    Fail,
}

impl OnOutage {
    /// The word for it in a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Fail => "fail",
        }
    }

    pub(crate) fn from_name(name: &str) -> Result<Self, String> {
        let known = [Self::Serve, Self::Fail]
            .into_iter()
            .find(|choice| choice.name() == name);
        known.ok_or_else(|| format!("{name:?} is not \"serve\" or \"fail\""))
    }
}
