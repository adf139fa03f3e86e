//! Finds where one JSON value ends and the next begins in bytes that arrive piece by piece. Looks at every byte once.

use axum::body::{Body, BodyDataStream};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt as _;
use tonic::Status;

/// A body as a row of JSON values.
pub(super) struct Values {
    body: BodyDataStream,
    buffer: BytesMut,
    /// Bytes of `buffer` already looked at.
    seen: usize,
    /// Bytes one value may have.
    limit: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Between the first byte of a value and its end.
    inside: bool,
    /// A number or a word: it ends where something else begins.
    bare: bool,
}

impl Values {
    pub(super) fn new(body: Body, limit: usize) -> Self {
        Self { body: body.into_data_stream(), buffer: BytesMut::new(), seen: 0, limit, state: State::default() }
    }

    /// The next value, as soon as its last byte has come; `None` at the body's end.
    ///
    /// # Errors
    /// `InvalidArgument` for what can't begin a value and for one that is cut off, `ResourceExhausted` for one over
    /// the limit, `Canceled` when the client is gone. Nothing comes after an error.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(end) = self.scan()? {
                self.seen = 0;
                self.state = State::default();
                return Ok(Some(self.buffer.split_to(end).freeze()));
            }
            if self.buffer.len() > self.limit {
                let (found, limit) = (self.buffer.len(), self.limit);
                return Err(Status::resource_exhausted(format!(
                    "grpc: received message larger than max ({found} vs. {limit})"
                )));
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => return Err(Status::cancelled(error.to_string())),
                None if !self.state.inside => return Ok(None),
                None if self.state.bare => {
                    self.state = State::default();
                    self.seen = 0;
                    return Ok(Some(self.buffer.split().freeze()));
                }
                None => return Err(Status::invalid_argument("unexpected EOF")),
            }
        }
    }

    /// Looks at the bytes that are new; gives the length of the value that ends among them.
    fn scan(&mut self) -> Result<Option<usize>, Status> {
        if !self.state.inside {
            let blank = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.buffer.advance(blank);
            let Some(first) = self.buffer.first() else { return Ok(None) };
            self.state = State::begin(*first).ok_or_else(|| bad_start(&self.buffer))?;
            self.seen = 1;
        }
        while let Some(byte) = self.buffer.get(self.seen) {
            match self.state.step(*byte) {
                Step::Inside => self.seen += 1,
                Step::Last => return Ok(Some(self.seen + 1)),
                Step::Behind => return Ok(Some(self.seen)),
            }
        }
        Ok(None)
    }
}

enum Step {
    Inside,
    /// This byte is the value's last.
    Last,
    /// The value ended before this byte.
    Behind,
}

impl State {
    fn begin(first: u8) -> Option<Self> {
        let inside = Self { inside: true, ..Self::default() };
        match first {
            b'{' | b'[' => Some(Self { depth: 1, ..inside }),
            b'"' => Some(Self { in_string: true, ..inside }),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Some(Self { bare: true, ..inside }),
            _ => None,
        }
    }

    fn step(&mut self, byte: u8) -> Step {
        if self.bare {
            let part = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
            return if part { Step::Inside } else { Step::Behind };
        }
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return if self.in_string || self.depth > 0 { Step::Inside } else { Step::Last };
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        if self.depth == 0 { Step::Last } else { Step::Inside }
    }
}

/// Go's words for a text that is no JSON from its first character on.
fn bad_start(text: &[u8]) -> Status {
    let first = String::from_utf8_lossy(&text[..text.len().min(4)]).chars().next().unwrap_or_default();
    Status::invalid_argument(format!("invalid character {first:?} looking for beginning of value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn split(pieces: &[&str], limit: usize) -> (Vec<String>, Option<Status>) {
        let pieces: Vec<_> = pieces.iter().map(|p| Ok::<_, Status>(Bytes::copy_from_slice(p.as_bytes()))).collect();
        let mut values = Values::new(Body::from_stream(futures_util::stream::iter(pieces)), limit);
        let mut all = Vec::new();
        loop {
            match values.next().await {
                Ok(Some(value)) => all.push(String::from_utf8(value.to_vec()).expect("text")),
                Ok(None) => return (all, None),
                Err(status) => return (all, Some(status)),
            }
        }
    }

    #[tokio::test]
    async fn values_are_found_however_the_bytes_arrive() {
        let text = r#" {"a":"}\"{\\"}  {"b":[{},{"c":"]"}]}[1] "x\"y" 12 null"#;
        let wanted = [r#"{"a":"}\"{\\"}"#, r#"{"b":[{},{"c":"]"}]}"#, "[1]", r#""x\"y""#, "12", "null"];
        for size in 1..text.len() {
            let pieces: Vec<_> = text.as_bytes().chunks(size).map(|c| std::str::from_utf8(c).expect("ASCII")).collect();
            let (values, error) = split(&pieces, 100).await;
            assert_eq!(values, wanted, "pieces of {size}");
            assert!(error.is_none());
        }
    }

    #[tokio::test]
    async fn broken_texts_are_named_as_go_names_them() {
        for (text, count, message) in [
            ("xx", 0, "invalid character 'x' looking for beginning of value"),
            ("{}é", 1, "invalid character 'é' looking for beginning of value"),
            (r#"{"key":"Zm9v""#, 0, "unexpected EOF"),
            (r#"{}{"a"#, 1, "unexpected EOF"),
            (r#"{"a":"0123456789012345678901234567890"#, 0, "grpc: received message larger than max (37 vs. 32)"),
        ] {
            let (values, error) = split(&[text], 32).await;
            assert_eq!(values.len(), count, "{text}");
            assert_eq!(error.expect(text).message(), message);
        }
    }
}
