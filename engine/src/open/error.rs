//! Why a data directory is not opened. Each says what, where and the next step; none of them changes anything.

use std::io;

use thiserror::Error;

use crate::{
    id::{Lane, Lsn, Offset},
    journal::{control::ControlFault, scan::ScanFault},
    poison::Poisoned,
    table::{file::TablesFault, follow::Misfit},
};

/// Why the start was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the directory.
    #[error("the data directory is in use by another broker; stop that one, or give this one another --data")]
    Locked,
    /// The directory was written by a newer version.
    #[error("the data directory is of a newer format ({what}); start the version that wrote it")]
    Newer {
        /// What was found.
        what: String,
    },
    /// Frames that were durable cannot be read any more. Nothing was changed.
    #[error(
        "journal frames {from} to {to} were durable and are damaged; restore a snapshot, or copy the directory aside \
         and ask before anything is dropped"
    )]
    Rotten {
        /// First missing frame.
        from: Lsn,
        /// Last durable frame.
        to: Lsn,
    },
    /// A tables file is damaged, and the journal does not have all that came since the other one. Nothing was changed.
    #[error(
        "{file} is damaged ({fault}), and frames {from} to {to}, which it may have stood for, are no longer in the \
         journal; put {file} back from a copy, or restore a snapshot"
    )]
    TablesDamaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        fault: TablesFault,
        /// First frame that is missing.
        from: Lsn,
        /// Last durable frame.
        to: Lsn,
    },
    /// Segments hold records that neither the tables nor the journal know. Nothing was appended.
    #[error(
        "segments of partition {lane} hold offsets below {flushed}, but tables and journal end at {end}: files of \
         different moments are mixed; restore a snapshot, or copy the directory aside and ask before anything is \
         dropped"
    )]
    FlushedBeyondEnd {
        /// Topic and partition.
        lane: Lane,
        /// Offsets below are in segments.
        flushed: Offset,
        /// The next offset that would be given out.
        end: Offset,
    },
    /// Tables and journal are each whole, and do not follow from one another. Nothing was appended.
    #[error(
        "journal frame {lsn} does not follow from {tables}: {misfit}; files of different moments are mixed: restore a \
         snapshot, or copy the directory aside and ask before anything is dropped"
    )]
    Misfit {
        /// The frame.
        lsn: Lsn,
        /// The tables, and the frame that they stand for.
        tables: String,
        /// What does not fit.
        misfit: Misfit,
    },
    /// Tables give a partition more records than segments and journal hold. Nothing was appended.
    #[error(
        "partition {lane} ends at offset {end} in {tables}, and its segments and the journal end at {held}: files of \
         different moments are mixed; restore a snapshot, or copy the directory aside and ask before anything is \
         dropped"
    )]
    EndBeyondHeld {
        /// Topic and partition.
        lane: Lane,
        /// The tables, and the frame that they stand for.
        tables: String,
        /// Where it ends.
        end: Offset,
        /// Where what is there ends.
        held: Offset,
    },
    /// `control` cannot be believed.
    #[error("{fault} (file control); restore it from a snapshot: without it nothing here can be believed")]
    Control {
        /// Why.
        fault: ControlFault,
    },
    /// There is a log but no `control`.
    #[error(
        "there is no control file, but {found} is there: this is a part of a data directory, or a damaged one; put the \
         file control back from a copy"
    )]
    ControlMissing {
        /// What else is there.
        found: String,
    },
    /// A file has the name of a directory.
    #[error("{path} is a file, and a directory of the log has that name; move the file away")]
    NotADirectory {
        /// The file.
        path: String,
    },
    /// The directory is neither a log's nor empty.
    #[error("the directory holds {found}, which is no log's; choose an empty one, or one that is not there yet")]
    NotEmpty {
        /// What is there.
        found: String,
    },
    /// A tables file belongs to another cluster.
    #[error("{file} {fault}: files of two data directories are mixed")]
    Tables {
        /// The file.
        file: String,
        /// Why.
        fault: TablesFault,
    },
    /// The journal could not be read.
    #[error("reading the journal: {0}")]
    Journal(#[from] ScanFault),
    /// The system failed; on a sync this is final for what was to be believed.
    #[error("{action}: {source}")]
    Io {
        /// What was tried, and on which file.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A write failed while replayed frames were flushed.
    #[error("writing during recovery: {0}")]
    Poisoned(Poisoned),
}

/// Adds what was tried to a system error.
pub(super) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let action = action.into();
    move |source| OpenError::Io { action, source }
}
