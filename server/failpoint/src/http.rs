//! gofail's HTTP endpoint, on a thread of its own: it answers whatever the rest of the process waits for.
//!
//! A thread and a request a connection, and requests of a few kilobytes: it is for a test on the same machine, not for a
//! network.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::table::{self, Refused};
use crate::{ANSWERING, disable, enable, status};

/// Bytes of a request's head, and of its body, at most.
const MAX_BYTES: u64 = 64 << 10;
/// How long a client may take to send a request.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn listen(address: &str) -> io::Result<()> {
    // As Go understands it: no host means all of this machine's addresses.
    let all = address.strip_prefix(':').map(|port| format!("[::]:{port}"));
    let listener = TcpListener::bind(all.as_deref().unwrap_or(address))?;
    let serving = move || {
        for stream in listener.incoming().flatten() {
            // A client that went away harms nobody. One that says nothing must not keep others waiting.
            drop(thread().spawn(move || serve(&stream)));
        }
    };
    thread().spawn(serving).map(drop)
}

fn thread() -> std::thread::Builder {
    std::thread::Builder::new().name("failpoints".to_owned())
}

fn serve(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(request) = Request::read(&mut BufReader::new(stream))? else { return Ok(()) };
    // Whoever is about to die waits for the answer to be out.
    let _answering = ANSWERING.lock();
    let answer = answer(&request);
    stream.write_all(answer.encode().as_bytes())?;
    stream.flush()
}

struct Request {
    method: String,
    /// Without the slash.
    key: String,
    body: String,
}

impl Request {
    /// `None` for a connection that brings none.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut head = from.take(MAX_BYTES);
        let mut line = String::new();
        head.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
        let (method, key) = (method.to_owned(), target.strip_prefix('/').unwrap_or_default().to_owned());
        let mut length = 0;
        loop {
            let mut header = String::new();
            head.read_line(&mut header)?;
            let header = header.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
            }
        }
        let mut body = String::new();
        from.take(length).take(MAX_BYTES).read_to_string(&mut body)?;
        Ok(Some(Self { method, key, body }))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn ok(body: String) -> Self {
        Self { status: 200, body }
    }

    fn done() -> Self {
        Self { status: 204, body: String::new() }
    }

    fn error(status: u16, why: &str) -> Self {
        Self { status, body: format!("{why}\n") }
    }

    fn encode(&self) -> String {
        let reason = match self.status {
            200 => "OK",
            204 => "No Content",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed\r\nAllow: DELETE, GET, PUT",
            _ => "Internal Server Error",
        };
        // A 204 has neither body nor length.
        let length =
            if self.status == 204 { String::new() } else { format!("Content-Length: {}\r\n", self.body.len()) };
        let (status, body) = (self.status, &self.body);
        let kind = "Content-Type: text/plain; charset=utf-8\r\n";
        format!("HTTP/1.1 {status} {reason}\r\n{kind}{length}Connection: close\r\n\r\n{body}")
    }
}

fn answer(request: &Request) -> Answer {
    match request.method.as_str() {
        "PUT" => put(&request.key, &request.body),
        "GET" => get(&request.key),
        "DELETE" => match disable(&request.key) {
            Ok(()) => Answer::done(),
            Err(why) => Answer::error(400, &format!("failed to delete failpoint {why}")),
        },
        _ => Answer::error(405, "Method not allowed"),
    }
}

fn put(key: &str, body: &str) -> Answer {
    let points = if key.eq_ignore_ascii_case("failpoints") {
        match table::parse_list(body) {
            Ok(points) => points,
            Err(why) => return Answer::error(400, &format!("fail to parse failpoint: {why}")),
        }
    } else {
        vec![(key.to_owned(), body.to_owned())]
    };
    match points.iter().try_for_each(|(name, terms)| enable(name, terms)) {
        Ok(()) => Answer::done(),
        Err(why) => Answer::error(400, &format!("fail to set failpoint: {why}")),
    }
}

fn get(key: &str) -> Answer {
    if key.is_empty() {
        let lines: String = table::list().iter().map(|(name, terms)| format!("{name}={terms}\n")).collect();
        return Answer::ok(lines);
    }
    let failed = |status, why: Refused| Answer::error(status, &format!("failed to GET: {why}"));
    match key.strip_suffix("/count") {
        Some(name) => match status(name) {
            Ok((_, count)) => Answer::ok(count.to_string()),
            Err(why @ Refused::Unknown) => failed(404, why),
            Err(why) => failed(500, why),
        },
        None => status(key).map_or_else(|why| failed(404, why), |(terms, _)| Answer::ok(format!("{terms}\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, key: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let raw = format!("{method} /{key} HTTP/1.1\r\nHost: a\r\ncontent-length: {length}\r\n\r\n{body}");
        let request = Request::read(&mut raw.as_bytes()).expect("reads").expect("a request");
        let Answer { status, body } = answer(&request);
        (status, body)
    }

    /// What gofail 0.2.0 answers.
    #[test]
    fn answers_as_gofail_does() {
        let text = |text: &str| text.to_owned();
        assert_eq!(ask("GET", "afterCommit", ""), (404, text("failed to GET: failpoint: failpoint is disabled\n")));
        assert_eq!(
            ask("GET", "afterCommit/count", ""),
            (500, text("failed to GET: failpoint: failpoint is disabled\n"))
        );
        assert_eq!(ask("GET", "x/count", ""), (404, text("failed to GET: failpoint: failpoint does not exist\n")));
        assert_eq!(ask("PUT", "afterCommit", r#"sleep("5s")"#), (204, text("")));
        assert_eq!(ask("GET", "afterCommit", ""), (200, text("sleep(\"5s\")\n")));
        assert_eq!(ask("GET", "afterCommit/count", ""), (200, text("0")));
        assert!(ask("GET", "", "").1.lines().any(|line| line == r#"afterCommit=sleep("5s")"#));
        assert_eq!(ask("DELETE", "afterCommit", ""), (204, text("")));
        let disabled = "failed to delete failpoint failpoint: failpoint is disabled\n";
        assert_eq!(ask("DELETE", "afterCommit", ""), (400, text(disabled)));
        let unknown = "fail to set failpoint: failpoint: failpoint does not exist\n";
        assert_eq!(ask("PUT", "x", "panic"), (400, text(unknown)));
        let unread = "fail to set failpoint: failpoint: could not parse terms\n";
        assert_eq!(ask("PUT", "beforeCommit", "panc"), (400, text(unread)));
        assert_eq!(ask("PUT", "failpoints", "beforeCommit=off;heapBeforeSync=off"), (204, text("")));
        assert_eq!(ask("GET", "heapBeforeSync", ""), (200, text("off\n")));
        assert_eq!(ask("PUT", "failpoints", "a"), (400, text("fail to parse failpoint: bad failpoint \"a\"\n")));
        assert_eq!(ask("POST", "a", "b").0, 405);
        drop((disable("beforeCommit"), disable("heapBeforeSync")));
    }
}
