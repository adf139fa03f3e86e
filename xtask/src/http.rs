//! As much HTTP as asking a member something takes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest to wait for a connection, and for each part of an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The body that a POST of JSON is answered with, whatever the code.
///
/// # Errors
/// When nobody answers.
pub fn post(to: SocketAddr, path: &str, body: &str) -> std::io::Result<String> {
    let length = body.len();
    // Version 1.0 has no chunks.
    let head = format!("POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    let answer = exchange(to, &format!("{head}{body}"))?;
    Ok(answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}

/// Whether a GET is answered with 200.
pub fn is_good(from: SocketAddr, path: &str) -> bool {
    let request = format!("GET {path} HTTP/1.1\r\nHost: member\r\nConnection: close\r\n\r\n");
    exchange(from, &request).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn exchange(with: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&with, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
