//! A file or standard input as plain bytes, unpacked when it begins as zstd does, and how far it has been read.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::cmd::{append::Format, fail::Failure};

/// What every zstd frame begins with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What every gzip file begins with.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The largest window that is unpacked: 128 MiB, as `zstd -d` without flags.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const BUFFER_BYTES: usize = 256 << 10;

/// Where lines come from.
pub(super) struct Input {
    /// Plain bytes.
    pub(super) bytes: Box<dyn BufRead + Send>,
    /// The file's name without its folder; `stdin`.
    pub(super) source: String,
    /// What the name says that it holds.
    pub(super) format: Format,
    /// Somebody may be typing: what has come is sent, instead of waiting for more.
    pub(super) live: bool,
    /// A person is typing.
    pub(super) terminal: bool,
    /// Bytes of the file that have been read, before unpacking.
    pub(super) read: Arc<AtomicU64>,
    /// The size of the file, when it has one.
    pub(super) size: Option<u64>,
}

impl Input {
    /// Opens a file, or standard input for `-`.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let attempted = format!("reading {}", path.display());
        let read = Arc::new(AtomicU64::new(0));
        let counted = |inner: Box<dyn Read + Send>| Counted { inner, read: Arc::clone(&read) };
        let (raw, size, live, terminal) = if path == Path::new("-") {
            let stdin = io::stdin();
            let terminal = stdin.is_terminal();
            (counted(Box::new(stdin)), None, true, terminal)
        } else {
            let file = File::open(path).map_err(|error| Failure::io(&attempted, &error))?;
            let meta = file.metadata().map_err(|error| Failure::io(&attempted, &error))?;
            if meta.is_dir() {
                return Err(Failure::plain(format!("{attempted}: it is a directory")));
            }
            (counted(Box::new(file)), meta.is_file().then_some(meta.len()), !meta.is_file(), false)
        };
        let source = if path == Path::new("-") { "stdin".to_owned() } else { name };
        // A person who types has not typed four bytes yet.
        let bytes = if terminal {
            Box::new(BufReader::new(raw))
        } else {
            unpacked(raw, is_packed(&source)).map_err(|error| Failure::io(&attempted, &error))?
        };
        Ok(Self { bytes, format: format_of(&source), source, live, terminal, read, size })
    }
}

/// Whether the name says that it is packed. An empty file is nothing, packed or not.
fn is_packed(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "zst")
}

fn format_of(name: &str) -> Format {
    let name = name.strip_suffix(".zst").unwrap_or(name);
    match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Format::Csv,
        Some("jsonl" | "ndjson") => Format::Jsonl,
        _ => Format::Lines,
    }
}

/// Looks at the first bytes: the name of a pipe says nothing.
fn unpacked(raw: Counted, named_zst: bool) -> io::Result<Box<dyn BufRead + Send>> {
    let mut raw = BufReader::with_capacity(BUFFER_BYTES, raw);
    let begin = raw.fill_buf()?;
    let refused = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if begin.starts_with(&GZIP_MAGIC) {
        return refused(
            "it is packed with gzip, which is not read; unpack it first: gunzip -c FILE | tillroll append …",
        );
    }
    if !begin.starts_with(&ZSTD_MAGIC) {
        // Packed bytes as lines would be garbage in a log that forgets nothing.
        return if named_zst && !begin.is_empty() {
            refused("it is named .zst and is not packed with zstd; rename it")
        } else {
            Ok(Box::new(raw))
        };
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(raw)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)))
}

/// Counts what passes.
struct Counted {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_a_file_holds() {
        assert_eq!(format_of("retail.csv.zst"), Format::Csv);
        assert_eq!(format_of("events.jsonl"), Format::Jsonl);
        assert_eq!(format_of("shop.log"), Format::Lines);
    }

    #[test]
    fn packed_and_plain_files_read_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "a\nb\n".repeat(1_000);
        let packed = zstd::encode_all(text.as_bytes(), 3).expect("packs");
        for (name, bytes) in [("plain.txt", text.as_bytes()), ("packed.txt.zst", &packed), ("empty.txt", b"")] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("writes");
            let mut input = Input::open(&path).expect("opens");
            let mut read = String::new();
            input.bytes.read_to_string(&mut read).expect("reads");
            assert_eq!(read, if bytes.is_empty() { "" } else { text.as_str() }, "{name}");
            assert_eq!(input.read.load(Ordering::Relaxed), bytes.len() as u64);
            assert_eq!((input.source.as_str(), input.live), (name, false));
        }
    }

    #[test]
    fn what_is_packed_otherwise_is_refused_instead_of_loaded_as_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, bytes, said) in
            [("rows.csv.gz", &b"\x1f\x8b\x08"[..], "gunzip"), ("rows.csv.zst", &b"a,b\n"[..], "not packed with zstd")]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("writes");
            let failure = Input::open(&path).err().expect("refused");
            assert!(failure.to_string().contains(said), "{failure}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = Input::open(Path::new("no/such/file.csv")).err().expect("it is not there");
        assert!(failure.to_string().starts_with("reading no/such/file.csv: "), "{failure}");
    }
}
