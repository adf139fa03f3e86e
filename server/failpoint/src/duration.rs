//! Durations as Go writes them: `1m2.5s`.

use std::time::Duration;

/// Seconds a unit has.
const UNITS: &[(&str, f64)] =
    &[("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Reads a duration that is not negative.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text.is_empty() || text == "0" {
        return (text == "0").then_some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        for (text, millis) in
            [("0", 0), ("0s", 0), ("100ms", 100), ("1.5s", 1500), ("1m0s", 60_000), ("1h2m", 3_720_000)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "1", "s", "1x", "-1s", "1s2", ".s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
