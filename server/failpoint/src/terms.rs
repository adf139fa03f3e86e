//! What a point is armed with: gofail's terms, `2*sleep(100)->50.0%return("why")->panic`.
//!
//! A hit goes to the first term of the chain whose modifiers let it. `break`, which starts a debugger, is not known here.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use parking_lot::Mutex;

use crate::duration;

/// What a hit is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Off,
    Panic,
    Print,
    Sleep(Duration),
    /// What was given, as a text.
    Return(String),
}

#[derive(Debug)]
enum Modifier {
    /// So often at most.
    Times(u64),
    /// With this probability, in 0..=1.
    Chance(f64),
}

impl Modifier {
    fn allows(&mut self) -> bool {
        match self {
            Self::Times(0) => false,
            Self::Times(left) => {
                *left -= 1;
                true
            }
            Self::Chance(chance) => random() <= *chance,
        }
    }
}

#[derive(Debug)]
struct Term {
    modifiers: Vec<Modifier>,
    action: Action,
}

#[derive(Debug)]
struct Chain {
    terms: Vec<Term>,
    count: u64,
}

/// Terms, and how far they are used up.
#[derive(Debug)]
pub(crate) struct Terms {
    text: String,
    chain: Mutex<Chain>,
}

impl Terms {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut terms = Vec::new();
        let mut rest = text;
        loop {
            let (term, after) = parse_term(rest)?;
            terms.push(term);
            if after.is_empty() {
                let chain = Mutex::new(Chain { terms, count: 0 });
                return Some(Self { text: text.to_owned(), chain });
            }
            rest = after.strip_prefix("->")?;
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// How often something was to be done.
    pub(crate) fn count(&self) -> u64 {
        self.chain.lock().count
    }

    /// A hit: what is to be done.
    pub(crate) fn next(&self) -> Option<Action> {
        let mut chain = self.chain.lock();
        let action = chain.terms.iter_mut().find_map(|term| {
            let allowed = term.modifiers.iter_mut().all(Modifier::allows);
            allowed.then(|| term.action.clone())
        })?;
        chain.count += 1;
        Some(action)
    }
}

/// Reads one term; what follows it is given back.
fn parse_term(text: &str) -> Option<(Term, &str)> {
    let mut modifiers = Vec::new();
    let mut rest = text;
    while rest.starts_with(|c: char| c.is_ascii_digit()) {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        if let Some(after) = after.strip_prefix('%') {
            modifiers.push(Modifier::Chance(number.parse::<f64>().ok()? / 100.0));
            rest = after;
        } else {
            modifiers.push(Modifier::Times(number.parse().ok()?));
            rest = after.strip_prefix('*')?;
        }
    }
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    let (value, after) = parse_value(after)?;
    let action = match word {
        "off" => Action::Off,
        "panic" => Action::Panic,
        "print" => Action::Print,
        "return" => Action::Return(value.text()),
        "sleep" => Action::Sleep(value.time()?),
        _ => return None,
    };
    Some((Term { modifiers, action }, after))
}

/// What stands between a term's parentheses.
#[derive(Debug, PartialEq, Eq)]
enum Value {
    Nothing,
    Number(i64),
    Text(String),
    Bool(bool),
}

impl Value {
    fn text(self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
            Self::Bool(is) => is.to_string(),
        }
    }

    /// A bare number is of milliseconds.
    fn time(self) -> Option<Duration> {
        match self {
            Self::Number(number) => u64::try_from(number).ok().map(Duration::from_millis),
            Self::Text(text) => duration::parse(&text),
            Self::Nothing | Self::Bool(_) => None,
        }
    }
}

fn parse_value(text: &str) -> Option<(Value, &str)> {
    let Some(inner) = text.strip_prefix('(') else { return Some((Value::Nothing, text)) };
    if let Some((value, after)) = parse_quoted(inner) {
        return Some((Value::Text(value), after.strip_prefix(')')?));
    }
    let (value, after) = inner.split_once(')')?;
    let value = match value {
        "" => Value::Nothing,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        number => Value::Number(number.parse().ok()?),
    };
    Some((value, after))
}

/// A text as Go quotes it: with escapes between `"`, as it is between backquotes.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (value, after) = raw.split_once('`')?;
        return Some((value.to_owned(), after));
    }
    let inner = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &inner[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                c @ ('"' | '\\') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

/// In 0..1. Every new hasher has keys of its own.
fn random() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(text: &str, n: usize) -> Vec<Option<Action>> {
        let terms = Terms::parse(text).expect("terms");
        (0..n).map(|_| terms.next()).collect()
    }

    fn returns(value: &str) -> Option<Action> {
        Some(Action::Return(value.to_owned()))
    }

    #[test]
    fn a_chain_goes_on_where_a_term_is_used_up() {
        assert_eq!(hits(r#"2*return("abc")"#, 3), [returns("abc"), returns("abc"), None]);
        let chain = r#"2*return("abc")->1*return("def")"#;
        assert_eq!(hits(chain, 4), [returns("abc"), returns("abc"), returns("def"), None]);
        assert_eq!(hits(r#"1*return("abc")->return("def")"#, 3), [returns("abc"), returns("def"), returns("def")]);
        assert_eq!(hits("1*off->panic", 2), [Some(Action::Off), Some(Action::Panic)]);
    }

    #[test]
    fn values_are_numbers_texts_or_nothing() {
        for (text, value) in
            [("return(1)", "1"), ("return(-1)", "-1"), ("return(true)", "true"), ("return()", ""), ("return", "")]
        {
            assert_eq!(hits(text, 1), [returns(value)]);
        }
        assert_eq!(hits(r#"return("a \"b\" (c)->")"#, 1), [returns(r#"a "b" (c)->"#)]);
        assert_eq!(hits("return(`a`)", 1), [returns("a")]);
        assert_eq!(hits("sleep(100)", 1), [Some(Action::Sleep(Duration::from_millis(100)))]);
        assert_eq!(hits(r#"sleep("1m2.5s")"#, 1), [Some(Action::Sleep(Duration::from_millis(62_500)))]);
    }

    #[test]
    fn a_chance_is_one_of_a_hundred() {
        assert_eq!(hits("0%panic", 100), vec![None; 100]);
        assert_eq!(hits("100%print", 100), vec![Some(Action::Print); 100]);
        let some = hits("50.0%print", 1000).into_iter().flatten().count();
        assert!((1..1000).contains(&some), "{some}");
    }

    #[test]
    fn counts_what_was_done() {
        let terms = Terms::parse(r#"10*sleep(10)->1*return("abc")"#).expect("terms");
        (0..12).for_each(|_| drop(terms.next()));
        assert_eq!((terms.count(), terms.text()), (11, r#"10*sleep(10)->1*return("abc")"#));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let bad = [
            "",
            "panc",
            "break",
            "3",
            "3*",
            "50panic",
            "panic->",
            "panic-",
            "sleep",
            "sleep(true)",
            "return(",
            "->panic",
        ];
        for text in bad.into_iter().chain([r#"return("a)"#, r#"sleep("soon")"#, "return(x)", "panic panic"]) {
            assert!(Terms::parse(text).is_none(), "{text}");
        }
    }
}
