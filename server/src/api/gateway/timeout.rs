//! The `Grpc-Timeout` header: how long a caller of the gateway wants to wait.

use std::time::Duration;

use http::HeaderMap;
use tonic::Status;

/// The time a request names, if it names one: up to eight digits or more and a unit.
///
/// # Errors
/// `InvalidArgument` for what is neither.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    parse(&text).map(Some).ok_or_else(|| Status::invalid_argument(format!("invalid grpc-timeout: {text}")))
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back().filter(char::is_ascii)?;
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(number.saturating_mul(3600)),
        'M' => Duration::from_secs(number.saturating_mul(60)),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

pub(super) fn exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_grpcs() {
        assert_eq!(parse("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("1n"), Some(Duration::from_nanos(1)));
        for wrong in ["", "m", "bad", "5", "-1S", "1é"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
