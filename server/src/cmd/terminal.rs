//! The only way out of the command: every line and every document that it writes goes through here, so that nothing
//! that came from outside (a record, a key, a name, a reason, an argument, a file's name, a word of the server) is
//! obeyed by a terminal or begins a line of its own.
//!
//! Who writes hands over lines, never a text with line breaks in it: what breaks a line within one is shown like any
//! other control character. A test of the repository's rules (`tidy`) holds that nobody else writes to standard output
//! or standard error.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, IsTerminal as _, Stdout, Write as _},
};

/// Lines as they are told to a person. Each becomes one line, whatever is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines(Vec<String>);

impl From<Vec<String>> for Lines {
    fn from(lines: Vec<String>) -> Self {
        Self(lines)
    }
}

impl From<String> for Lines {
    fn from(line: String) -> Self {
        Self(vec![line])
    }
}

impl From<&str> for Lines {
    fn from(line: &str) -> Self {
        Self(vec![line.to_owned()])
    }
}

impl From<&String> for Lines {
    fn from(line: &String) -> Self {
        Self(vec![line.clone()])
    }
}

/// Whether a terminal may obey it, or show what follows it elsewhere: C0, DEL and C1; what breaks a line; what turns
/// the reading direction.
fn is_obeyed(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether all of it is printable ASCII, which most texts are.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// A text as one line that a terminal only shows: what it would obey stands there as `\n`, `\x1b` or `\u{9b}`.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |out, char| match char {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\x7f' => _ = write!(out, "\\x{:02x}", u32::from(char)),
        _ => _ = write!(out, "\\u{{{:x}}}", u32::from(char)),
    })
}

/// A JSON document with the same meaning that a terminal only shows. Line breaks between its words stay.
pub(crate) fn json(document: &str) -> Cow<'_, str> {
    escaped(document, |out, char| match char {
        // Within a string they are escaped already.
        '\n' | '\r' | '\t' => out.push(char),
        _ => _ = write!(out, "\\u{:04x}", u32::from(char)),
    })
}

fn escaped(text: &str, put: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if is_plain(text) || !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_obeyed(char) { put(&mut out, char) } else { out.push(char) }
    }
    Cow::Owned(out)
}

/// Writes lines to standard output.
pub(crate) fn print(lines: impl Into<Lines>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for text in lines.into().0 {
        writeln!(stdout, "{}", line(&text))?;
    }
    stdout.flush()
}

/// Writes JSON documents to standard output, each with a line break behind it.
pub(crate) fn print_json(documents: impl IntoIterator<Item = String>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for document in documents {
        writeln!(stdout, "{}", json(&document))?;
    }
    stdout.flush()
}

/// Standard output for whoever looks after it: records, which [`crate::cmd::read::printer`] writes, and whether
/// somebody reads.
pub(crate) fn stdout() -> Stdout {
    io::stdout()
}

/// Writes a line to standard error. When nobody reads it any more there is nobody to tell, and nothing to stop for.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", line(text));
}

/// The same behind a word that says what it is, in this colour for people who want it.
pub(crate) fn say_marked(mark: &str, colour: u8, text: &str) {
    let mark = if colours() { format!("\x1b[1;{colour}m{mark}:\x1b[0m") } else { format!("{mark}:") };
    let _ = writeln!(io::stderr().lock(), "{mark} {}", line(text));
}

/// Asks on standard error; the cursor stays behind the last line.
pub(crate) fn ask(lines: &[String]) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    for (index, text) in lines.iter().enumerate() {
        write!(stderr, "{}{}", if index == 0 { "" } else { "\n" }, line(text))?;
    }
    stderr.flush()
}

/// Colour only for people who want it.
fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
