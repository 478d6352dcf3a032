//! Paths: which ones a node may have, and their parts.
//!
//! ```text
//!  /app/lock/n-0000000007
//!  └──parent─┘└───name──┘      the parent of /app is /, whose own path is written "/"
//! ```
//!
//! Source: zookeeper-reference 1.9. Reads do not validate: an ill-formed path is simply not in the tree.

/// The root's path.
pub const ROOT: &str = "/";

/// Whether a node may have this path (the full one, sequence number included).
#[must_use]
pub fn is_valid(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    rest.is_empty()
        || rest.split('/').all(|name| !matches!(name, "" | "." | ".."))
            && (rest.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) || rest.chars().all(is_allowed))
}

/// ZooKeeper tests UTF-16 units, so everything above U+FFFF falls into its surrogate range.
const fn is_allowed(c: char) -> bool {
    !matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}'
            | '\u{10000}'..)
}

/// Everything before the last slash; `/` for a child of the root and for the root; `None` without a slash.
#[must_use]
pub fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", _) => Some(ROOT),
        (parent, _) => Some(parent),
    }
}

/// What follows the last slash.
#[must_use]
pub fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// All ancestors of a path, nearest first, the root last; none for the root.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let mut at = path;
    std::iter::from_fn(move || {
        if at == ROOT {
            return None;
        }
        at = parent(at)?;
        Some(at)
    })
}

/// The four nodes that exist from the start and can never be deleted.
#[must_use]
pub fn is_special(path: &str) -> bool {
    matches!(path, "/" | "/zookeeper" | "/zookeeper/config" | "/zookeeper/quota")
}

#[cfg(test)]
mod tests {
    use super::*;

    // requirement: ND8
    #[test]
    fn good_and_bad_paths() {
        for good in [
            "/",
            "/a",
            "/a/b",
            "/a/...",
            "/a/.b",
            "/ü/日本",
            "/a b",
            "/~",
            "/\u{a0}",
            "/\u{d7ff}",
            "/\u{ffef}",
        ] {
            assert!(is_valid(good), "{good:?}");
        }
        let bad = [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/a/./b",
            "/a/..",
            "/../b",
            "/a\0b",
            "/\u{1}",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{ffff}",
            "/\u{1f600}",
        ];
        for bad in bad {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn parts() {
        assert_eq!(parent("/a/b"), Some("/a"));
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("a"), None);
        assert_eq!(name("/a/b"), "b");
        assert_eq!(name("/"), "");
        assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
        assert_eq!(ancestors("/").count(), 0);
        assert_eq!(ancestors("no slash").count(), 0);
    }
}
