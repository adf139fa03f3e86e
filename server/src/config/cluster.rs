//! `--initial-cluster`: who founds the cluster, and whether this member's own settings agree with it. Asked only
//! when a member has no data yet, as in etcd: a member that has data is not stopped by what the flag says now.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};

use super::error::ConfigError;
use super::url::{self, ListenUrl};

/// Names and peer URLs of the founding members, sorted by name; each member's URLs sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InitialCluster {
    members: BTreeMap<String, Vec<ListenUrl>>,
}

impl InitialCluster {
    /// Reads `a=http://h1:2380,b=http://h2:2380,a=http://h3:2380`.
    ///
    /// # Errors
    /// A member without a URL, or one that does not parse; etcd's words.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut members: BTreeMap<String, Vec<ListenUrl>> = BTreeMap::new();
        for pair in text.split(',').filter(|p| !p.is_empty()) {
            let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
            let url = ListenUrl::parse(url).map_err(|e| {
                ConfigError::Invalid(format!("error setting up initial cluster: {e} (in --initial-cluster {text:?})"))
            })?;
            members.entry(name.to_owned()).or_default().push(url);
        }
        for urls in members.values_mut() {
            urls.sort_by_cached_key(ListenUrl::to_string);
        }
        Ok(Self { members })
    }

    /// Members with their URLs, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[ListenUrl])> {
        self.members.iter().map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }

    /// The URLs of one member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[ListenUrl]> {
        self.members.get(name).map(Vec::as_slice)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What must hold before a cluster is founded with this member in it.
    ///
    /// # Errors
    /// The member is missing, its URLs are not those it advertises, or a URL is there twice; etcd's words.
    pub fn verify_founding(&self, name: &str, advertised: &[ListenUrl]) -> Result<(), ConfigError> {
        self.verify_joining(name)?;
        let mine = self.get(name).unwrap_or_default();
        if mine == advertised || resolved(mine).is_some_and(|a| resolved(advertised).is_some_and(|b| a == b)) {
            return Ok(());
        }
        let lacks = |of: &[ListenUrl], other: &[ListenUrl]| -> Vec<String> {
            of.iter().filter(|u| !other.contains(u)).map(ListenUrl::to_string).collect()
        };
        let advertised_text = url::join(advertised);
        let missing = lacks(mine, advertised);
        if !missing.is_empty() {
            let missing: Vec<String> = missing.iter().map(|u| format!("{name}={u}")).collect();
            return Err(ConfigError::Invalid(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={advertised_text}",
                missing.join(",")
            )));
        }
        let missing = lacks(advertised, mine);
        let pairs: Vec<String> = advertised.iter().map(|u| format!("{name}={u}")).collect();
        Err(ConfigError::Invalid(format!(
            "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
            missing.join(","),
            pairs.join(",")
        )))
    }

    /// What must hold before a member without data joins a cluster.
    ///
    /// # Errors
    /// The member is missing, or a URL is there twice; etcd's words.
    pub fn verify_joining(&self, name: &str) -> Result<(), ConfigError> {
        if !self.members.contains_key(name) {
            return Err(ConfigError::Invalid(format!(
                "couldn't find local name {name:?} in the initial cluster configuration"
            )));
        }
        let mut urls: Vec<String> = self.members.values().flatten().map(ListenUrl::to_string).collect();
        urls.sort();
        if urls.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ConfigError::Invalid(format!("initial cluster {self} has duplicate url")));
        }
        Ok(())
    }
}

impl std::fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<String> =
            self.iter().flat_map(|(name, urls)| urls.iter().map(move |u| format!("{name}={u}"))).collect();
        f.write_str(&pairs.join(","))
    }
}

/// The addresses behind URLs, sorted; `None` where a name does not resolve. Only asked where the texts differ.
fn resolved(urls: &[ListenUrl]) -> Option<Vec<SocketAddr>> {
    let mut all = Vec::new();
    for url in urls {
        let first = url.host_port()?.to_socket_addrs().ok()?.min()?;
        all.push(first);
    }
    all.sort_unstable();
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<ListenUrl> {
        ListenUrl::parse_list(text).expect("valid")
    }

    #[test]
    fn a_name_may_have_several_urls() {
        let cluster =
            InitialCluster::parse("b=http://1.1.1.1:3,a=http://1.1.1.1:2,,a=http://1.1.1.1:1").expect("valid");
        assert_eq!(cluster.to_string(), "a=http://1.1.1.1:1,a=http://1.1.1.1:2,b=http://1.1.1.1:3");
        assert_eq!((cluster.len(), cluster.get("a").map(<[_]>::len)), (2, Some(2)));
        assert!(InitialCluster::parse("").expect("empty").is_empty());
        for bad in ["a", "a=", "%^", "a=http://h:1/", "a=b"] {
            InitialCluster::parse(bad).expect_err(bad);
        }
    }

    #[test]
    fn founding_rules() {
        let found = |cluster: &str, name: &str, advertised: &str| {
            InitialCluster::parse(cluster)
                .expect("valid")
                .verify_founding(name, &urls(advertised))
                .map_err(|e| e.to_string())
        };
        assert_eq!(found("a=http://127.0.0.1:1", "a", "http://127.0.0.1:1"), Ok(()));
        assert_eq!(
            found("a=http://127.0.0.1:1", "b", "http://127.0.0.1:1"),
            Err(r#"couldn't find local name "b" in the initial cluster configuration"#.to_owned())
        );
        assert_eq!(
            found("a=http://127.0.0.1:1", "a", "http://127.0.0.1:2"),
            Err("--initial-cluster has a=http://127.0.0.1:1 but missing from \
                 --initial-advertise-peer-urls=http://127.0.0.1:2"
                .to_owned())
        );
        assert_eq!(
            found("a=http://127.0.0.1:1", "a", "http://127.0.0.1:1,http://127.0.0.1:2"),
            Err("--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from \
                 --initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:2"
                .to_owned())
        );
        assert_eq!(
            found("a=http://127.0.0.1:1,b=http://127.0.0.1:1", "a", "http://127.0.0.1:1"),
            Err("initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url".to_owned())
        );
    }
}
