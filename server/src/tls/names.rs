//! Whether a certificate is valid for a name, by Go's rules and in its words, and whom a list of names lets in.

use std::net::IpAddr;

use super::certificate::Certificate;

/// Who may show a certificate, beside having one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Allowed {
    /// Not empty: the CN is one of them.
    pub(super) common_names: Vec<String>,
    /// Not empty: valid for one of them.
    pub(super) hostnames: Vec<String>,
}

impl Allowed {
    pub(super) fn admits(&self, certificate: &Certificate) -> bool {
        let cn = self.common_names.is_empty() || self.common_names.contains(&certificate.common_name);
        let host = self.hostnames.is_empty() || self.hostnames.iter().any(|host| valid_for(certificate, host).is_ok());
        cn && host
    }

    pub(super) fn is_everybody(&self) -> bool {
        self.common_names.is_empty() && self.hostnames.is_empty()
    }
}

/// Whether `certificate` is valid for `host`, a name or an IP address. The CN is not asked.
///
/// # Errors
/// Why not, in Go's words.
pub(super) fn valid_for(certificate: &Certificate, host: &str) -> Result<(), String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let same = |other: &IpAddr| other.to_canonical() == ip.to_canonical();
        if certificate.ip_addresses.iter().any(same) {
            return Ok(());
        }
        let ips: Vec<String> = certificate.ip_addresses.iter().map(IpAddr::to_string).collect();
        if ips.is_empty() {
            return Err(format!("x509: cannot validate certificate for {host} because it doesn't contain any IP SANs"));
        }
        return Err(format!("x509: certificate is valid for {}, not {host}", ips.join(", ")));
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if !name.is_empty() && certificate.dns_names.iter().any(|pattern| matches(pattern, &name)) {
        return Ok(());
    }
    if certificate.dns_names.is_empty() {
        return Err(format!("x509: certificate is not valid for any names, but wanted to match {host}"));
    }
    Err(format!("x509: certificate is valid for {}, not {host}", certificate.dns_names.join(", ")))
}

/// `*` stands for a whole first label and nothing else.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern).to_ascii_lowercase();
    let mut labels = pattern.split('.').zip(name.split('.')).enumerate();
    pattern.split('.').count() == name.split('.').count()
        && labels.all(|(place, (of_pattern, of_name))| {
            !of_name.is_empty() && ((place == 0 && of_pattern == "*") || of_pattern == of_name)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(dns: &[&str], ips: &[&str]) -> Certificate {
        Certificate {
            common_name: "example.com".to_owned(),
            dns_names: dns.iter().map(|name| (*name).to_owned()).collect(),
            ip_addresses: ips.iter().map(|ip| ip.parse().expect("an address")).collect(),
            ..Certificate::default()
        }
    }

    #[test]
    fn names_as_go_compares_them() {
        let cert = certificate(&["localhost", "*.etcd.local", "a.b"], &["127.0.0.1", "::1"]);
        for good in ["localhost", "LOCALHOST", "localhost.", "m0.etcd.local", "127.0.0.1", "[::1]", "::ffff:127.0.0.1"]
        {
            assert_eq!(valid_for(&cert, good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("a.m0.etcd.local", "x509: certificate is valid for localhost, *.etcd.local, a.b, not a.m0.etcd.local"),
            ("etcd.local", "x509: certificate is valid for localhost, *.etcd.local, a.b, not etcd.local"),
            (".etcd.local", "x509: certificate is valid for localhost, *.etcd.local, a.b, not .etcd.local"),
            ("10.0.0.1", "x509: certificate is valid for 127.0.0.1, ::1, not 10.0.0.1"),
            ("example.com", "x509: certificate is valid for localhost, *.etcd.local, a.b, not example.com"),
        ] {
            assert_eq!(valid_for(&cert, bad), Err(why.to_owned()));
        }
        let none = certificate(&[], &[]);
        assert_eq!(
            valid_for(&none, "a"),
            Err("x509: certificate is not valid for any names, but wanted to match a".to_owned())
        );
        assert_eq!(
            valid_for(&none, "1.2.3.4"),
            Err("x509: cannot validate certificate for 1.2.3.4 because it doesn't contain any IP SANs".to_owned())
        );
    }

    #[test]
    fn lists_let_in_whom_they_name() {
        let cert = certificate(&["localhost"], &[]);
        let list = |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
        let cns = |words| Allowed { common_names: list(words), hostnames: Vec::new() };
        let hosts = |words| Allowed { common_names: Vec::new(), hostnames: list(words) };
        assert!(Allowed::default().admits(&cert));
        assert!(cns(&["a", "example.com"]).admits(&cert));
        assert!(!cns(&["a"]).admits(&cert));
        assert!(hosts(&["a", "localhost"]).admits(&cert));
        assert!(!hosts(&["example.com"]).admits(&cert));
    }
}
