//! What a gateway has done, and what it was told to do wrong.
//!
//! Charges are counted from the ledger. The rest is kept beside it, in `<ledger>.counts`: written at once and never
//! synced, so that it survives a kill of the process, and costs next to nothing. What must stay true: a counts file
//! that does not read is begun anew and said; no charge rests on it.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    charge::{Operation, Verdict},
    entry::Entry,
};

/// The counts file has this size, whatever stands in it: a write is one piece that a kill does not tear.
const FILE_BYTES: usize = 1_024;

/// Numbers since the ledger was made, over all restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Counts {
    /// Authorisations in the ledger that were accepted.
    pub authorized: u64,
    /// Captures in the ledger.
    pub captured: u64,
    /// Voids in the ledger.
    pub voided: u64,
    /// Refunds in the ledger.
    pub refunded: u64,
    /// Authorisations in the ledger that were declined.
    pub declined: u64,
    /// Of all these, those that were asked without a key.
    pub keyless: u64,
    /// Syncs of the ledger since this process began.
    pub syncs: u64,
    /// What is not in the ledger.
    #[serde(flatten)]
    pub injected: Injected,
}

/// What happened beside charging.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Injected {
    /// Outcomes told again from the ledger, by key, without charging.
    pub repeated: u64,
    /// Asked again while the outcome was pending.
    pub pending_repeats: u64,
    /// Refused, because the key names another operation, order or amount.
    pub mismatched: u64,
    /// Refused, because they were no proper requests.
    pub malformed: u64,
    /// Turned away while down, or because too many were asking.
    pub unavailable: u64,
    /// Answered late.
    pub late: u64,
    /// Charged and answered "pending".
    pub pending: u64,
    /// Charged and never answered.
    pub timed_out: u64,
    /// Not charged, as the key was known, and never answered.
    pub timed_out_repeats: u64,
    /// Charged, then fallen over.
    pub fell_over: u64,
    /// Reports that a callback took.
    pub reports: u64,
    /// Of these, those that were late.
    pub reports_late: u64,
    /// Of these, second ones.
    pub reports_doubled: u64,
    /// Of these, those that a later charge's report overtook.
    pub reports_out_of_order: u64,
    /// Reports that were given up, as the callback took none.
    pub reports_failed: u64,
}

impl Counts {
    /// Takes a line of the ledger into account.
    pub(crate) fn charge(&mut self, entry: &Entry) {
        self.keyless += u64::from(entry.key.is_none());
        *match (entry.outcome, entry.operation) {
            (Verdict::Declined, _) => &mut self.declined,
            (Verdict::Accepted, Operation::Authorize) => &mut self.authorized,
            (Verdict::Accepted, Operation::Capture) => &mut self.captured,
            (Verdict::Accepted, Operation::Void) => &mut self.voided,
            (Verdict::Accepted, Operation::Refund) => &mut self.refunded,
        } += 1;
    }
}

/// The file beside the ledger.
#[derive(Debug)]
pub(crate) struct Kept {
    file: File,
    path: PathBuf,
    /// A failure is told once.
    has_failed: bool,
}

impl Kept {
    /// Opens the file, and gives what it says. None when it was there and does not read.
    pub(crate) fn open(ledger: &Path) -> io::Result<(Self, Option<Injected>)> {
        let mut path = OsString::from(ledger);
        path.push(".counts");
        let path = PathBuf::from(path);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut text = vec![0; FILE_BYTES];
        let read = file.read_at(&mut text, 0)?;
        let injected = match read {
            0 => Some(Injected::default()),
            _ => serde_json::from_slice(&text[..read]).ok(),
        };
        Ok((Self { file, path, has_failed: false }, injected))
    }

    /// Writes them down. Counts that cannot be written are kept in memory alone.
    pub(crate) fn keep(&mut self, injected: &Injected) {
        let mut text = serde_json::to_vec(injected).expect("numbers have a text");
        text.resize(FILE_BYTES - 1, b' ');
        text.push(b'\n');
        if let Err(error) = self.file.write_all_at(&text, 0)
            && !std::mem::replace(&mut self.has_failed, true)
        {
            tracing::warn!(file = %self.path.display(), %error, "the counts cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_back_and_a_broken_file_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = directory.path().join("ledger");
        let (mut kept, injected) = Kept::open(&ledger).unwrap();
        assert_eq!(injected, Some(Injected::default()));
        let most = Injected { repeated: u64::MAX, mismatched: u64::MAX, reports: u64::MAX, ..Injected::default() };
        kept.keep(&most);
        kept.keep(&Injected { late: 3, ..Injected::default() });
        drop(kept);
        let (_, injected) = Kept::open(&ledger).unwrap();
        assert_eq!(injected, Some(Injected { late: 3, ..Injected::default() }));
        let path = directory.path().join("ledger.counts");
        let mut text = std::fs::read(&path).unwrap();
        assert_eq!(text.len(), FILE_BYTES);
        text[0] = b'x';
        std::fs::write(&path, text).unwrap();
        assert_eq!(Kept::open(&ledger).unwrap().1, None);
    }

    #[test]
    fn the_largest_counts_fit_the_file() {
        let fields = serde_json::to_value(Injected::default()).unwrap();
        let most: serde_json::Map<_, _> =
            fields.as_object().unwrap().keys().map(|field| (field.clone(), u64::MAX.into())).collect();
        assert!(serde_json::to_vec(&most).unwrap().len() < FILE_BYTES);
    }
}
