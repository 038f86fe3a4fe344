//! What the command reads of its environment, and paths as upstream's tool reads them.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use libcni::error::{Error, code};
use serde_json::{Map, Value};

/// A variable; an empty one counts as absent.
#[expect(clippy::disallowed_methods, reason = "the command's own variables are in its help")]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

pub fn text(name: &str) -> Result<Option<String>, Error> {
    let Some(value) = variable(name) else { return Ok(None) };
    value.into_string().map(Some).map_err(|value| invalid(name, format!("{value:?} is not UTF-8")))
}

pub fn generic_arguments(text: &str) -> Result<Vec<(String, String)>, Error> {
    let pairs = text.split(';').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(invalid("CNI_ARGS", format!("{pair:?} is not KEY=VALUE"))),
    });
    pairs.collect()
}

pub fn capability_arguments(text: &str) -> Result<Map<String, Value>, Error> {
    serde_json::from_str(text).map_err(|error| invalid("CAP_ARGS", format!("not a JSON object: {error}")))
}

pub fn invalid(name: &str, why: String) -> Error {
    Error::new(code::INVALID_ENVIRONMENT, "invalid environment", format!("{name}: {why}"))
}

/// `path` from the root, without `.`, `..` and doubled slashes: by its letters, as Go's `filepath.Abs` does it, for the
/// container ID depends on them.
pub fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let joined = std::path::absolute(path).map_err(|error| Error::io(path.display(), error))?;
    let mut clean = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_by_their_letters() {
        assert_eq!(absolute(Path::new("/a/../../b//c/.")).unwrap(), Path::new("/b/c"));
        assert_eq!(absolute(Path::new("x")).unwrap(), std::env::current_dir().unwrap().join("x"));
        assert!(absolute(Path::new("")).is_err());
    }

    #[test]
    fn arguments_are_pairs_and_capabilities_an_object() {
        let pairs = generic_arguments("IP=10.0.0.2;A=b=c;").unwrap();
        assert_eq!(pairs, [("IP".into(), "10.0.0.2".into()), ("A".into(), "b=c".into())]);
        assert!(generic_arguments("nonsense").unwrap_err().details.contains("CNI_ARGS"));
        assert!(capability_arguments("[1]").unwrap_err().details.contains("CAP_ARGS"));
        assert_eq!(capability_arguments(r#"{"mac":"x"}"#).unwrap()["mac"], "x");
    }
}
