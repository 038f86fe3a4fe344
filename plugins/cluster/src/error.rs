//! Why a node map could not become routes, tunnels and neighbors.

/// The result of everything here that reads a map.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the kernel, of the map, or of a setting that does not fit this node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The map.
    #[error(transparent)]
    Map(#[from] nodes::Error),
    /// A setting, or a part of the map, that does not fit this node.
    #[error("{key}, value {value}: {why}")]
    Config {
        /// The setting's name in a configuration.
        key: &'static str,
        /// Its value, or the part that does not fit.
        value: String,
        /// Why it does not fit, and what to do.
        why: String,
    },
}

impl Error {
    pub(crate) fn config(key: &'static str, value: impl ToString, why: impl Into<String>) -> Self {
        Error::Config { key, value: value.to_string(), why: why.into() }
    }
}
