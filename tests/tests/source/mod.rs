//! Reads the repository's own sources for the tests that hold its rules. In: the checkout. Out: files with their text,
//! and Rust text of which only the code is left. Line and column stay what they are in the file.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A text file of the repository.
pub(crate) struct Source {
    /// Its path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

impl Source {
    /// Whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Whether all of the file is test code: a `tests` folder or file, or what is named `…_tests.rs`.
    pub(crate) fn is_test(&self) -> bool {
        let stem = self.path.trim_end_matches(".rs");
        stem.ends_with("_tests") || stem.split('/').any(|part| part == "tests" || part == "benches")
    }
}

/// All text files of the repository, sorted by path. What is built, hidden or not UTF-8 is left out.
pub(crate) fn files() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate stands in the repository");
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).expect("a folder of the checkout can be listed");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().expect("an entry has a name").to_string_lossy();
        let built = matches!(name.as_ref(), "target" | "tillroll-data" | "__pycache__" | "Cargo.lock" | "corpus");
        if built || (name.starts_with('.') && name != ".ci") {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, found);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).expect("the walk began there").to_string_lossy().replace('\\', "/");
            found.push(Source { path, text });
        }
    }
}

/// Rust text with comments and the insides of literals blanked.
pub(crate) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = blank_until(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&char| if char == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` when none does.
fn blank_until(chars: &[char], at: usize) -> usize {
    let starts = |pattern: &str| pattern.chars().enumerate().all(|(step, char)| chars.get(at + step) == Some(&char));
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if starts("//") {
        return find(chars, at, |char, _| char == '\n');
    }
    if starts("/*") {
        return block_comment_end(chars, at);
    }
    if !in_word && (chars[at] == 'r' || starts("br")) {
        let quote = at + if chars[at] == 'b' { 2 } else { 1 };
        let hashes = chars[quote.min(chars.len())..].iter().take_while(|&&char| char == '#').count();
        if chars.get(quote + hashes) == Some(&'"') {
            let closes = |_, at: usize| {
                chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|&&char| char == '#').count() == hashes
            };
            return (find(chars, quote + hashes + 1, closes) + 1 + hashes).min(chars.len());
        }
    }
    match chars[at] {
        '"' => quoted_end(chars, at, '"'),
        '\'' if chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'') => quoted_end(chars, at, '\''),
        _ => at,
    }
}

fn find(chars: &[char], from: usize, is_end: impl Fn(char, usize) -> bool) -> usize {
    (from..chars.len()).find(|&at| is_end(chars[at], at)).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut at) = (0_usize, at);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_end(chars: &[char], at: usize, quote: char) -> usize {
    let mut at = at + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Cuts [`code`] into what is built for tests alone and the rest; each has the other blanked.
pub(crate) fn divide(code: &str) -> (String, String) {
    let mut tests = vec![false; code.len()];
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(") {
        let start = from + found;
        let condition = &code[start + "#[cfg(".len()..];
        from = start + "#[cfg(".len();
        if condition.starts_with("test)") || condition.starts_with("all(test,") {
            from = item_end(code, start);
            tests[start..from].fill(true);
        }
    }
    let keep = |of_tests: bool| {
        let chars = code.char_indices();
        chars.map(|(at, char)| if char == '\n' || tests[at] == of_tests { char } else { ' ' }).collect()
    };
    (keep(false), keep(true))
}

/// The end of the item at `start`, its attributes included: its closing brace, or its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0_i32;
    let mut words = String::new();
    for (at, char) in code[start..].char_indices() {
        match char {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ if depth == 0 => words.push(char),
            _ => {}
        }
        let head = words.trim_start_matches(|char: char| char == '#' || char.is_whitespace());
        let ends_at_brace = !["use", "pub use", "const", "static", "let"].iter().any(|word| head.starts_with(word));
        let is_attribute = head.is_empty();
        if depth == 0 && !is_attribute && (char == ';' || (char == '}' && ends_at_brace)) {
            return start + at + char.len_utf8();
        }
        if depth < 0 {
            return start + at;
        }
    }
    code.len()
}

/// The number of the line, from 1, in which byte `at` stands.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[test]
fn comments_and_literals_are_blanked_and_code_stays() {
    let text = "let a = \"unsafe \\\" x\"; // unsafe\nlet b: &'static str = r#\"uns\"x\"#; /* un /* x */ safe */ \
                c('\\'', '\"');";
    let left: Vec<String> = code(text).split_whitespace().map(str::to_owned).collect();
    assert_eq!(left.join(" "), "let a = ; let b: &'static str = ; c( , );");
    assert_eq!(code(text).chars().count(), text.chars().count());
}

#[test]
fn test_items_are_divided_from_the_rest() {
    let text = "use a;\n#[cfg(test)]\nuse b::{c, d};\n#[cfg(test)]\n#[path = \" \"]\nmod tests;\nfn e() {}\n\
                #[cfg(test)]\nmod more { fn f() { g(); } }\nfn h() {}";
    let (rest, tests) = divide(text);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(&rest), "use a; fn e() {} fn h() {}");
    assert!(words(&tests).contains("mod more { fn f() { g(); } }") && words(&tests).contains("mod tests;"));
    assert_eq!(line_of(&rest, rest.find("fn h").unwrap()), 10);
}
