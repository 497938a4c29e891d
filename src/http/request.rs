//! A request, as handlers see it.

use super::head::Head;

pub struct Request<'a> {
    pub method: &'static str,
    pub path: &'a str,
    pub head: &'a Head<'a>,
    /// At most 1 KiB. Only of a POST.
    pub body: &'a [u8],
}

/// The method as a label of metrics, which must not contain a client's text.
pub fn method(method: &tiny_http::Method) -> &'static str {
    match method {
        tiny_http::Method::Get => "GET",
        tiny_http::Method::Head => "HEAD",
        tiny_http::Method::Post => "POST",
        tiny_http::Method::Put => "PUT",
        tiny_http::Method::Delete => "DELETE",
        tiny_http::Method::Options => "OPTIONS",
        tiny_http::Method::Patch => "PATCH",
        _ => "other",
    }
}
