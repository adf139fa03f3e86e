//! Quantities of bytes as Kubernetes writes them: `10Gi`, `1.5G`, `1e9`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Powers of 1000 and of 1024; `m`, `u` and `n` are parts of one.
const SUFFIXES: &[(&str, u32, u32)] = &[
    ("Ki", 1024, 1),
    ("Mi", 1024, 2),
    ("Gi", 1024, 3),
    ("Ti", 1024, 4),
    ("Pi", 1024, 5),
    ("Ei", 1024, 6),
    ("k", 1000, 1),
    ("M", 1000, 2),
    ("G", 1000, 3),
    ("T", 1000, 4),
    ("P", 1000, 5),
    ("E", 1000, 6),
];
const PARTS: &[(&str, u32)] = &[("m", 1), ("u", 2), ("n", 3)];
/// Digits behind the point that are looked at; more than any unit can tell apart.
const MAX_FRACTION: usize = 18;

/// The bytes it says, parts of one rounded up as Kubernetes does. `None` where it says no amount, or a negative one, or
/// more than 2^63-1.
#[must_use]
pub fn bytes(quantity: &Quantity) -> Option<u64> {
    let text = quantity.0.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (digits, scale) = decimal(number)?;
    let (times, over) = unit(suffix)?;
    let over = over.checked_mul(10_u128.checked_pow(scale)?)?;
    let total = digits.checked_mul(times)?.div_ceil(over);
    u64::try_from(total).ok().filter(|total| i64::try_from(*total).is_ok())
}

/// The number without its point, and how many digits stood behind that.
fn decimal(number: &str) -> Option<(u128, u32)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > MAX_FRACTION {
        return None;
    }
    let digits = format!("0{whole}{fraction}").parse().ok()?;
    Some((digits, u32::try_from(fraction.len()).ok()?))
}

/// What the number is multiplied with and divided by.
fn unit(suffix: &str) -> Option<(u128, u128)> {
    if suffix.is_empty() {
        return Some((1, 1));
    }
    if let Some((_, base, power)) = SUFFIXES.iter().find(|(name, ..)| *name == suffix) {
        return Some((u128::from(*base).pow(*power), 1));
    }
    if let Some((_, power)) = PARTS.iter().find(|(name, _)| *name == suffix) {
        return Some((1, 1000_u128.pow(*power)));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<u64> {
        bytes(&Quantity(text.to_owned()))
    }

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, want) in [
            ("0", 0),
            ("10Gi", 10 << 30),
            ("1.5Gi", 3 << 29),
            ("8G", 8_000_000_000),
            ("100M", 100_000_000),
            ("+1k", 1000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("12e-1", 2),
            ("128974848000m", 128_974_848),
            ("1m", 1),
            (".5Ki", 512),
            ("5.", 5),
            ("1E", 1_000_000_000_000_000_000),
            ("7Ei", 7 << 60),
        ] {
            assert_eq!(read(text), Some(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_of_bytes_is_not_read() {
        for text in ["", "-1", "Gi", ".", "1.2.3", "1 Gi", "10GiB", "8Ei", "1e40", "1e-99", "ten", "1e", "9E9E"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
