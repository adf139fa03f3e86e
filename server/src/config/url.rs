//! The URLs a member listens on and advertises. Reads exactly the forms etcd reads (`scheme://host:port` without a
//! path, or a unix socket); never resolves a name.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    Http,
    Https,
    Unix,
    Unixs,
}

impl Scheme {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }

    /// True where the connection is encrypted.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Unixs)
    }
}

/// Where a URL points.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `host` is a name or an IP address, IPv6 without its brackets; empty only where it was empty.
    Tcp { host: String, port: u16 },
    /// `host` and `path` as written; the socket's file is the two joined, as in etcd.
    Unix { host: String, path: String },
}

/// One URL of a list such as `--listen-client-urls`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenUrl {
    pub scheme: Scheme,
    pub address: Address,
}

/// Why a text is no such URL. The words are etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    #[error("URL must not contain a path: {0}")]
    Path(String),
    #[error("parse {url:?}: invalid port {port:?} after host")]
    Port { url: String, port: String },
    #[error("parse {0:?}: only scheme, host and port are allowed")]
    Extra(String),
    #[error("expected IP in URL for binding ({0})")]
    NotAnIp(String),
    #[error("unexpected empty host ({0})")]
    EmptyHost(String),
    #[error("address {0}: missing port in address")]
    MissingPort(String),
}

impl ListenUrl {
    /// Reads one URL; blanks around it are dropped.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let bad_scheme = || UrlError::Scheme(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(bad_scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(bad_scheme()),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        if authority.contains(['@', '?', '#']) || path.contains(['?', '#']) {
            return Err(UrlError::Extra(text.to_owned()));
        }
        let address = match scheme {
            Scheme::Unix | Scheme::Unixs => Address::Unix { host: authority.to_owned(), path: path.to_owned() },
            Scheme::Http | Scheme::Https => {
                let address = tcp(authority, text)?;
                if !path.is_empty() {
                    return Err(UrlError::Path(text.to_owned()));
                }
                address
            }
        };
        Ok(Self { scheme, address })
    }

    /// Reads a comma-separated list: sorted by text, each URL once.
    ///
    /// # Errors
    /// The first URL that does not parse.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UrlError> {
        let mut urls = text.split(',').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort_by_cached_key(Self::to_string);
        urls.dedup();
        Ok(urls)
    }

    /// The file of a unix socket; `None` for TCP.
    #[must_use]
    pub fn socket_path(&self) -> Option<PathBuf> {
        match &self.address {
            Address::Tcp { .. } => None,
            Address::Unix { host, path } => Some(PathBuf::from(format!("{host}{path}"))),
        }
    }

    /// `host:port` with brackets around IPv6; for a unix socket its file.
    #[must_use]
    pub fn authority(&self) -> String {
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix { host, path } => format!("{host}{path}"),
        }
    }

    /// Host and port; `None` for a unix socket.
    #[must_use]
    pub fn host_port(&self) -> Option<(&str, u16)> {
        match &self.address {
            Address::Tcp { host, port } => Some((host, *port)),
            Address::Unix { .. } => None,
        }
    }

    /// A URL to listen on names an IP address or `localhost`, so that a member never binds what a resolver says today.
    ///
    /// # Errors
    /// [`UrlError::NotAnIp`].
    pub fn check_bind(&self) -> Result<(), UrlError> {
        match &self.address {
            Address::Unix { .. } => Ok(()),
            Address::Tcp { host, .. } if host == "localhost" || host.parse::<IpAddr>().is_ok() => Ok(()),
            Address::Tcp { .. } => Err(UrlError::NotAnIp(self.to_string())),
        }
    }

    /// A URL given to others has a host and a port, for unix sockets too (`unix://name:1`).
    ///
    /// # Errors
    /// [`UrlError::EmptyHost`] or [`UrlError::MissingPort`].
    pub fn check_advertised(&self) -> Result<(), UrlError> {
        let host = match &self.address {
            Address::Tcp { host, .. } => host.as_str(),
            Address::Unix { host, .. } => {
                let (host, _port) = host.rsplit_once(':').ok_or_else(|| UrlError::MissingPort(host.clone()))?;
                host
            }
        };
        if host.is_empty() {
            return Err(UrlError::EmptyHost(self.to_string()));
        }
        Ok(())
    }
}

/// `host:port`, `[v6]:port` or `:port`.
fn tcp(authority: &str, url: &str) -> Result<Address, UrlError> {
    let form = || UrlError::HostPort(url.to_owned());
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(form)?;
            // A zone is written %25 in a URL.
            (host.replace("%25", "%"), rest.strip_prefix(':').ok_or_else(form)?)
        }
        None => {
            let (host, port) = authority.rsplit_once(':').ok_or_else(form)?;
            if host.contains([':', '[', ']']) {
                return Err(form());
            }
            (host.to_owned(), port)
        }
    };
    if port.is_empty() {
        return Err(form());
    }
    let bad_port = || UrlError::Port { url: url.to_owned(), port: format!(":{port}") };
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad_port());
    }
    let port = port.parse().map_err(|_| bad_port())?;
    Ok(Address::Tcp { host, port })
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => {
                write!(f, "{scheme}://[{}]:{port}", host.replace('%', "%25"))
            }
            Address::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}"),
            Address::Unix { host, path } => write!(f, "{scheme}://{host}{path}"),
        }
    }
}

/// `a,b`, as etcd writes a list of URLs.
#[must_use]
pub fn join(urls: &[ListenUrl]) -> String {
    urls.iter().map(ListenUrl::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, written) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("  http://127.0.0.1:2379 ", "http://127.0.0.1:2379"),
            ("HTTP://localhost:0", "http://localhost:0"),
            ("https://example.com:2379", "https://example.com:2379"),
            ("http://[::1]:2379", "http://[::1]:2379"),
            ("http://[fe80::1%25en0]:2380", "http://[fe80::1%25en0]:2380"),
            ("http://:2379", "http://:2379"),
            ("unix:///run/k.sock", "unix:///run/k.sock"),
            ("unix:/run/k.sock", "unix:///run/k.sock"),
            ("unix://localhost:12", "unix://localhost:12"),
            ("unixs://localhost:12", "unixs://localhost:12"),
        ] {
            let url = ListenUrl::parse(text).expect(text);
            assert_eq!(url.to_string(), written);
        }
    }

    #[test]
    fn refuses_in_etcds_words() {
        for (text, message) in [
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("foo", "URL scheme must be http, https, unix, or unixs: foo"),
            ("127.0.0.1:23", "URL scheme must be http, https, unix, or unixs: 127.0.0.1:23"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("http://1.2.3.4", r#"URL address does not have the form "host:port": http://1.2.3.4"#),
            ("http://[::1]", r#"URL address does not have the form "host:port": http://[::1]"#),
            ("http://::1:3", r#"URL address does not have the form "host:port": http://::1:3"#),
            ("http://a:", r#"URL address does not have the form "host:port": http://a:"#),
            ("http://a:1/", "URL must not contain a path: http://a:1/"),
            ("http://a:xx", r#"parse "http://a:xx": invalid port ":xx" after host"#),
            ("http://a:65536", r#"parse "http://a:65536": invalid port ":65536" after host"#),
            ("http://u@a:1", r#"parse "http://u@a:1": only scheme, host and port are allowed"#),
            ("http://a:1?x", r#"parse "http://a:1?x": only scheme, host and port are allowed"#),
        ] {
            assert_eq!(ListenUrl::parse(text).expect_err(text).to_string(), message);
        }
    }

    #[test]
    fn lists_are_sorted_and_unique() {
        let urls = ListenUrl::parse_list("http://b:2, http://a:1,http://b:2").expect("valid");
        assert_eq!(join(&urls), "http://a:1,http://b:2");
        assert!(ListenUrl::parse_list("http://b:2,").is_err());
    }

    #[test]
    fn binding_wants_an_ip() {
        for good in ["http://localhost:1", "http://0.0.0.0:1", "http://[::]:1", "unix://x:1"] {
            ListenUrl::parse(good).expect(good).check_bind().expect(good);
        }
        for bad in ["http://example.com:1", "http://:1", "http://[fe80::1%25en0]:1"] {
            let error = ListenUrl::parse(bad).expect(bad).check_bind().expect_err(bad);
            assert_eq!(error.to_string(), format!("expected IP in URL for binding ({bad})"));
        }
    }

    #[test]
    fn advertising_wants_a_host() {
        ListenUrl::parse("http://a:1").expect("valid").check_advertised().expect("host");
        ListenUrl::parse("unix://a:1").expect("valid").check_advertised().expect("host");
        for bad in ["http://:1", "unix:///run/x"] {
            ListenUrl::parse(bad).expect(bad).check_advertised().expect_err(bad);
        }
    }

    #[test]
    fn a_unix_socket_is_host_and_path_joined() {
        let path = |text| ListenUrl::parse(text).expect("valid").socket_path();
        assert_eq!(path("unix:///run/k.sock"), Some("/run/k.sock".into()));
        assert_eq!(path("unix://localhost:12"), Some("localhost:12".into()));
        assert_eq!(path("http://a:1"), None);
    }
}
