//! `resolvConf`: name resolution for the Pod, read from a file in the format of resolv.conf(5).

use libcni::{Dns, Error};

/// A resolv.conf is a few lines; more than this many bytes is no resolv.conf.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the file at `path` (code 5, naming it, if it can't be read).
pub fn read(path: &str) -> Result<Dns, Error> {
    let io = |error: std::io::Error| Error::io(format!("resolvConf {path}"), error);
    let bytes = libcni::file::read(path.as_ref(), MAX_BYTES).map_err(io)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| Error::io(format!("resolvConf {path}"), error))?;
    Ok(parse(text))
}

/// `nameserver`, `domain`, `search` and `options`; other lines say nothing to a Pod.
pub fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace().map(str::to_owned);
        match (words.next().as_deref(), words.next()) {
            (Some("nameserver"), Some(server)) => dns.nameservers.push(server),
            (Some("domain"), Some(domain)) => dns.domain = domain,
            (Some("search"), Some(first)) => dns.search.extend([first].into_iter().chain(words)),
            (Some("options"), Some(first)) => dns.options.extend([first].into_iter().chain(words)),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_keywords_are_read_and_the_rest_is_left() {
        let text = "# a comment\n;another\nnameserver 192.0.2.1\n\tnameserver 2001:db8::1\ndomain example.com\n\
                    search a.example b.example\nsortlist 10.0.0.0\noptions ndots:5 edns0\nsearch\n";
        let expected = Dns {
            nameservers: vec!["192.0.2.1".into(), "2001:db8::1".into()],
            domain: "example.com".into(),
            search: vec!["a.example".into(), "b.example".into()],
            options: vec!["ndots:5".into(), "edns0".into()],
        };
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read("/nonexistent/resolv.conf").unwrap_err();
        assert!(error.code == 5 && error.details.contains("/nonexistent/resolv.conf"), "{error}");
    }
}
