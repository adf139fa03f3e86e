//! One setting's value: read from text by its kind, with Go's rules and words. Knows nothing of where a text came
//! from or what the setting is for.

use super::duration::GoDuration;
use super::features;
use super::table::Kind;
use super::url::ListenUrl;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Uint(u64),
    Int(i64),
    Duration(GoDuration),
    Text(String),
    Urls(Vec<ListenUrl>),
    /// Sorted, each once.
    List(Vec<String>),
    /// In the order given.
    Gates(Vec<(String, bool)>),
    /// A flag that throws its value away.
    Nothing,
}

pub(crate) const BOOL_ALLOWED: &str = "true or false";

impl Value {
    /// Reads a text as the command line and the environment give it.
    ///
    /// # Errors
    /// Go's reason.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Self, String> {
        let parse_error = || "parse error".to_owned();
        Ok(match kind {
            Kind::Bool => Self::Bool(parse_bool(text).ok_or_else(parse_error)?),
            Kind::Uint => Self::Uint(parse_uint(text).map_err(NumberError::in_a_flag)?),
            Kind::Uint32 => Self::Uint(parse_uint32(text)?),
            Kind::Int => Self::Int(parse_int(text).map_err(NumberError::in_a_flag)?),
            Kind::Duration => Self::Duration(GoDuration::parse(text).map_err(|_| parse_error())?),
            Kind::Text => Self::Text(text.to_owned()),
            Kind::Urls => Self::Urls(parse_urls(text)?),
            Kind::Origins => Self::List(parse_origins(text)?),
            Kind::List | Kind::Words => Self::List(parse_list(text)),
            Kind::OneOf(words) if words.contains(&text) => Self::Text(text.to_owned()),
            Kind::OneOf(_) => return Err("invalid value".to_owned()),
            Kind::Gates => Self::Gates(features::parse(text)?),
            Kind::Nothing => Self::Nothing,
        })
    }
}

/// What to write after "allowed:".
pub(crate) fn allowed(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => BOOL_ALLOWED,
        Kind::Uint => "a whole number from 0",
        Kind::Uint32 => "a whole number from 0 to 4294967295",
        Kind::Int => "a whole number",
        Kind::Duration => "a duration such as 300ms, 5s or 1h30m",
        Kind::Text => "a text",
        Kind::Urls => "URLs such as http://127.0.0.1:2379, comma-separated",
        Kind::Origins => "* or URLs such as http://127.0.0.1:2379, comma-separated",
        Kind::List | Kind::Words => "words, comma-separated",
        Kind::OneOf(["new", "existing"]) => "new or existing",
        Kind::OneOf(["local", "multi"]) => "local or multi",
        Kind::OneOf(["zap", ..]) => "zap",
        Kind::OneOf(["exit", ..]) => "exit",
        Kind::OneOf(_) => "write-only, write-only-skip-check, write-only-drop-data or gone",
        Kind::Gates => "Name=true|false pairs, comma-separated",
        Kind::Nothing => "anything",
    }
}

/// Go's `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberError {
    Syntax,
    Range,
}

impl NumberError {
    fn in_a_flag(self) -> String {
        match self {
            Self::Syntax => "parse error".to_owned(),
            Self::Range => "value out of range".to_owned(),
        }
    }
}

/// Go's numbers in base 0: decimal, or with 0x, 0o, 0b or 0 in front; `_` may stand between digits.
fn parse_uint(text: &str) -> Result<u64, NumberError> {
    let lower = text.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let has_base = digits.len() != lower.len();
    // Go wants a digit on both sides of every underscore, and a base in front of the number.
    let digits = if digits.contains('_') {
        if !has_base || digits.ends_with('_') || digits.contains("__") {
            return Err(NumberError::Syntax);
        }
        digits.replace('_', "")
    } else {
        digits.to_owned()
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Err(NumberError::Syntax);
    }
    u64::from_str_radix(&digits, base).map_err(|_| NumberError::Range)
}

fn parse_int(text: &str) -> Result<i64, NumberError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(parse_uint(digits)?);
    let signed = if negative { -magnitude } else { magnitude };
    i64::try_from(signed).map_err(|_| NumberError::Range)
}

fn parse_uint32(text: &str) -> Result<u64, String> {
    let error = |what| format!("strconv.ParseUint: parsing {text:?}: {what}");
    match parse_uint(text) {
        Ok(n) if n <= u64::from(u32::MAX) => Ok(n),
        Ok(_) | Err(NumberError::Range) => Err(error("value out of range")),
        Err(NumberError::Syntax) => Err(error("invalid syntax")),
    }
}

/// An empty text is an empty list here; what that means is the setting's affair.
fn parse_urls(text: &str) -> Result<Vec<ListenUrl>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    ListenUrl::parse_list(text).map_err(|e| e.to_string())
}

fn parse_origins(text: &str) -> Result<Vec<String>, String> {
    if text == "*" {
        return Ok(vec![text.to_owned()]);
    }
    let urls = ListenUrl::parse_list(text).map_err(|e| e.to_string())?;
    Ok(urls.iter().map(ListenUrl::to_string).collect())
}

fn parse_list(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut words: Vec<String> = text.split(',').map(str::to_owned).collect();
    words.sort();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_go_reads_them() {
        for (text, number) in [
            ("0", 0),
            ("10", 10),
            ("0x10", 16),
            ("0X1f", 31),
            ("0b11", 3),
            ("0o17", 15),
            ("017", 15),
            ("0x1_0", 16),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(Value::parse(Kind::Uint, text), Ok(Value::Uint(number)), "{text}");
        }
        for (text, reason) in [
            ("", "parse error"),
            ("abc", "parse error"),
            ("-1", "parse error"),
            ("1_000", "parse error"),
            ("0x", "parse error"),
            ("08", "parse error"),
            ("1.5", "parse error"),
            ("18446744073709551616", "value out of range"),
        ] {
            assert_eq!(Value::parse(Kind::Uint, text), Err(reason.to_owned()), "{text}");
        }
        assert_eq!(Value::parse(Kind::Int, "-5"), Ok(Value::Int(-5)));
        assert_eq!(Value::parse(Kind::Int, "-9223372036854775808"), Ok(Value::Int(i64::MIN)));
        assert_eq!(Value::parse(Kind::Int, "9223372036854775808"), Err("value out of range".to_owned()));
        assert_eq!(Value::parse(Kind::Uint32, "4294967295"), Ok(Value::Uint(4_294_967_295)));
        assert_eq!(
            Value::parse(Kind::Uint32, "4294967296"),
            Err(r#"strconv.ParseUint: parsing "4294967296": value out of range"#.to_owned())
        );
        assert_eq!(
            Value::parse(Kind::Uint32, "x"),
            Err(r#"strconv.ParseUint: parsing "x": invalid syntax"#.to_owned())
        );
    }

    #[test]
    fn words_and_switches() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(Value::parse(Kind::Bool, text), Ok(Value::Bool(true)));
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(Value::parse(Kind::Bool, text), Ok(Value::Bool(false)));
        }
        for text in ["", "yes", "tRUE", "2"] {
            assert_eq!(Value::parse(Kind::Bool, text), Err("parse error".to_owned()));
        }
        assert_eq!(Value::parse(Kind::Words, "b,a,b"), Ok(Value::List(vec!["a".into(), "b".into()])));
        assert_eq!(Value::parse(Kind::Origins, "*"), Ok(Value::List(vec!["*".into()])));
        assert!(Value::parse(Kind::Origins, "").is_err());
        assert_eq!(Value::parse(Kind::OneOf(&["a"]), "b"), Err("invalid value".to_owned()));
    }
}
