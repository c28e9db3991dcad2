//! Path patterns in the notation of axum, for where no router has matched the path already.

/// Whether a path is one of the pattern: segments are equal, `{name}` stands for any one of them that is not empty, and a
/// last `{*name}` for all that follow.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for wanted in pattern.split('/') {
        match (wanted, segments.next()) {
            (_, None) => return false,
            (rest, Some(first)) if rest.starts_with("{*") && rest.ends_with('}') => {
                return !first.is_empty() || segments.next().is_some();
            }
            (any, Some(found)) if any.starts_with('{') && any.ends_with('}') && !found.is_empty() => {}
            (literal, Some(found)) if literal == found => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_names_and_tails_match_what_axum_would_match() {
        for (pattern, path, expected) in [
            ("/generate", "/generate", true),
            ("/generate", "/generate/", false),
            ("/generate", "/generate/x", false),
            ("/generate", "/GENERATE", false),
            ("/run/{id}/join", "/run/7/join", true),
            ("/run/{id}/join", "/run//join", false),
            ("/run/{id}/join", "/run/7/8/join", false),
            ("/files/{*path}", "/files/a", true),
            ("/files/{*path}", "/files/a/b/c", true),
            ("/files/{*path}", "/files/", false),
            ("/files/{*path}", "/files", false),
            ("/", "/", true),
            ("/", "", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}
