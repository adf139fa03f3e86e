//! Numbers that stand as text in the API: IDs in hex, times, versions, the places in pods' names.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as Stamp;
use k8s_openapi::jiff::Timestamp;
use keepstone_operator_plan::ids::{Ordinal, Time, Version};

use super::Unclear;

/// Reads what [`hex`] writes, and what etcd's tools print.
///
/// # Errors
/// It is no number of 64 bits in hex.
pub fn number(field: &str, text: &str) -> Result<u64, Unclear> {
    // `from_str_radix` would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = u64::from_str_radix(text, 16).ok().filter(|_| digits);
    value.ok_or_else(|| Unclear::new(field, format!("{text:?} is no number in hex")))
}

#[must_use]
pub fn hex(value: u64) -> String {
    format!("{value:x}")
}

/// Whole seconds; before 1970 there was nothing.
#[must_use]
pub fn time(stamp: &Stamp) -> Time {
    Time(u64::try_from(stamp.0.as_second()).unwrap_or(0))
}

/// What is beyond the calendar becomes its end.
#[must_use]
pub fn stamp(time: Time) -> Stamp {
    let seconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    Stamp(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}

/// `v1.4.2`, with or without the `v`; what follows a hyphen or a plus doesn't count.
///
/// # Errors
/// There are not three numbers.
pub fn version(field: &str, text: &str) -> Result<Version, Unclear> {
    let unclear = || Unclear::new(field, format!("{text:?} is no version such as v1.4.2"));
    let numbers = text.strip_prefix('v').unwrap_or(text).split(['-', '+']).next().unwrap_or_default();
    let mut parts = numbers.split('.').map(|part| part.parse::<u32>().map_err(|_| unclear()));
    let mut next = || parts.next().unwrap_or_else(|| Err(unclear()));
    let version = Version { major: next()?, minor: next()?, patch: next()? };
    if parts.next().is_some() { Err(unclear()) } else { Ok(version) }
}

/// The name of a member's pod.
#[must_use]
pub fn pod(cluster: &str, ordinal: Ordinal) -> String {
    format!("{cluster}-{ordinal}")
}

/// The place that a pod's name says.
///
/// # Errors
/// No member of this cluster is called so.
pub fn ordinal(field: &str, cluster: &str, pod: &str) -> Result<Ordinal, Unclear> {
    let number = pod.strip_prefix(cluster).and_then(|rest| rest.strip_prefix('-'));
    let canonical = |number: &&str| *number == "0" || number.starts_with(|c: char| matches!(c, '1'..='9'));
    let ordinal = number.filter(canonical).and_then(|number| number.parse().ok());
    ordinal.map(Ordinal).ok_or_else(|| Unclear::new(field, format!("no member of {cluster} is called {pod:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 0xcdf8_1819_4e3a_8c32, u64::MAX] {
            assert_eq!(number("x", &hex(value)), Ok(value));
        }
        for text in ["", "+1", "-1", "0x1", "g", "1 ", "11111111111111111"] {
            assert!(number("x", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times_come_back() {
        for seconds in [0, 1, 1_795_000_000] {
            assert_eq!(time(&stamp(Time(seconds))), Time(seconds));
        }
        assert_eq!(time(&Stamp(Timestamp::MIN)), Time(0));
        assert_eq!(stamp(Time(u64::MAX)).0, Timestamp::MAX);
    }

    #[test]
    fn reads_versions() {
        let read = |text| version("x", text).map(|v| (v.major, v.minor, v.patch));
        assert_eq!(read("v1.4.2"), Ok((1, 4, 2)));
        assert_eq!(read("1.4.2-rc.1"), Ok((1, 4, 2)));
        assert_eq!(read("v1.4.2+build.7"), Ok((1, 4, 2)));
        for text in ["", "v1.4", "v1.4.2.1", "latest", "v1..2", "vv1.2.3"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn reads_places_of_this_cluster_only() {
        assert_eq!(ordinal("x", "main", "main-2"), Ok(Ordinal(2)));
        assert_eq!(ordinal("x", "main", &pod("main", Ordinal(12))), Ok(Ordinal(12)));
        for name in ["main", "main-", "main-02", "main-+2", "other-2", "main-a-2", "xmain-2", "2"] {
            assert!(ordinal("x", "main", name).is_err(), "{name:?}");
        }
    }
}
