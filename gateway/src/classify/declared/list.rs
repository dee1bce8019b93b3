//! Lists of structured field values (RFC 8941, section 3.1), of tokens and strings.
//!
//! Inner lists and other kinds of items are refused: no header of ours takes them.

/// One member of a list with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub value: String,
    pub parameters: Vec<(String, String)>,
}

/// What is left to read.
struct Rest<'a> {
    bytes: &'a [u8],
}

/// Reads a list of at most `items_max` items; an empty one is refused, for a header that is
/// there shall say something.
pub(super) fn read(text: &str, items_max: usize) -> Result<Vec<Item>, &'static str> {
    let mut rest = Rest { bytes: text.trim_matches(' ').as_bytes() };
    let mut items = Vec::new();
    loop {
        if items.len() == items_max {
            return Err("holds too many items");
        }
        items.push(rest.item()?);
        rest.skip_space();
        if rest.bytes.is_empty() {
            return Ok(items);
        }
        if !rest.take(b',') {
            return Err("needs `,` between its items");
        }
        rest.skip_space();
    }
}

// === impl Rest ===

impl Rest<'_> {
    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.bytes {
            self.bytes = rest;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.bytes.split_first() {
            Some((first, rest)) if *first == byte => {
                self.bytes = rest;
                true
            }
            _ => false,
        }
    }

    /// The longest run of bytes that `fits`.
    fn run(&mut self, fits: impl Fn(u8) -> bool) -> String {
        let length = self.bytes.iter().take_while(|byte| fits(**byte)).count();
        let (run, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        String::from_utf8_lossy(run).into_owned()
    }

    fn item(&mut self) -> Result<Item, &'static str> {
        let value = self.bare()?;
        let mut parameters = Vec::new();
        while self.take(b';') {
            while self.take(b' ') {}
            let name = self.run(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
            });
            if name.is_empty() || !self.take(b'=') {
                return Err("needs `name=value` behind `;`");
            }
            parameters.push((name, self.bare()?));
        }
        Ok(Item { value, parameters })
    }

    /// A token or a string.
    fn bare(&mut self) -> Result<String, &'static str> {
        match self.bytes.first() {
            Some(b'"') => self.string(),
            Some(byte) if byte.is_ascii_alphabetic() || *byte == b'*' => {
                Ok(self.run(|byte| is_token(byte) || byte == b':' || byte == b'/'))
            }
            Some(_) => Err("must hold tokens like `cui:sp-cti`, or texts in quotes"),
            None => Err("ends where an item must stand"),
        }
    }

    fn string(&mut self) -> Result<String, &'static str> {
        let mut text = String::new();
        self.take(b'"');
        while let [first, rest @ ..] = self.bytes {
            self.bytes = rest;
            match first {
                b'"' => return Ok(text),
                b'\\' => match self.bytes {
                    [escaped @ (b'"' | b'\\'), rest @ ..] => {
                        text.push(char::from(*escaped));
                        self.bytes = rest;
                    }
                    _ => return Err("holds an escape that is none"),
                },
                byte => text.push(char::from(*byte)),
            }
        }
        Err("holds a text without its closing quote")
    }
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
