//! The GIFs, decoded by giflib: another implementation than the one that wrote them.

mod support;

use mood::mood::catalogue::CATALOGUE;
use std::collections::HashSet;
use std::process::Command;
use support::{Mood, Redis};

/// What giflib's `giftext` says of a GIF.
fn decoded(bytes: &[u8], name: &str) -> String {
    let path = std::env::temp_dir().join(format!("mood-test-{}-{name}.gif", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let output = Command::new("giftext").arg(&path).output();
    let output = output.expect("giftext is installed (apt-get install giflib-tools)");
    std::fs::remove_file(&path).unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_mood_has_its_own_animated_gif_that_another_decoder_reads() {
    let mood = Mood::start();
    let mut seen = HashSet::new();
    let mut pictures = HashSet::new();
    // Each refresh draws another mood at random: 28 of them are met long before 2,000 refreshes.
    for _ in 0..2000 {
        let path = mood.request("POST", "/refresh", &[]).json()["gif"].as_str().unwrap().to_owned();
        if seen.insert(path.clone()) {
            let answer = mood.get(&path);
            assert_eq!((answer.status, answer.header("content-type")), (200, "image/gif"));
            assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
            let text = decoded(&answer.body, &path.replace('/', ""));
            assert_eq!(text.matches("Image #").count(), 20, "frames of {path}");
            assert!(text.contains("Screen Size - Width = 160, Height = 160."), "{text}");
            assert_eq!(mood.get(&path).body, answer.body, "{path} is not deterministic");
            let still = mood.get(&path.replace(".gif", "-still.gif"));
            assert_eq!(decoded(&still.body, "still").matches("Image #").count(), 1);
            assert!(pictures.insert(answer.body));
        }
        if seen.len() == 28 {
            return;
        }
    }
    panic!("only {} moods were met", seen.len());
}

#[test]
fn an_old_content_version_is_gone() {
    let mood = Mood::start();
    let path = mood.get("/mood").json()["gif"].as_str().unwrap().to_owned();
    let other = path.replace(&path[path.len() - 12..path.len() - 4], "01234567");
    assert_eq!(mood.get(&other).status, 404);
}

#[test]
fn each_gif_is_drawn_once_whoever_asks_for_all_of_them_in_turn() {
    // Without Redis, which would keep the animated ones.
    let mood = Mood::with(&[("REDIS_URL", &Redis::reserved().url())]);
    let round = |ending: &str, headers: fn(String) -> Vec<(&'static str, String)>| {
        let began = mood.cpu();
        for one in &CATALOGUE {
            let name = format!("{}{ending}", one.gif_name());
            let headers = headers(format!("\"{name}\""));
            let headers: Vec<_> = headers.iter().map(|(header, value)| (*header, value.as_str())).collect();
            let answer = mood.request("GET", &format!("/gif/{name}.gif"), &headers);
            assert_eq!(answer.status, if headers.is_empty() { 200 } else { 304 }, "{name}");
        }
        mood.cpu().saturating_sub(began)
    };
    let (before, all, known) = (mood.status("VmRSS"), |_| vec![], |etag| vec![("If-None-Match", etag)]);
    for ending in ["", "-still"] {
        let unread = round(ending, known);
        let first = round(ending, all);
        let (second, third) = (round(ending, all), round(ending, all));
        for (name, later) in [("304", unread), ("second", second), ("third", third)] {
            assert!(later < first / 2, "{name} round of '{ending}': {later:?}, the first {first:?}");
        }
    }
    let grown = mood.status("VmRSS").saturating_sub(before);
    assert!(grown < 4 * 1024, "all GIFs take {grown} KiB");
    mood.assert_small();
}
