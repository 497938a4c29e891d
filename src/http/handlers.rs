//! One handler per route: request → `Reply`.

use super::app::{App, BatchRead};
use super::faults::Faults;
use super::negotiation::{conditional, prefers_html};
use super::reply::{Body, HTML, JSON, NO_STORE, Reply};
use super::request::Request;
use crate::build_info;
use crate::mood::{catalogue, catalogue::Mood, page, service::Cache};
use crate::observability::metrics;
use std::sync::atomic::Ordering::SeqCst;

pub fn root(app: &App, request: &Request, batch: &mut BatchRead) -> Reply {
    if !prefers_html(request.head.accept) {
        return mood(app, request, batch);
    }
    let (entry, cache) = app.today(batch);
    // Weak, because pages of the same mood differ in the replica's name.
    let etag = format!("W/\"{}-{}\"", entry.etag().trim_matches('"'), build_info::VERSION);
    let reply = conditional(request, etag, HTML, || Body::Bytes(page::render(&entry, &app.host, cache)));
    reply.with_headers(page::HEADERS).with_cache(cache)
}

pub fn mood(app: &App, request: &Request, batch: &mut BatchRead) -> Reply {
    let (entry, cache) = app.today(batch);
    let reply = conditional(request, entry.etag(), JSON, || Body::Entry(entry));
    reply.with_headers("Cache-Control: no-cache\r\nVary: Accept\r\n").with_cache(cache)
}

pub fn gif(app: &App, request: &Request, _: &mut BatchRead) -> Reply {
    const IMMUTABLE: &str = "Cache-Control: public, max-age=31536000, immutable\r\n";
    let Some((mood, is_still)) = gif_named(request.path) else {
        return Reply::error(404, "there is no GIF of this name");
    };
    let etag = format!("\"{}{}\"", mood.gif_name(), if is_still { "-still" } else { "" });
    let mut cache = None;
    let reply = conditional(request, etag, "image/gif", || {
        if is_still {
            return Body::Shared(app.service.still_gif(mood));
        }
        let (bytes, from) = app.service.gif(mood);
        app.metrics.cache_request(from.label());
        cache = Some(from);
        Body::Shared(bytes)
    });
    Reply { cache, headers: IMMUTABLE, ..reply }
}

pub fn refresh(app: &App, request: &Request, batch: &mut BatchRead) -> Reply {
    batch.forget();
    let is_browser = prefers_html(request.head.accept);
    match app.service.refresh() {
        Ok(_) if is_browser => {
            let reply = Reply::new(303, HTML, Body::Empty).with_cache(Cache::Miss);
            reply.with_headers("Location: /\r\nCache-Control: no-store\r\n")
        }
        Ok(entry) => Reply::new(200, JSON, Body::Entry(entry)).with_headers(NO_STORE).with_cache(Cache::Miss),
        Err(error) => {
            let reply = match is_browser {
                true => Reply::new(503, HTML, Body::Text(page::REFRESH_FAILED)),
                false => Reply::error(503, &format!("the mood cannot be replaced now: {}", error.reason)),
            };
            reply.with_headers("Retry-After: 2\r\nCache-Control: no-store\r\n").with_cache(Cache::Bypass)
        }
    }
}

pub fn health(app: &App, _: &Request, _: &mut BatchRead) -> Reply {
    let (status, word, redis) = match app.service.store_state() {
        Ok(state) => (200, "ok", state.to_owned()),
        Err(error) => (503, "unavailable", error.reason),
    };
    Reply::json(status, &[("status", word), ("redis", &redis)]).with_headers(NO_STORE)
}

pub fn livez(_: &App, _: &Request, _: &mut BatchRead) -> Reply {
    Reply::ok()
}

pub fn readyz(app: &App, _: &Request, _: &mut BatchRead) -> Reply {
    if app.draining.load(SeqCst) {
        return Reply::new(503, JSON, Body::Text(r#"{"status":"draining"}"#)).with_headers(NO_STORE);
    }
    Reply::ok()
}

pub fn metrics(app: &App, _: &Request, _: &mut BatchRead) -> Reply {
    app.metrics.faults_active.set(app.faults.as_ref().is_some_and(Faults::is_active).into());
    let text = app.metrics.render(app.service.pool_connections());
    Reply::new(200, metrics::CONTENT_TYPE, Body::Bytes(text)).with_headers(NO_STORE)
}

pub fn version(_: &App, _: &Request, _: &mut BatchRead) -> Reply {
    use build_info::{COMMIT, NAME, TARGET, VERSION};
    let reply = Reply::json(200, &[("name", NAME), ("version", VERSION), ("commit", COMMIT), ("target", TARGET)]);
    // A replica of another build may send the next response.
    reply.with_headers("Cache-Control: no-cache\r\n")
}

/// The mood of a GIF's path, and whether it is the still GIF. The path is not decoded: every GIF has exactly one URL.
fn gif_named(path: &str) -> Option<(&'static Mood, bool)> {
    let name = path.strip_prefix("/gif/")?.strip_suffix(".gif")?;
    let (name, is_still) = name.strip_suffix("-still").map_or((name, false), |name| (name, true));
    let (slug, version) = name.split_once('-')?;
    let mood = catalogue::by_slug(slug)?;
    (format!("{:08x}", mood.gif_version) == version).then_some((mood, is_still))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::damaged_text;
    use proptest::prelude::*;

    #[test]
    fn a_gif_is_found_by_its_exact_name_alone() {
        let mood = &catalogue::CATALOGUE[0];
        let name = mood.gif_name();
        assert_eq!(gif_named(&format!("/gif/{name}.gif")), Some((mood, false)));
        assert_eq!(gif_named(&format!("/gif/{name}-still.gif")), Some((mood, true)));
        for wrong in ["/gif/", "/gif/../sunny.gif", "/gif/%73unny.gif", "/gif/sunny.gif", "/gif/sunny-00000000.gif"] {
            assert_eq!(gif_named(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_other_path_is_a_gif(random in ".*", near in damaged_text("targets")) {
            prop_assert!(gif_named(&random).is_none() && gif_named(&near).is_none());
        }
    }
}
