//! `/keepstone/member`: what a member tells of its data directory and of permits, also while it waits for a cluster. It is
//! plain HTTP, on the peer URLs from the first moment, and on the metrics URLs once the member runs.

use std::time::Duration;

use http::Uri;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{CallError, Dialer};

const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are looked at.
const MAX_ANSWER: u64 = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Card {
    pub name: String,
    /// What a permit names the data directory with.
    pub directory: String,
    /// `waiting`, or `member`.
    pub state: String,
    /// Of the program.
    #[serde(default)]
    pub version: Option<String>,
    /// In hex.
    #[serde(default, rename = "memberID")]
    pub member_id: Option<String>,
    /// In hex.
    #[serde(default, rename = "clusterID")]
    pub cluster_id: Option<String>,
    /// The nonce of the permit that this directory used last.
    #[serde(default)]
    pub permit: Option<String>,
    /// The last one that the cluster knows of.
    #[serde(default)]
    pub cluster_permit: Option<String>,
}

/// Asks at a peer URL, with a member's credentials, or at a metrics URL.
///
/// # Errors
/// Nobody answers, or something that is no card.
pub async fn card(url: &str, dialer: &Dialer) -> Result<Card, CallError> {
    let uri: Uri = url.parse().map_err(|_| CallError::Url(url.to_owned()))?;
    let asked = tokio::time::timeout(LIMIT, ask(&uri, dialer)).await;
    let answer = asked.unwrap_or_else(|_| Err(format!("nothing was heard in {} s", LIMIT.as_secs())));
    answer.map_err(|why| CallError::Silence(format!("{url}: {why}")))
}

/// HTTP/1.0: the answer ends with the connection.
async fn ask(uri: &Uri, dialer: &Dialer) -> Result<Card, String> {
    let mut line = dialer.dial(uri, b"http/1.1").await.map_err(|error| error.to_string())?;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let request = format!("GET /keepstone/member HTTP/1.0\r\nhost: {host}\r\n\r\n");
    line.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    line.flush().await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let read = (&mut line).take(MAX_ANSWER).read_to_end(&mut answer).await;
    // A connection that is cut after the answer is no matter: what is cut short is no JSON.
    if answer.is_empty() {
        return Err(read.err().map_or_else(|| "the connection was closed".to_owned(), |error| error.to_string()));
    }
    parse(&answer)
}

fn parse(answer: &[u8]) -> Result<Card, String> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("it is not HTTP")?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("200") {
        return Err(first.to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_was_cut_short_is_none() {
        let whole = b"HTTP/1.0 200 OK\r\n\r\n{\"name\":\"a\",\"directory\":\"5f\",\"state\":\"waiting\"}\n";
        let card = parse(whole).expect("a card");
        assert_eq!((card.directory.as_str(), card.state.as_str(), card.permit), ("5f", "waiting", None));
        for end in [0, 10, 19, whole.len() - 3] {
            parse(&whole[..end]).expect_err("cut short");
        }
        parse(b"HTTP/1.0 404 Not Found\r\n\r\n{}").expect_err("no card");
    }
}
