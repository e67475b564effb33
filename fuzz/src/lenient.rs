//! How a server reads a path that takes more for granted than the edge does.

/// The bytes of a text with each `%` and two digits read as a byte, once. RFC 3986 §2.1.
pub fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |offset: usize| {
            bytes
                .get(at + offset)
                .and_then(|b| char::from(*b).to_digit(16))
        };
        if byte == b'%'
            && let (Some(high), Some(low)) = (digit(1), digit(2))
        {
            out.push(u8::try_from(high * 16 + low).expect("two digits are a byte"));
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    out
}

/// The segments that are left of a path once it is decoded, a backslash is taken for a slash, what is behind
/// a semicolon for a parameter, and dots and empty segments are removed. RFC 3986 §5.2.4.
pub fn segments(path: &str) -> Vec<Vec<u8>> {
    let mut left: Vec<Vec<u8>> = Vec::new();
    for segment in decoded(path).split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        match name {
            b"" | b"." => {}
            b".." => drop(left.pop()),
            name => left.push(name.to_vec()),
        }
    }
    left
}

/// Whether such a server finds what is for the edge's own calls alone.
pub fn is_internal(path: &str) -> bool {
    segments(path)
        .first()
        .is_some_and(|first| first == b"internal")
}

/// Whether a text can be a header's value. RFC 9110 §5.5.
pub fn is_header_value(text: &str) -> bool {
    !text.chars().any(|c| matches!(c, '\r' | '\n' | '\0'))
}
