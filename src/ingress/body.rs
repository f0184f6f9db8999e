//! Reading a body: bounded, in time, decompressed.
//!
//! Invariants:
//! * The members (gzip, deflate, brotli) or frames (zstd) of a compressed body are one body; what follows the last one
//!   is an error, never dropped.
//! * The limit holds for the bytes as they arrive and for the decompressed bytes of all members together.

use std::error::Error;
use std::time::Duration;

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::reply::Refusal;

/// The most members of one body. An empty member costs a sender a few bytes and the service a new decoder.
pub(super) const MAX_MEMBERS: usize = 10_000;

/// Decompressed bytes after which other tasks of the thread run.
const PIECE_BYTES: u64 = 256 * 1024;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Gzip,
    /// The zlib format (RFC 9110, 8.4.1.2).
    Deflate,
    Brotli,
    Zstd,
}

impl Encoding {
    /// What the header says: encodings are the same in any case, and `x-gzip` is `gzip` (RFC 9110, 8.4.1).
    fn declared(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        const KNOWN: [(&str, Option<Encoding>); 6] = [
            ("gzip", Some(Encoding::Gzip)),
            ("x-gzip", Some(Encoding::Gzip)),
            ("deflate", Some(Encoding::Deflate)),
            ("br", Some(Encoding::Brotli)),
            ("zstd", Some(Encoding::Zstd)),
            ("identity", None),
        ];
        let mut lines = headers.get_all(CONTENT_ENCODING).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        let known = KNOWN.iter().find(|(name, _)| line.as_bytes().eq_ignore_ascii_case(name.as_bytes()));
        match (known, lines.next()) {
            (Some((_, encoding)), None) => Ok(*encoding),
            _ => Err(Refusal::Encoding),
        }
    }

    /// What the first bytes say, for senders whose proxy lost the header. No JSON and no form begins so.
    fn by_magic(body: &[u8]) -> Option<Self> {
        match body {
            [0x1f, 0x8b, 0x08, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Decompresses all members.
    async fn decompress(self, body: &[u8], limit: u64) -> Result<Bytes, Refusal> {
        let (mut rest, mut decompressed) = (body, Vec::new());
        for _ in 0..MAX_MEMBERS {
            if rest.is_empty() {
                break;
            }
            let into = &mut decompressed;
            match self {
                Self::Gzip => append(GzipDecoder::new(&mut rest), into, limit).await,
                Self::Deflate => append(ZlibDecoder::new(&mut rest), into, limit).await,
                Self::Brotli => append(BrotliDecoder::new(&mut rest), into, limit).await,
                Self::Zstd => append(ZstdDecoder::new(&mut rest), into, limit).await,
            }?;
        }
        if rest.is_empty() { Ok(decompressed.into()) } else { Err(Refusal::Body) }
    }
}

/// Appends one member, as long as everything together stays within the limit.
async fn append(
    mut member: impl AsyncRead + Unpin,
    decompressed: &mut Vec<u8>,
    limit: u64,
) -> Result<(), Refusal> {
    loop {
        let left = limit.saturating_sub(decompressed.len() as u64);
        let piece = PIECE_BYTES.min(left.saturating_add(1));
        let read = (&mut member).take(piece).read_to_end(decompressed).await.map_err(|_| Refusal::Body)?;
        if decompressed.len() as u64 > limit {
            return Err(Refusal::TooLarge { limit });
        }
        if (read as u64) < piece {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

/// Whether the content type says that the body is a form.
pub(super) fn declared_form(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = declared.split(';').next().unwrap_or_default().trim();
    name.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Reads a body up to `limit` bytes, as it arrives and decompressed.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: u64,
    patience: Duration,
) -> Result<Bytes, Refusal> {
    let too_large = Refusal::TooLarge { limit };
    let declared = Encoding::declared(headers)?;
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large);
    }
    let limited = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
    let body = match tokio::time::timeout(patience, limited.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if is_length_limit(error.as_ref()) => return Err(too_large),
        Ok(Err(_)) => return Err(Refusal::Body),
        Err(_) => return Err(Refusal::TooSlow),
    };
    match declared.or_else(|| Encoding::by_magic(&body)) {
        None => Ok(body),
        Some(encoding) => Box::pin(encoding.decompress(&body, limit)).await,
    }
}

fn is_length_limit(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_length_limit)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    const BROTLI_EMPTY: &[u8] = &[0x06];

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// One zstd frame with one raw block (RFC 8878, 3.1.1).
    fn zstd(text: &[u8]) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap();
        let block = (u32::from(length) << 3 | 1).to_le_bytes();
        [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, length], &block[..3], text].concat()
    }

    /// One brotli stream: a metadata-free uncompressed block and the empty last one (RFC 7932, 9.2).
    fn brotli(text: &[u8]) -> Vec<u8> {
        // WBITS 16 is the bit 0; then ISLAST 0, MNIBBLES 00 (four), MLEN - 1 in 16 bits, ISUNCOMPRESSED 1.
        let header = ((u32::try_from(text.len()).unwrap() - 1) << 4) | (1 << 20);
        [&header.to_le_bytes()[..3], text, &[0x03]].concat()
    }

    async fn decompress(encoding: Encoding, body: &[u8], limit: u64) -> Result<String, Refusal> {
        encoding.decompress(body, limit).await.map(|body| String::from_utf8(body.into()).unwrap())
    }

    type Encoder = fn(&[u8]) -> Vec<u8>;

    const ENCODERS: [(Encoding, Encoder); 4] = [
        (Encoding::Gzip, gzip),
        (Encoding::Deflate, deflate),
        (Encoding::Brotli, brotli),
        (Encoding::Zstd, zstd),
    ];

    #[tokio::test]
    async fn members_are_one_body_and_one_limit() {
        for (encoding, encode) in ENCODERS {
            let body = [encode(b"one "), encode(b"two "), encode(b"three")].concat();
            assert_eq!(decompress(encoding, &body, 13).await, Ok("one two three".into()), "{encoding:?}");
            let too_large = Err(Refusal::TooLarge { limit: 12 });
            assert_eq!(decompress(encoding, &body, 12).await, too_large, "{encoding:?}");
            let cut = &body[..body.len() - 1];
            assert_eq!(decompress(encoding, cut, 13).await, Err(Refusal::Body), "{encoding:?}");
            let trailing = [body.as_slice(), b"\xff\xff{}"].concat();
            assert_eq!(decompress(encoding, &trailing, 99).await, Err(Refusal::Body), "{encoding:?}");
            assert_eq!(decompress(encoding, b"", 13).await, Ok(String::new()), "{encoding:?}");
        }
    }

    #[tokio::test]
    async fn members_are_counted() {
        for (encoding, member) in [(Encoding::Gzip, gzip(b"")), (Encoding::Brotli, BROTLI_EMPTY.to_vec())] {
            let most = member.repeat(MAX_MEMBERS);
            assert_eq!(decompress(encoding, &most, 1).await, Ok(String::new()), "{encoding:?}");
            let more = member.repeat(MAX_MEMBERS + 1);
            assert_eq!(decompress(encoding, &more, 1).await, Err(Refusal::Body), "{encoding:?}");
        }
    }

    #[tokio::test]
    async fn a_large_member_is_bounded_too() {
        let text = vec![b' '; 3 * usize::try_from(PIECE_BYTES).unwrap()];
        let body = gzip(&text);
        let exact = Encoding::Gzip.decompress(&body, text.len() as u64).await.unwrap();
        assert_eq!(exact.len(), text.len());
        let limit = text.len() as u64 - 1;
        assert_eq!(Encoding::Gzip.decompress(&body, limit).await, Err(Refusal::TooLarge { limit }));
    }

    /// lines of the header | what they say
    #[test]
    fn one_known_encoding_is_declared() {
        type Declared = Result<Option<Encoding>, Refusal>;
        let table: [(&[&str], Declared); 9] = [
            (&[], Ok(None)),
            (&["identity"], Ok(None)),
            (&["GZip"], Ok(Some(Encoding::Gzip))),
            (&["x-gzip"], Ok(Some(Encoding::Gzip))),
            (&["deflate"], Ok(Some(Encoding::Deflate))),
            (&["br"], Ok(Some(Encoding::Brotli))),
            (&["zstd"], Ok(Some(Encoding::Zstd))),
            (&["gzip, br"], Err(Refusal::Encoding)),
            (&["gzip", "gzip"], Err(Refusal::Encoding)),
        ];
        for (lines, expected) in table {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONTENT_ENCODING, line.parse().unwrap());
            }
            assert_eq!(Encoding::declared(&headers), expected, "{lines:?}");
        }
    }

    #[test]
    fn compression_without_a_header_is_known_by_its_magic() {
        assert_eq!(Encoding::by_magic(&gzip(b"{}")), Some(Encoding::Gzip));
        assert_eq!(Encoding::by_magic(&zstd(b"{}")), Some(Encoding::Zstd));
        for body in [&b"{}"[..], b"", b"[]", b"\xef\xbb\xbf{}", b"a=b", b"\x1f\x8b"] {
            assert_eq!(Encoding::by_magic(body), None);
        }
    }
}
