//! Mood → HTML: one document that needs only its GIF. No I/O.

use crate::mood::catalogue::Motif;
use crate::mood::entry::Entry;
use crate::mood::service::Cache;

const TEMPLATE: &str = include_str!("page.html");

/// The page has no script, so none may run. Its style is inline, because the palette depends on the day; no text on the page
/// comes from a client.
pub const HEADERS: &str = concat!(
    "Content-Security-Policy: default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; ",
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'\r\n",
    "Referrer-Policy: no-referrer\r\nCache-Control: no-cache\r\nVary: Accept\r\n",
);

/// For a browser whose refresh failed because the store is unavailable.
pub const REFRESH_FAILED: &str = concat!(
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
    "<title>Not now · Mood of the Day</title><h1>The mood stays as it is for now</h1>",
    "<p>The store behind it cannot be reached. Please try again in a few seconds.</p><p><a href=/>Back to the mood</a></p></html>",
);

/// The page of a mood as one replica serves it.
pub fn render(entry: &Entry, host: &str, cache: Cache) -> Vec<u8> {
    let mood = entry.mood;
    let palette = &mood.palette;
    let mut page = String::with_capacity(TEMPLATE.len() + 1024);
    // Every `{word}` is replaced by a value. Other braces are those of the style, and are followed by a space.
    let mut rest = TEMPLATE;
    while let Some(open) = rest.find('{') {
        page.push_str(&rest[..open]);
        rest = &rest[open..];
        let Some(close) = rest.find(['}', ' ', '\n']).filter(|close| rest.as_bytes()[*close] == b'}') else {
            page.push('{');
            rest = &rest[1..];
            continue;
        };
        match &rest[1..close] {
            "name" => page.push_str(mood.name),
            "emoji" => page.push_str(mood.emoji),
            "message" => page.push_str(mood.message),
            "gif" => page.push_str(&mood.gif_name()),
            "alt" => page.push_str(&alternative_text(mood.name, mood.motif)),
            "date" => page.push_str(&entry.date.to_string()),
            "long_date" => page.push_str(&entry.date.format("%A, %-d %B %Y").to_string()),
            "paper" => push_colour(&mut page, palette.paper),
            "ink" => push_colour(&mut page, palette.ink),
            "strong" => push_colour(&mut page, palette.strong),
            "soft" => push_colour(&mut page, palette.soft),
            "host" => push_escaped(&mut page, host),
            "origin" => page.push_str(match cache {
                Cache::Hit => "from the cache (hit)",
                Cache::Miss => "freshly made (miss)",
                Cache::Bypass => "without the cache (bypass)",
            }),
            "refreshes" => page.push_str(&match entry.refreshed {
                0 => "Not refreshed today".to_owned(),
                1 => "Refreshed once today".to_owned(),
                times => format!("Refreshed {times} times today"),
            }),
            other => unreachable!("page.html has no value {other}"),
        }
        rest = &rest[close + 1..];
    }
    page.push_str(rest);
    page.into_bytes()
}

/// The text in place of the GIF.
fn alternative_text(name: &str, motif: Motif) -> String {
    let pattern = match motif {
        Motif::Rays => "turning sun rays",
        Motif::Waves => "rolling waves",
        Motif::Bubbles => "rising bubbles",
        Motif::Ripples => "spreading ripples",
        Motif::Orbit => "circling planets",
        Motif::Pulse => "a beating circle",
        Motif::Stars => "twinkling stars",
        Motif::Zigzag => "running zigzags",
        Motif::Petals => "turning petals",
        Motif::Confetti => "falling confetti",
        Motif::Bars => "dancing bars",
        Motif::Rain => "falling rain",
    };
    format!("A {} face in front of {pattern}", name.to_ascii_lowercase())
}

fn push_colour(page: &mut String, rgb: u32) {
    page.push_str(&format!("{rgb:06x}"));
}

fn push_escaped(page: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            c => page.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;

    #[test]
    fn every_value_is_filled_in_and_nothing_is_fetched_from_elsewhere() {
        let mut date = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
        for _ in 0..60 {
            let page = String::from_utf8(render(&Entry::of_day(date), "a<b", Cache::Hit)).unwrap();
            assert!(page.contains("<code>a&lt;b</code>, from the cache (hit)"));
            let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("http") && !page.contains("<script"));
            assert!(!page.contains("#{") && page.ends_with("</html>\n"));
            date = date.succ_opt().unwrap();
        }
    }
}
