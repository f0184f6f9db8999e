//! Just enough HTTP/1.1 to send load and to count it: heads with a `content-length`, nothing else.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Where one message lies at the front of a buffer.
pub struct Message {
    /// Bytes of its head.
    pub head: usize,
    /// Bytes of head and body.
    pub length: usize,
}

/// Reads until the buffer holds a whole message; `None` when the peer has closed before one began.
pub async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Message>> {
    loop {
        if let Some(message) = find(buffer)
            && buffer.len() >= message.length
        {
            return Ok(Some(message));
        }
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

fn find(buffer: &[u8]) -> Option<Message> {
    let head = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let body = buffer[..head].split(|byte| *byte == b'\n').find_map(content_length).unwrap_or(0);
    Some(Message { head, length: head + body })
}

fn content_length(line: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    name.eq_ignore_ascii_case(NAME).then(|| std::str::from_utf8(value).ok()?.trim().parse().ok()).flatten()
}

/// The status of an answer.
pub fn status(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}
