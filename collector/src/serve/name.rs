//! Names in headers: HTTP trims spaces and takes ASCII only, and a tenant's name must arrive as it
//! is, or one tenant is taken for another. So all but letters, digits and `-_.` is percent-encoded.

use std::fmt::Write;

/// A name as a header's value.
#[must_use]
pub fn encoded(name: &str) -> String {
    let mut value = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            value.push(char::from(byte));
        } else {
            write!(value, "%{byte:02X}").expect("a string takes all that is written");
        }
    }
    value
}

/// The name that a header's value says; `None` where it is none.
pub(in crate::serve) fn decoded(value: &[u8]) -> Option<String> {
    let mut name = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        name.extend(hex::decode(digits).ok()?);
        rest = behind;
    }
    String::from_utf8(name).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_arrives_as_it_was() {
        for name in ["acme", "acme ", " acme", "müller", "50%", "%20", "a\r\nb: c", "\u{0}"] {
            let value = encoded(name);
            assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "{value}");
            assert_eq!(decoded(value.as_bytes()).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_names_nobody_is_not_read() {
        for value in ["", "%", "%4", "%zz", "%FF"] {
            assert_eq!(decoded(value.as_bytes()), None, "{value}");
        }
    }
}
