//! Base64 (RFC 4648, section 4), as EC2 keeps user data.

/// The text; what is not base64 stays as it is.
pub(super) fn decode(encoded: &str) -> String {
    match bytes(encoded) {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => encoded.to_owned(),
    }
}

fn bytes(encoded: &str) -> Option<Vec<u8>> {
    let digits = encoded.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let digits: Vec<u8> = digits.collect();
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    let body = digits.iter().take_while(|digit| **digit != b'=').count();
    if digits.len() - body > 2 || digits.iter().skip(body).any(|digit| *digit != b'=') {
        return None;
    }
    for four in digits.get(..body)?.chunks(4) {
        let mut bits: u32 = 0;
        for place in 0..4 {
            bits = bits << 6 | four.get(place).map_or(Some(0), |digit| value(*digit))?;
        }
        let [_, decoded @ ..] = bits.to_be_bytes();
        bytes.extend(decoded.iter().take(four.len() * 3 / 4));
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc_are_decoded_and_the_rest_is_left_alone() {
        for (encoded, decoded) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9v\nYg==", "foob"),
            ("#!/bin/sh", "#!/bin/sh"),
            ("Z===", "Z==="),
        ] {
            assert_eq!(decode(encoded), decoded);
        }
    }
}
