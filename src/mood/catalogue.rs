//! The catalogue of moods, and the mood of a date. No I/O.

use chrono::{Datelike, NaiveDate};

/// Everything that a page, a JSON response and a GIF are made of.
#[derive(Debug, PartialEq, Eq)]
pub struct Mood {
    /// Identifies the mood in URLs and in the store: lower-case ASCII letters.
    pub slug: &'static str,
    pub name: &'static str,
    pub emoji: &'static str,
    pub message: &'static str,
    pub palette: Palette,
    pub motif: Motif,
    /// The FNV-1a hash of this mood's GIF. In the GIF's URL, it makes the response immutable. It also detects invalid bytes from
    /// the store. A test compares it with the GIF.
    pub gif_version: u32,
}

/// Colours as 0xRRGGBB. `ink` on `paper`, and the reverse in dark mode, meet WCAG AA.
#[derive(Debug, PartialEq, Eq)]
pub struct Palette {
    pub paper: u32,
    pub ink: u32,
    pub strong: u32,
    pub soft: u32,
    pub spark: u32,
}

/// The moving pattern of a mood's GIF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motif {
    Rays,
    Waves,
    Bubbles,
    Ripples,
    Orbit,
    Pulse,
    Stars,
    Zigzag,
    Petals,
    Confetti,
    Bars,
    Rain,
}

impl Mood {
    /// The GIF's name in `/gif/<name>.gif`: slug and content version.
    pub fn gif_name(&self) -> String {
        format!("{}-{:08x}", self.slug, self.gif_version)
    }
}

/// The mood of `date` without a refresh.
///
/// The catalogue is dealt like a pack of cards and shuffled again for each round. Every mood occurs once per round, and no mood
/// occurs on two days in a row.
pub fn of_date(date: NaiveDate) -> &'static Mood {
    let day = date.num_days_from_ce();
    let size = CATALOGUE.len() as i32;
    let (round, turn) = (day.div_euclid(size), day.rem_euclid(size) as usize);
    &CATALOGUE[deal(round)[turn]]
}

/// The order of the catalogue in one round. Its first card differs from the last one of the previous round.
fn deal(round: i32) -> [usize; CATALOGUE.len()] {
    let mut order = shuffled(round);
    // Only the first two cards are swapped, so the last card of a round is that of its plain shuffle.
    if order[0] == shuffled(round - 1)[order.len() - 1] {
        order.swap(0, 1);
    }
    order
}

fn shuffled(round: i32) -> [usize; CATALOGUE.len()] {
    let mut order = std::array::from_fn(|i| i);
    fastrand::Rng::with_seed(round as u64).shuffle(&mut order);
    order
}

/// A random mood other than `current`.
pub fn other_than(current: &Mood, random: &mut fastrand::Rng) -> &'static Mood {
    let pick = random.usize(..CATALOGUE.len() - 1);
    CATALOGUE.iter().filter(|mood| *mood != current).nth(pick).expect("the catalogue holds every mood once")
}

/// The mood with this slug.
pub fn by_slug(slug: &str) -> Option<&'static Mood> {
    CATALOGUE.iter().find(|mood| mood.slug == slug)
}

/// A hash against accidents, not against an adversary. Source: the parameters of draft-eastlake-fnv.
pub fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[rustfmt::skip]
const fn mood(
    slug: &'static str, name: &'static str, emoji: &'static str, message: &'static str,
    [paper, ink, strong, soft, spark]: [u32; 5], motif: Motif, gif_version: u32,
) -> Mood {
    let palette = Palette { paper, ink, strong, soft, spark };
    Mood { slug, name, emoji, message, palette, motif, gif_version }
}

/// All moods. After a change of a palette or motif, a test prints the new `gif_version`.
#[rustfmt::skip]
pub static CATALOGUE: [Mood; 28] = [
    mood("sunny", "Sunny", "☀️", "The light found you before the alarm did.", [0xfdf8ea, 0x332f0f, 0xecb613, 0xe2f391, 0x3661e2], Motif::Rays, 0x66a8065c),
    mood("breezy", "Breezy", "🍃", "Nothing sticks today, and that is a gift.", [0xeafdf4, 0x0f3326, 0x13ec80, 0x91f3eb, 0xe2368c], Motif::Waves, 0xb2f4ad60),
    mood("playful", "Playful", "🎈", "Serious things can wait until you have laughed.", [0xfdeaf4, 0x330f1c, 0xec1380, 0xf39199, 0x36e28c], Motif::Bubbles, 0x65118664),
    mood("mellow", "Mellow", "🫖", "Slow is smooth, and smooth is warm.", [0xfdf3ea, 0x33250f, 0xec7813, 0xf3e791, 0x3692e2], Motif::Ripples, 0xc1c4832e),
    mood("curious", "Curious", "🔭", "Ask the question everyone else walked past.", [0xeaf5fd, 0x0f1f33, 0x1392ec, 0x91a1f3, 0xe27e36], Motif::Orbit, 0xb0302739),
    mood("bold", "Bold", "🦁", "Say it first, say it kindly, say it out loud.", [0xfdecea, 0x33190f, 0xec3013, 0xf3c791, 0x36cbe2], Motif::Pulse, 0xaedf0a57),
    mood("dreamy", "Dreamy", "🌙", "Half of today happens behind your eyes.", [0xefeafd, 0x1d0f33, 0x4913ec, 0xd291f3, 0xb7e236], Motif::Stars, 0x98f7d7f9),
    mood("cozy", "Cozy", "🧦", "A small room, a warm cup, nowhere to be.", [0xfdf0ea, 0x331f0f, 0xec5413, 0xf3d791, 0x36afe2], Motif::Ripples, 0xfc129733),
    mood("electric", "Electric", "⚡", "Every idea arrives with a spark attached.", [0xfdfdea, 0x2f330f, 0xecec13, 0xcaf391, 0x3636e2], Motif::Zigzag, 0xa0a3230a),
    mood("serene", "Serene", "🪷", "The water is still because you stopped stirring.", [0xeafcfd, 0x0f2b33, 0x13daec, 0x91c2f3, 0xe24536], Motif::Waves, 0xf434547e),
    mood("grateful", "Grateful", "🌻", "Count three good things, then start again.", [0xfdf7ea, 0x332c0f, 0xeca413, 0xebf391, 0x3670e2], Motif::Petals, 0x0c112aea),
    mood("mischievous", "Mischievous", "🦊", "Rules were read, understood, and smiled at.", [0xfdf1ea, 0x33210f, 0xec6313, 0xf3de91, 0x36a3e2], Motif::Confetti, 0xbaade398),
    mood("hopeful", "Hopeful", "🌱", "Something small is already growing.", [0xeafdea, 0x0f3314, 0x13ec13, 0x91f3ba, 0xe236e2], Motif::Petals, 0x7423842f),
    mood("focused", "Focused", "🎯", "One thing, all the way to its end.", [0xeaf0fd, 0x0f1633, 0x135bec, 0x9991f3, 0xe2a936], Motif::Pulse, 0x1e351be7),
    mood("nostalgic", "Nostalgic", "📼", "An old song knows exactly where you are.", [0xfaeafd, 0x320f33, 0xc813ec, 0xf391da, 0x53e236], Motif::Bars, 0xf0eb8208),
    mood("radiant", "Radiant", "🌟", "You are the reason the room is brighter.", [0xfdfaea, 0x33320f, 0xecc813, 0xdaf391, 0x3653e2], Motif::Rays, 0x218e51f8),
    mood("drowsy", "Drowsy", "🦥", "The best plan is the one with a pillow.", [0xeaebfd, 0x110f33, 0x1325ec, 0xb191f3, 0xe2d436], Motif::Stars, 0x3ac2e5a9),
    mood("adventurous", "Adventurous", "🧭", "Take the other street and see.", [0xeafdf7, 0x0f332c, 0x13eca4, 0x91ebf3, 0xe23670], Motif::Orbit, 0x9ccf23e4),
    mood("zen", "Zen", "🪨", "Rake the sand, keep the stone.", [0xf4fdea, 0x1c330f, 0x80ec13, 0x99f391, 0x8c36e2], Motif::Ripples, 0xe131c875),
    mood("giddy", "Giddy", "🎉", "There is confetti in your pockets.", [0xfdeaf8, 0x330f25, 0xec13b6, 0xf391b1, 0x36e261], Motif::Confetti, 0xc84257f6),
    mood("thoughtful", "Thoughtful", "🕯️", "Let the thought finish its sentence.", [0xf4eafd, 0x260f33, 0x7f13ec, 0xeb91f3, 0x8ce236], Motif::Ripples, 0xf0cb2394),
    mood("fierce", "Fierce", "🔥", "Gentle with people, merciless with problems.", [0xfdeaea, 0x33140f, 0xec1313, 0xf3ba91, 0x36e2e2], Motif::Zigzag, 0x3f92404f),
    mood("tender", "Tender", "🧸", "Handle with care, starting with yourself.", [0xfdeaef, 0x330f13, 0xec1349, 0xf3a191, 0x36e2b7], Motif::Bubbles, 0xde881d6f),
    mood("stormy", "Stormy", "⛈️", "Let it rain; the roof was built for this.", [0xeaf2fd, 0x0f1933, 0x136dec, 0x9191f3, 0xe29b36], Motif::Rain, 0x6287cb17),
    mood("sparkling", "Sparkling", "🥂", "Small bubbles, going up, for no reason.", [0xeafafd, 0x0f2833, 0x13c8ec, 0x91baf3, 0xe25336], Motif::Bubbles, 0x1b31d153),
    mood("patient", "Patient", "🐢", "Late is a kind of arriving.", [0xeafdef, 0x0f331d, 0x13ec49, 0x91f3d2, 0xe236b7], Motif::Bars, 0x9efd06d0),
    mood("jazzy", "Jazzy", "🎷", "The wrong note was the interesting one.", [0xfdeafd, 0x330f2f, 0xec13ec, 0xf391ca, 0x36e236], Motif::Bars, 0xa0037178),
    mood("cosmic", "Cosmic", "🪐", "You are made of old stars with new plans.", [0xf1eafd, 0x210f33, 0x6313ec, 0xde91f3, 0xa3e236], Motif::Stars, 0x3096223f),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn any_date() -> impl Strategy<Value = NaiveDate> {
        (NaiveDate::from_ymd_opt(1970, 1, 1).unwrap().num_days_from_ce()
            ..=NaiveDate::from_ymd_opt(2200, 1, 1).unwrap().num_days_from_ce())
            .prop_map(|days| NaiveDate::from_num_days_from_ce_opt(days).unwrap())
    }

    #[test]
    fn every_date_of_a_century_has_a_mood_and_no_two_days_in_a_row_the_same() {
        let mut date = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap();
        let end = NaiveDate::from_ymd_opt(2100, 1, 1).unwrap();
        while date < end {
            let next = date.succ_opt().unwrap();
            assert_ne!(of_date(date).slug, of_date(next).slug, "{date}");
            date = next;
        }
    }

    #[test]
    fn the_day_s_mood_never_changes_between_builds() {
        let date = NaiveDate::from_ymd_opt(2026, 11, 24).unwrap();
        assert_eq!(of_date(date).slug, "nostalgic");
    }

    #[test]
    fn slugs_and_names_are_unique_and_fit_a_url() {
        let slugs: HashSet<_> = CATALOGUE.iter().map(|m| m.slug).collect();
        let names: HashSet<_> = CATALOGUE.iter().map(|m| m.name).collect();
        assert_eq!((slugs.len(), names.len()), (CATALOGUE.len(), CATALOGUE.len()));
        assert!(slugs.iter().all(|s| s.bytes().all(|b| b.is_ascii_lowercase())));
    }

    #[test]
    fn ink_on_paper_meets_wcag_aa() {
        fn luminance(rgb: u32) -> f64 {
            let channel = |shift: u32| {
                let value = f64::from((rgb >> shift) & 0xff) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * channel(16) + 0.7152 * channel(8) + 0.0722 * channel(0)
        }
        for mood in &CATALOGUE {
            let (paper, ink) = (luminance(mood.palette.paper), luminance(mood.palette.ink));
            let contrast = (paper + 0.05) / (ink + 0.05);
            assert!(contrast >= 4.5, "{}: {contrast:.1}", mood.slug);
        }
    }

    proptest! {
        #[test]
        fn a_round_deals_each_mood_once(round in -1000..100_000i32) {
            let dealt: HashSet<_> = deal(round).into_iter().collect();
            prop_assert_eq!(dealt.len(), CATALOGUE.len());
        }

        #[test]
        fn a_refresh_never_gives_the_same_mood(date in any_date(), seed: u64) {
            let current = of_date(date);
            prop_assert_ne!(other_than(current, &mut fastrand::Rng::with_seed(seed)), current);
        }
    }
}
