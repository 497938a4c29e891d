//! Draws a mood as an animated GIF. It uses only integers, so every replica draws the same bytes. No I/O.
//!
//! A picture is a pattern (`Motif`) with a face on it. The colour of each pixel is a function of its place and the frame.
//! All motion has the period of one loop, so the animation has no seam.

use crate::mood::catalogue::{Mood, Motif, Palette};
use gif::{DisposalMethod, Encoder, Frame, Repeat};
use std::borrow::Cow;

/// Width and height in pixels. The page scales it up; at this size every mood stays under `MAX_BYTES`.
const SIDE: u16 = 160;
const FRAMES: i32 = 20;
/// Of one frame, in hundredths of a second.
const DELAY: u16 = 8;
/// The socket's send buffer (`http::server`) holds a response of this size, so a slow reader does not delay a worker.
#[cfg(test)]
const MAX_BYTES: usize = 96 * 1024;

/// A full turn, in the unit of every angle and phase here.
const TURN: i32 = 256;

/// The colours as indices into the GIF's palette; the last three are mixtures.
const PAPER: u8 = 0;
const INK: u8 = 1;
const STRONG: u8 = 2;
const SOFT: u8 = 3;
const SPARK: u8 = 4;
const HAZE: u8 = 5;
const GLOW: u8 = 6;
const MIST: u8 = 7;

/// The whole animation, as an endless loop.
pub fn animated(mood: &Mood) -> Vec<u8> {
    encode(mood, 0..FRAMES)
}

/// Only the first frame, for readers who prefer reduced motion.
pub fn still(mood: &Mood) -> Vec<u8> {
    encode(mood, 0..1)
}

fn encode(mood: &Mood, frames: std::ops::Range<i32>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 * 1024);
    // Writing into a Vec cannot fail, and every frame has the size and the palette the encoder was made with.
    let mut encoder = Encoder::new(&mut bytes, SIDE, SIDE, &colours(&mood.palette)).expect("the palette has 8 colours");
    if frames.len() > 1 {
        encoder.set_repeat(Repeat::Infinite).expect("a Vec takes every byte");
    }
    for index in frames {
        let frame = Frame {
            width: SIDE,
            height: SIDE,
            delay: DELAY,
            dispose: DisposalMethod::Keep,
            buffer: Cow::Owned(draw(mood, index)),
            ..Frame::default()
        };
        encoder.write_frame(&frame).expect("a Vec takes every byte");
    }
    drop(encoder);
    bytes
}

/// Eight colours, three bytes each, in the order of the constants above.
fn colours(palette: &Palette) -> Vec<u8> {
    let Palette { paper, ink, strong, soft, spark } = *palette;
    [paper, ink, strong, soft, spark, mix(paper, soft), mix(soft, strong), mix(paper, mix(paper, soft))]
        .iter()
        .flat_map(|rgb| [(rgb >> 16) as u8, (rgb >> 8) as u8, *rgb as u8])
        .collect()
}

/// The colour half-way between two.
fn mix(a: u32, b: u32) -> u32 {
    ((a & 0xfe_fe_fe) >> 1) + ((b & 0xfe_fe_fe) >> 1)
}

fn draw(mood: &Mood, index: i32) -> Vec<u8> {
    let half = i32::from(SIDE) / 2;
    let phase = index * TURN / FRAMES;
    let seed = mood.slug.bytes().fold(7, |seed, byte| seed * 31 % 65_521 + i32::from(byte));
    let face = Face::of(mood.motif, phase, seed);
    let mut pixels = Vec::with_capacity(usize::from(SIDE) * usize::from(SIDE));
    for y in -half..half {
        for x in -half..half {
            let at = Point { x, y };
            pixels.push(face.colour(at).unwrap_or_else(|| pattern(mood.motif, at, phase, seed)));
        }
    }
    pixels
}

/// A pixel's place, from the middle of the picture; y grows downwards.
#[derive(Clone, Copy)]
struct Point {
    x: i32,
    y: i32,
}

impl Point {
    fn from(self, x: i32, y: i32) -> Point {
        Point { x: self.x - x, y: self.y - y }
    }

    fn distance_squared(self) -> i32 {
        self.x * self.x + self.y * self.y
    }

    fn distance(self) -> i32 {
        self.distance_squared().isqrt()
    }

    fn within(self, radius: i32) -> bool {
        self.distance_squared() < radius * radius
    }

    /// Clockwise from the right, 0..TURN. The diamond approximation: exact at each eighth, near enough between.
    fn angle(self) -> i32 {
        let Point { x, y } = self;
        let sum = (x.abs() + y.abs()).max(1);
        let quarter = TURN / 4;
        match (x >= 0, y >= 0) {
            (true, true) => quarter * y / sum,
            (false, true) => 2 * quarter - quarter * y / sum,
            (false, false) => 2 * quarter - quarter * y / sum,
            (true, false) => 4 * quarter + quarter * y / sum,
        }
    }
}

/// 1024 × the sine of an angle (Bhaskara's approximation, within 2 parts in 1,000).
fn sine(angle: i32) -> i32 {
    let half = TURN / 2;
    let angle = angle.rem_euclid(TURN);
    let x = angle % half;
    let arch = x * (half - x);
    let value = 1024 * 16 * arch / (5 * half * half - 4 * arch);
    if angle < half { value } else { -value }
}

/// `amplitude` × the sine of an angle.
fn swing(amplitude: i32, angle: i32) -> i32 {
    amplitude * sine(angle) / 1024
}

/// The `n`-th scattered number of a seed, 0..`below`.
fn scatter(seed: i32, n: i32, below: i32) -> i32 {
    let mixed = (seed as u32 ^ (n as u32).wrapping_mul(0x9e37_79b1)).wrapping_mul(0x85eb_ca6b);
    ((mixed ^ (mixed >> 15)).wrapping_mul(0xc2b2_ae35) >> 8) as i32 % below
}

/// The two eyes and the mouth, nodding once a loop and blinking near its end.
struct Face {
    nod: i32,
    eyes_open: bool,
    /// How far the corners of the mouth are above (or, negative, below) its middle, in pixels.
    smile: i32,
}

impl Face {
    const RADIUS: i32 = 34;

    fn of(motif: Motif, phase: i32, seed: i32) -> Face {
        let smile = match motif {
            Motif::Rain => -4,
            Motif::Pulse | Motif::Zigzag => 2,
            Motif::Ripples | Motif::Waves | Motif::Stars => 5,
            Motif::Rays | Motif::Bubbles | Motif::Orbit | Motif::Petals | Motif::Confetti | Motif::Bars => 9,
        };
        Face { nod: swing(3, phase + scatter(seed, 0, TURN)), eyes_open: !(205..232).contains(&phase), smile }
    }

    fn colour(&self, at: Point) -> Option<u8> {
        let at = at.from(0, self.nod);
        let distance = at.distance();
        if distance > Self::RADIUS {
            return None;
        }
        let eye = Point { x: at.x.abs() - 12, y: at.y + 8 };
        let in_eye = if self.eyes_open { eye.within(5) } else { eye.x.abs() < 5 && eye.y.abs() < 2 };
        let mouth = self.smile - self.smile * at.x * at.x / 196;
        let in_mouth = at.x.abs() < 15 && (at.y - 10 - mouth).abs() < 3;
        let cheek = Point { x: at.x.abs() - 22, y: at.y - 5 }.within(5);
        Some(match () {
            () if in_eye || in_mouth || distance > Self::RADIUS - 3 => INK,
            () if cheek => SPARK,
            () => PAPER,
        })
    }
}

/// The colour of the background at a place and a phase (0..TURN) of the loop.
fn pattern(motif: Motif, at: Point, phase: i32, seed: i32) -> u8 {
    match motif {
        Motif::Rays => rays(at, phase, seed),
        Motif::Waves => waves(at, phase, seed),
        Motif::Bubbles => bubbles(at, phase, seed),
        Motif::Ripples => ripples(at, phase, seed),
        Motif::Orbit => orbit(at, phase, seed),
        Motif::Pulse => pulse(at, phase),
        Motif::Stars => stars(at, phase, seed),
        Motif::Zigzag => zigzag(at, phase, seed),
        Motif::Petals => petals(at, phase, seed),
        Motif::Confetti => confetti(at, phase, seed),
        Motif::Bars => bars(at, phase, seed),
        Motif::Rain => rain(at, phase, seed),
    }
}

fn rays(at: Point, phase: i32, seed: i32) -> u8 {
    let count = 8 + 2 * scatter(seed, 1, 4);
    let beam = (at.angle() * count + phase).rem_euclid(TURN);
    match at.distance() {
        ..46 => STRONG,
        46..50 => SPARK,
        _ if beam < TURN / 2 => SOFT,
        far if far < 64 + swing(6, phase) => HAZE,
        _ => MIST,
    }
}

fn waves(at: Point, phase: i32, seed: i32) -> u8 {
    const LAYERS: [(i32, u8); 4] = [(58, STRONG), (32, GLOW), (4, SOFT), (-26, HAZE)];
    for (layer, (level, colour)) in (1..).zip(LAYERS) {
        let direction = if layer % 2 == 0 { -1 } else { 1 };
        let crest = level + swing(9, at.x * (layer + 1) + direction * phase + scatter(seed, layer, TURN));
        if at.y > crest {
            return if at.y < crest + 3 { PAPER } else { colour };
        }
    }
    MIST
}

fn bubbles(at: Point, phase: i32, seed: i32) -> u8 {
    for n in 0..16 {
        let radius = 5 + scatter(seed, n, 11);
        let rise = phase * (1 + n % 2) + scatter(seed, n + 50, TURN);
        let x = scatter(seed, n + 100, 160) - 80 + swing(5, rise * 2);
        let y = 100 - rise.rem_euclid(TURN) * 200 / TURN;
        let bubble = at.from(x, y);
        if bubble.within(radius) {
            let shine = bubble.from(-radius / 3, -radius / 3).within(radius / 3);
            return if shine { PAPER } else { [STRONG, SOFT, GLOW, SPARK][n as usize % 4] };
        }
    }
    MIST
}

fn ripples(at: Point, phase: i32, seed: i32) -> u8 {
    let squash = Point { x: at.x, y: at.y * (9 + scatter(seed, 1, 4)) / 9 };
    match (squash.distance() * 6 - phase).rem_euclid(TURN) {
        0..40 => STRONG,
        40..90 => SOFT,
        90..150 => HAZE,
        _ => MIST,
    }
}

fn orbit(at: Point, phase: i32, seed: i32) -> u8 {
    for n in 0..3 {
        let path = 46 + 14 * n;
        let angle = phase * if n == 1 { -1 } else { 1 } + scatter(seed, n, TURN);
        let planet = at.from(swing(path, angle + TURN / 4), swing(path, angle));
        if planet.within(9 - n) {
            return [SPARK, STRONG, GLOW][n as usize];
        }
        if (at.distance() - path).abs() < 1 {
            return SOFT;
        }
    }
    if scatter(seed, at.x * 173 + at.y, 90) == 0 { SOFT } else { MIST }
}

fn pulse(at: Point, phase: i32) -> u8 {
    let beat = swing(7, phase * 2).max(0) + swing(4, phase);
    match at.distance() - beat {
        ..44 => STRONG,
        44..56 => GLOW,
        56..68 => SOFT,
        68..72 => SPARK,
        72..84 => HAZE,
        _ => MIST,
    }
}

fn stars(at: Point, phase: i32, seed: i32) -> u8 {
    for n in 0..26 {
        let star = at.from(scatter(seed, n, 160) - 80, scatter(seed, n + 50, 160) - 80);
        let size = 3 + n % 3 + swing(3, phase + scatter(seed, n + 100, TURN));
        if star.x.abs() + star.y.abs() < size || (star.x * star.y == 0 && star.distance() < size + 2) {
            return [SPARK, SOFT, PAPER][n as usize % 3];
        }
    }
    match at.distance() {
        ..52 => STRONG,
        52..66 => GLOW,
        _ => INK,
    }
}

fn zigzag(at: Point, phase: i32, seed: i32) -> u8 {
    let width = 20 + scatter(seed, 1, 12);
    let tooth = (at.x.rem_euclid(2 * width) - width).abs();
    match (at.y * 4 + tooth * 4 - phase).rem_euclid(TURN) {
        0..48 => STRONG,
        48..64 => INK,
        64..128 => SOFT,
        128..144 => SPARK,
        _ => MIST,
    }
}

fn petals(at: Point, phase: i32, seed: i32) -> u8 {
    let count = 5 + scatter(seed, 1, 4);
    // A petal's turn is a whole part of the circle, so the flower looks the same when the loop starts again.
    let angle = at.angle() * count + phase;
    let edge = 60 + swing(14, angle);
    match at.distance() {
        ..40 => SPARK,
        far if far < edge - 12 => STRONG,
        far if far < edge => GLOW,
        far if far < edge + 6 => SOFT,
        _ => MIST,
    }
}

fn confetti(at: Point, phase: i32, seed: i32) -> u8 {
    for n in 0..34 {
        let fall = phase * (1 + n % 2) + scatter(seed, n, TURN);
        let x = scatter(seed, n + 50, 160) - 80 + swing(6, fall);
        let y = fall.rem_euclid(TURN) * 180 / TURN - 90;
        let flutter = 2 + swing(3, fall * 2).abs();
        let piece = at.from(x, y);
        if piece.x.abs() <= flutter && piece.y.abs() <= 6 - flutter {
            return [STRONG, SPARK, GLOW, INK][n as usize % 4];
        }
    }
    MIST
}

fn bars(at: Point, phase: i32, seed: i32) -> u8 {
    let bar = (at.x + 80) / 16;
    if (at.x + 80) % 16 < 3 {
        return MIST;
    }
    let speed = 1 + scatter(seed, bar, 2);
    let height = 60 + swing(42, phase * speed + scatter(seed, bar + 50, TURN));
    match 76 - at.y {
        up if !(0..height).contains(&up) => MIST,
        up if height - up < 5 => SPARK,
        up if up < 40 => STRONG,
        up if up < 76 => GLOW,
        _ => SOFT,
    }
}

fn rain(at: Point, phase: i32, seed: i32) -> u8 {
    let column = (at.x + at.y / 4 + 120).div_euclid(9);
    let fall = (at.y * 2 - phase * (1 + column % 2) + scatter(seed, column, TURN)).rem_euclid(TURN);
    let inside = (at.x + at.y / 4 + 120).rem_euclid(9) < 3;
    match () {
        () if inside && fall > 216 => STRONG,
        () if inside && fall > 180 => GLOW,
        () if at.y > 62 + swing(4, at.x * 6 + phase) => SOFT,
        () => MIST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mood::catalogue::{CATALOGUE, fnv1a};
    use std::collections::HashSet;

    #[test]
    fn each_url_carries_the_hash_of_its_bytes() {
        let wrong: Vec<_> = CATALOGUE
            .iter()
            .map(|mood| (mood, fnv1a(&animated(mood))))
            .filter(|(mood, hash)| mood.gif_version != *hash)
            .map(|(mood, hash)| format!("{}: gif_version should be {hash:#010x}", mood.slug))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn all_differ_from_each_other_and_fit_the_send_buffer() {
        let all: Vec<_> = CATALOGUE.iter().map(animated).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), CATALOGUE.len());
        let largest = all.iter().map(Vec::len).max().unwrap();
        assert!(largest <= MAX_BYTES, "the largest has {largest} bytes");
    }

    #[test]
    fn it_moves_and_its_end_joins_its_beginning() {
        for mood in &CATALOGUE {
            let frames: Vec<_> = (0..FRAMES).map(|index| draw(mood, index)).collect();
            let following = frames.iter().zip(frames.iter().cycle().skip(1));
            let changes: Vec<usize> =
                following.map(|(one, next)| one.iter().zip(next).filter(|(a, b)| a != b).count()).collect();
            let moving = changes.iter().filter(|pixels| **pixels > 0).count();
            assert!(moving >= 16, "{}: only {moving} of {FRAMES} frames move", mood.slug);
            let (seam, largest) = (changes[changes.len() - 1], changes[..changes.len() - 1].iter().max().unwrap());
            assert!(seam <= largest * 3 / 2, "{}: a seam of {seam} pixels, elsewhere {largest}", mood.slug);
        }
    }

    #[test]
    fn the_sine_is_near_the_real_one() {
        for angle in -300..600 {
            let real = (f64::from(angle) * std::f64::consts::TAU / f64::from(TURN)).sin() * 1024.0;
            assert!((f64::from(sine(angle)) - real).abs() < 4.0, "{angle}");
        }
    }
}
