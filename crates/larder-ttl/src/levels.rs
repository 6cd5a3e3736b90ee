/// The levels in which a policy's entries live.
///
/// ```
/// use larder_ttl::{Levels, TtlTable};
///
/// let table = TtlTable::from_toml("[flag]\nttl = '1m'\nlevels = 'l1'")?;
/// assert_eq!(table.policy("flag").unwrap().levels(), Levels::L1);
/// # Ok::<(), larder_ttl::TableError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Levels {
    /// `both`: each process and the shared store.
    #[default]
    Both,
    /// `l1`: each process by itself, which does not notice other processes' writes.
    L1,
    /// `l2`: the shared store only.
    L2,
}

impl Levels {
    /// Reports whether entries live in each process.
    ///
    /// ```
    /// use larder_ttl::Levels;
    ///
    /// assert!(Levels::Both.has_l1() && !Levels::L2.has_l1());
    /// ```
    pub fn has_l1(self) -> bool {
        self != Self::L2
    }

    /// Reports whether entries live in the shared store.
    ///
    /// ```
    /// use larder_ttl::Levels;
    ///
    /// assert!(Levels::Both.has_l2() && !Levels::L1.has_l2());
    /// ```
    pub fn has_l2(self) -> bool {
        self != Self::L1
    }

    /// The word for it in a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }

    pub(crate) fn from_name(name: &str) -> Result<Self, String> {
        let known = [Self::Both, Self::L1, Self::L2]
            .into_iter()
            .find(|levels| levels.name() == name);
        known.ok_or_else(|| format!("{name:?} is not \"both\", \"l1\" or \"l2\""))
    }
}
