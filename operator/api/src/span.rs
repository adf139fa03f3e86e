//! Lengths of time as people write them: `90d`, `1h30m`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A length of time: numbers with the units `d`, `h`, `m` and `s`, such as `365d` or `1h30m`. A day has 24 hours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Span(#[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}[dhms])+$"))] pub String);

impl Span {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// What it says; `None` when it says nothing, which the CRD's schema refuses.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        let mut total = Duration::ZERO;
        let mut rest = self.0.as_str();
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let (number, tail) = rest.split_at(end);
            let unit = match tail.as_bytes()[0] {
                b'd' => 24 * 60 * 60,
                b'h' => 60 * 60,
                b'm' => 60,
                b's' => 1,
                _ => return None,
            };
            let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
            total = total.checked_add(Duration::from_secs(seconds))?;
            rest = &tail[1..];
        }
        Some(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        Span::new(text).duration().map(|time| time.as_secs())
    }

    #[test]
    fn reads_what_people_write() {
        assert_eq!(seconds("365d"), Some(365 * 24 * 60 * 60));
        assert_eq!(seconds("100d12h"), Some((100 * 24 + 12) * 60 * 60));
        assert_eq!(seconds("1h30m"), Some(90 * 60));
        assert_eq!(seconds("2m"), Some(120));
        assert_eq!(seconds("0s"), Some(0));
    }

    #[test]
    fn refuses_what_has_no_unit_or_overflows() {
        for text in ["", "1", "m", "1.5h", "-1h", "1h ", "1w", "ä", "99999999999999999999d"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
