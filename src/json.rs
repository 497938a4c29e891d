//! JSON texts. Pure.

use std::io::{self, Write};

/// Writes a JSON string, quotes included. Whatever the text holds, it stays inside them and on its line.
///
/// # Errors
/// `out` could not be written to.
pub fn write_string(out: &mut (impl Write + ?Sized), text: &str) -> io::Result<()> {
    serde_json::to_writer(out, text).map_err(io::Error::from)
}

/// A JSON string, quotes included.
pub fn string(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    // Writing into a Vec cannot fail, and what was written is UTF-8.
    let _ = write_string(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

/// A flat object, its members in the order given.
pub fn object(members: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (position, (name, value)) in members.iter().enumerate() {
        out.extend_from_slice(if position == 0 { b"{\"" } else { b",\"" });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        // Writing into a Vec cannot fail.
        let _ = write_string(&mut out, value);
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_object_keeps_its_order_and_escapes_its_values() {
        assert_eq!(super::object(&[("b", "x\"\n"), ("a", "")]), br#"{"b":"x\"\n","a":""}"#);
    }
}
