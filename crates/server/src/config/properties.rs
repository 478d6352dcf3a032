//! Java's property files, as far as `zoo.cfg` uses them: `key=value`, `key: value` or `key value`; comments begin with
//! `#` or `!`; a backslash at the end continues the line.

/// One entry of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    /// Line on which it begins, from 1.
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: String,
}

/// All entries of `text`, in order.
///
/// # Errors
/// The line of an entry whose escapes make no text, and why.
pub(super) fn parse(text: &str) -> Result<Vec<Property>, (usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, first)) = lines.next() {
        let first = first.trim_start();
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = first.to_owned();
        while whole.chars().rev().take_while(|&c| c == '\\').count() % 2 == 1 {
            whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(next.trim_start());
        }
        let (key, value) = split(&whole);
        let line = at + 1;
        let plain = |text| unescape(text).map_err(|reason| (line, reason));
        found.push(Property { line, key: plain(key)?, value: plain(value.trim_end())? });
    }
    Ok(found)
}

/// Key and value: the key ends at the first unescaped `=`, `:` or white space.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if !escaped && (c == '=' || c == ':' || c.is_whitespace()) {
            let (key, rest) = line.split_at(at);
            let rest = rest.trim_start();
            let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (key, rest.trim_start());
        }
        escaped = c == '\\' && !escaped;
    }
    (line, "")
}

/// Backslashes as Java reads them. `\u` and four digits are a UTF-16 unit; beyond U+FFFF two of them make a character.
///
/// # Errors
/// What follows `\u` is not four hexadecimal digits, or half of a character stands alone.
fn unescape(text: &str) -> Result<String, String> {
    let mut out: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('u') => {
                    let rest = chars.as_str();
                    let digits = rest.get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                    let unit = digits.and_then(|d| u16::from_str_radix(d, 16).ok());
                    out.push(
                        unit.ok_or_else(|| format!("\\u without four hexadecimal digits in \"{text}\""))?,
                    );
                    chars = rest.get(4..).unwrap_or_default().chars();
                    continue;
                }
                Some(other) => other,
                None => continue,
            },
            _ => c,
        };
        out.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&out).map_err(|_| format!("half of a character stands alone in \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_java_accepts() {
        let text = "# c\n! c\n\n tickTime = 2000 \nserver.1=a:1:2;[::]:2181\nkey: v\nbare\nlong=a,\\\n   b\nw C\\:\\\\x\n";
        let found: Vec<_> = parse(text).unwrap().into_iter().map(|p| (p.line, p.key, p.value)).collect();
        let expected = [
            (4, "tickTime", "2000"),
            (5, "server.1", "a:1:2;[::]:2181"),
            (6, "key", "v"),
            (7, "bare", ""),
            (8, "long", "a,b"),
            (10, "w", "C:\\x"),
        ];
        assert_eq!(found, expected.map(|(l, k, v)| (l, k.to_owned(), v.to_owned())));
    }

    #[test]
    fn escaped_characters_beyond_ascii() {
        let of = |text: &str| parse(text).map(|all| all[0].value.clone());
        assert_eq!(
            of("dataDir=/m\\u00fcnchen/\\uD83D\\uDC00/\\u0041b"),
            Ok("/m\u{fc}nchen/\u{1f400}/Ab".into())
        );
        for bad in ["a=\\u00f", "a=\\u00zz", "a=\\u+041", "a=\\uD83D", "a=\\uDC00\\uD83D"] {
            let (line, reason) = of(&format!("# c\n{bad}\n")).unwrap_err();
            assert!(line == 2 && !reason.is_empty(), "{bad}: {reason}");
        }
    }
}
