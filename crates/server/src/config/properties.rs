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
pub(super) fn parse(text: &str) -> Vec<Property> {
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
        found.push(Property { line: at + 1, key: unescape(key), value: unescape(value.trim_end()) });
    }
    found
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

/// Backslashes as Java reads them, without `\uXXXX` (no key of ours needs it).
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => {}
            },
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_java_accepts() {
        let text = "# c\n! c\n\n tickTime = 2000 \nserver.1=a:1:2;[::]:2181\nkey: v\nbare\nlong=a,\\\n   b\nw C\\:\\\\x\n";
        let found: Vec<_> = parse(text).into_iter().map(|p| (p.line, p.key, p.value)).collect();
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
}
