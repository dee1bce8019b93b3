//! The table of contents: which path means what, with which method.

use http::Method;

use crate::wire::Format;

/// What the AI listener does at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// A call to a model, in a wire format.
    Call(Format),
    /// The models that a caller may name.
    Models,
    /// The process lives.
    Health,
    /// It can serve, or why not.
    Ready,
}

/// What a request line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A page, with a method it knows.
    Page(Page),
    /// Which methods a page knows (`OPTIONS`).
    Methods { allow: &'static str },
    /// A page, with a method it does not know.
    WrongMethod { allow: &'static str },
    /// No page of ours. Paths without a parser are never forwarded.
    Unknown,
}

const READ: &str = "GET, HEAD, OPTIONS";
const WRITE: &str = "POST, OPTIONS";

const PAGES: [(&str, Page, &str); 4] = [
    ("/v1/chat/completions", Page::Call(Format::OpenAiChat), WRITE),
    ("/v1/models", Page::Models, READ),
    ("/healthz", Page::Health, READ),
    ("/readyz", Page::Ready, READ),
];

/// Looks up what a request line asks for. A path matches as it is written, byte for byte.
pub(crate) fn find(method: &Method, path: &str) -> Asked {
    let Some((_, page, allow)) = PAGES.iter().find(|(name, _, _)| *name == path) else {
        return Asked::Unknown;
    };
    if method == Method::OPTIONS {
        Asked::Methods { allow }
    } else if allow.split(", ").any(|known| known == method.as_str()) {
        Asked::Page(*page)
    } else {
        Asked::WrongMethod { allow }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_means_one_thing_and_only_as_written() {
        let chat = Asked::Page(Page::Call(Format::OpenAiChat));
        let cases = [
            ("POST", "/v1/chat/completions", chat),
            ("GET", "/v1/chat/completions", Asked::WrongMethod { allow: WRITE }),
            ("OPTIONS", "/v1/chat/completions", Asked::Methods { allow: WRITE }),
            ("POST", "/v1/chat/completions/", Asked::Unknown),
            ("POST", "/V1/chat/completions", Asked::Unknown),
            ("POST", "//v1/chat/completions", Asked::Unknown),
            ("POST", "/v1/embeddings", Asked::Unknown),
            ("HEAD", "/healthz", Asked::Page(Page::Health)),
            ("GET", "/readyz", Asked::Page(Page::Ready)),
            ("GET", "/v1/models", Asked::Page(Page::Models)),
            ("DELETE", "/v1/models", Asked::WrongMethod { allow: READ }),
            ("OPTIONS", "*", Asked::Unknown),
        ];
        for (method, path, asked) in cases {
            assert_eq!(find(&method.parse().unwrap(), path), asked, "{method} {path}");
        }
    }
}
