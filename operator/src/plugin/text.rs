//! Times and amounts as people read them.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A length of seconds, in one unit, or two where the first is small: `45s`, `5m10s`, `3h`, `2d4h`.
#[must_use]
pub fn span(seconds: i64) -> String {
    let s = seconds.max(0);
    let two = |whole: i64, unit: char, rest: i64, small: char| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit}{rest}{small}"),
    };
    match s {
        _ if s < 2 * MINUTE => format!("{s}s"),
        _ if s < 10 * MINUTE => two(s / MINUTE, 'm', s % MINUTE, 's'),
        _ if s < 3 * HOUR => format!("{}m", s / MINUTE),
        _ if s < 10 * HOUR => two(s / HOUR, 'h', s % HOUR / MINUTE, 'm'),
        _ if s < 2 * DAY => format!("{}h", s / HOUR),
        _ if s < 10 * DAY => two(s / DAY, 'd', s % DAY / HOUR, 'h'),
        _ => format!("{}d", s / DAY),
    }
}

/// The time that stands at a JSON pointer.
#[must_use]
pub fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    object.pointer(pointer)?.as_str()?.parse().ok()
}

/// How long ago; `-` where that is not known.
#[must_use]
pub fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    since.map_or_else(|| "-".to_owned(), |since| span(now.as_second() - since.as_second()))
}

/// How long from now, or that it is over.
#[must_use]
pub fn until(end: Timestamp, now: Timestamp) -> String {
    match end.as_second() - now.as_second() {
        left if left >= 0 => format!("in {}", span(left)),
        over => format!("{} ago", span(-over)),
    }
}

/// In the largest unit that leaves a whole number before the point.
#[must_use]
pub fn bytes(amount: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = i128::from(amount.max(0)) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    match (unit, tenths % 10) {
        (0, _) | (_, 0) => format!("{} {}", tenths / 10, UNITS[unit]),
        (_, tenth) => format!("{}.{tenth} {}", tenths / 10, UNITS[unit]),
    }
}

/// One line of it.
#[must_use]
pub fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, text) in [
            (-5, "0s"),
            (119, "119s"),
            (120, "2m"),
            (130, "2m10s"),
            (3599, "59m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
            (86_400 * 400, "400d"),
        ] {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn amounts_are_short() {
        for (amount, text) in [
            (-1, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (10 << 30, "10 GiB"),
            (i64::MAX, "8388608 TiB"),
        ] {
            assert_eq!(bytes(amount), text, "{amount}");
        }
    }
}
