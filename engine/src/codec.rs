//! How a `RecordSet` is compressed: not at all, as one LZ4 frame, or as one zstd frame.
//!
//! Comes in: bytes of our own (to compress) or bytes of anybody (to decompress). Goes out: bytes, or the reason why
//! not. What must stay true: decompressing never holds more than the stated limit, however the input lies, and
//! nothing is accepted that ends early or goes on behind its frame.
//!
//! The LZ4 frame is taken apart here and not by the library's stream decoder: that one takes a frame without an end
//! mark for a whole one, cannot be bounded to less than its block size, and copies everything once more.

use std::io::Write;

use lz4_flex::{
    block::{DecompressError, decompress_into, decompress_into_with_dict},
    frame::{BlockSize, FrameEncoder, FrameInfo},
};
use thiserror::Error;
use xxhash_rust::xxh32::xxh32;
use zstd::zstd_safe::{self, DCtx, zstd_sys::ZSTD_ErrorCode};

/// The level for blocks: flush is to keep up with appends.
const ZSTD_LEVEL: i32 = 1;
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// How far back a linked LZ4 block may look.
const LZ4_WINDOW: usize = 64 << 10;

/// A way to compress. The numbers are on disk and on the wire, and never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    None = 1,
    /// One LZ4 frame (not the raw block format).
    Lz4 = 2,
    /// One zstd frame.
    Zstd = 3,
}

impl Codec {
    /// The codec of a number on disk or on the wire; none for numbers that this version does not know.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::None),
            2 => Some(Self::Lz4),
            3 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its number on disk and on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its name in settings and listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Why compressed bytes do not become plain ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodecFault {
    /// They would become more than they may. Nothing beyond the limit was produced.
    #[error("decompressed bytes exceed the limit limit={limit}")]
    TooLarge {
        /// Most bytes that were allowed.
        limit: usize,
    },
    /// They are not one whole frame.
    #[error("compressed bytes are not one whole frame codec={} what={what}", codec.name())]
    Malformed {
        /// As which codec they were read.
        codec: Codec,
        /// The part that is wrong.
        what: &'static str,
    },
    /// Something follows the frame.
    #[error("bytes follow the compressed frame codec={} bytes={bytes}", codec.name())]
    Trailing {
        /// As which codec they were read.
        codec: Codec,
        /// How many bytes follow.
        bytes: usize,
    },
}

/// Compresses, whether or not that makes it smaller. **Cost**: one pass; for [`Codec::None`] a copy.
///
/// # Panics
///
/// When there is no memory for the result.
pub fn compress(codec: Codec, plain: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => plain.to_vec(),
        Codec::Lz4 => {
            let block_size = if plain.len() <= 64 << 10 { BlockSize::Max64KB } else { BlockSize::Max256KB };
            let info = FrameInfo::new().block_size(block_size).content_size(Some(plain.len() as u64));
            let room = lz4_flex::block::get_maximum_output_size(plain.len()) + 64;
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(room));
            encoder.write_all(plain).expect("writing to memory does not fail");
            encoder.finish().expect("writing to memory does not fail, and all announced bytes were written")
        }
        Codec::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL).expect("zstd fails only without memory"),
    }
}

/// Decompresses what may be anything. Allocates at most `limit` bytes, and some hundred KiB of state for zstd.
///
/// # Errors
///
/// [`CodecFault::TooLarge`] when there is more than `limit`; `Malformed` when it is cut short or damaged; `Trailing`
/// when it goes on after its end.
pub fn decompress(codec: Codec, stored: &[u8], limit: usize) -> Result<Vec<u8>, CodecFault> {
    match codec {
        Codec::None if stored.len() > limit => Err(CodecFault::TooLarge { limit }),
        Codec::None => Ok(stored.to_vec()),
        Codec::Lz4 => lz4(stored, limit),
        Codec::Zstd => unzstd(stored, limit),
    }
}

fn unzstd(stored: &[u8], limit: usize) -> Result<Vec<u8>, CodecFault> {
    let malformed = |what| CodecFault::Malformed { codec: Codec::Zstd, what };
    if !stored.starts_with(&ZSTD_MAGIC) {
        return Err(malformed("magic"));
    }
    let frame = zstd_safe::find_frame_compressed_size(stored).map_err(|_| malformed("frame"))?;
    if frame < stored.len() {
        return Err(CodecFault::Trailing { codec: Codec::Zstd, bytes: stored.len() - frame });
    }
    let announced = zstd_safe::get_frame_content_size(stored).map_err(|_| malformed("header"))?;
    let room = announced.unwrap_or(limit as u64);
    if room > limit as u64 {
        return Err(CodecFault::TooLarge { limit });
    }
    let mut plain = Vec::with_capacity(room as usize);
    DCtx::create().decompress(&mut plain, stored).map_err(|code| {
        let full = zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall);
        if full && announced.is_none() { CodecFault::TooLarge { limit } } else { malformed("content") }
    })?;
    Ok(plain)
}

/// What the descriptor of an LZ4 frame says.
struct Lz4Frame {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    block_bytes_max: usize,
    content_bytes: Option<u64>,
}

const fn bad_lz4(what: &'static str) -> CodecFault {
    CodecFault::Malformed { codec: Codec::Lz4, what }
}

/// Cuts `count` bytes off the front.
fn cut<'a>(rest: &mut &'a [u8], count: usize, what: &'static str) -> Result<&'a [u8], CodecFault> {
    let (front, behind) = rest.split_at_checked(count).ok_or(bad_lz4(what))?;
    *rest = behind;
    Ok(front)
}

/// Cuts a field of a fixed width off the front.
fn cut_field<const N: usize>(rest: &mut &[u8], what: &'static str) -> Result<[u8; N], CodecFault> {
    let (front, behind) = rest.split_first_chunk().ok_or(bad_lz4(what))?;
    *rest = behind;
    Ok(*front)
}

fn cut_word(rest: &mut &[u8], what: &'static str) -> Result<u32, CodecFault> {
    cut_field(rest, what).map(u32::from_le_bytes)
}

fn lz4_descriptor(rest: &mut &[u8]) -> Result<Lz4Frame, CodecFault> {
    if cut(rest, 4, "magic")? != LZ4_MAGIC {
        return Err(bad_lz4("magic"));
    }
    let whole = *rest;
    let fixed = cut(rest, 2, "descriptor")?;
    let (flags, sizes) = (fixed[0], fixed[1]);
    // Version 01; a dictionary (bit 0) and the reserved bits are nothing that we read.
    if flags & 0b1100_0011 != 0b0100_0000 || sizes & 0b1000_1111 != 0 {
        return Err(bad_lz4("descriptor"));
    }
    let block_bytes_max = match sizes >> 4 {
        number @ 4..=7 => (64 << 10) << ((number - 4) * 2),
        _ => return Err(bad_lz4("block size")),
    };
    let has_content_size = flags & 0b1000 != 0;
    let content_bytes =
        if has_content_size { Some(u64::from_le_bytes(cut_field(rest, "content size")?)) } else { None };
    let descriptor = &whole[..whole.len() - rest.len()];
    let check = cut(rest, 1, "descriptor checksum")?[0];
    if check != (xxh32(descriptor, 0) >> 8) as u8 {
        return Err(bad_lz4("descriptor checksum"));
    }
    Ok(Lz4Frame {
        linked: flags & 0b10_0000 == 0,
        block_checksums: flags & 0b1_0000 != 0,
        content_checksum: flags & 0b100 != 0,
        block_bytes_max,
        content_bytes,
    })
}

fn lz4(stored: &[u8], limit: usize) -> Result<Vec<u8>, CodecFault> {
    let mut rest = stored;
    let frame = lz4_descriptor(&mut rest)?;
    if frame.content_bytes.is_some_and(|bytes| bytes > limit as u64) {
        return Err(CodecFault::TooLarge { limit });
    }
    // LZ4 grows at most 255-fold, so a few lying bytes cannot make us take the whole limit.
    let most = frame.content_bytes.map_or(limit, |bytes| bytes as usize);
    let mut plain = Vec::with_capacity(most.min(stored.len().saturating_mul(255)));
    loop {
        let size = cut_word(&mut rest, "end mark")?;
        if size == 0 {
            break;
        }
        let (size, raw) = ((size & 0x7fff_ffff) as usize, size >> 31 == 1);
        if size > frame.block_bytes_max {
            return Err(bad_lz4("block size"));
        }
        let block = cut(&mut rest, size, "block")?;
        if frame.block_checksums && cut_word(&mut rest, "block checksum")? != xxh32(block, 0) {
            return Err(bad_lz4("block checksum"));
        }
        lz4_block(&frame, block, raw, most, &mut plain).map_err(|fault| match fault {
            CodecFault::TooLarge { .. } if frame.content_bytes.is_some() => bad_lz4("content size"),
            fault => fault,
        })?;
    }
    if frame.content_bytes.is_some_and(|bytes| bytes != plain.len() as u64) {
        return Err(bad_lz4("content size"));
    }
    if frame.content_checksum && cut_word(&mut rest, "content checksum")? != xxh32(&plain, 0) {
        return Err(bad_lz4("content checksum"));
    }
    if rest.is_empty() { Ok(plain) } else { Err(CodecFault::Trailing { codec: Codec::Lz4, bytes: rest.len() }) }
}

/// Adds one block to `plain`, which may become at most `most` bytes long.
fn lz4_block(frame: &Lz4Frame, block: &[u8], raw: bool, most: usize, plain: &mut Vec<u8>) -> Result<(), CodecFault> {
    let before = plain.len();
    if raw {
        if before + block.len() > most {
            return Err(CodecFault::TooLarge { limit: most });
        }
        plain.extend_from_slice(block);
        return Ok(());
    }
    let grown = block.len().saturating_mul(255).min(frame.block_bytes_max).min(most - before);
    plain.resize(before + grown, 0);
    let (behind, room) = plain.split_at_mut(before);
    let done = if frame.linked && before > 0 {
        decompress_into_with_dict(block, room, &behind[before.saturating_sub(LZ4_WINDOW)..])
    } else {
        decompress_into(block, room)
    };
    let count = done.map_err(|fault| match fault {
        DecompressError::OutputTooSmall { .. } if before + grown == most => CodecFault::TooLarge { limit: most },
        _ => bad_lz4("block"),
    })?;
    plain.truncate(before + count);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use lz4_flex::frame::{BlockMode, FrameDecoder};
    use proptest::prelude::*;

    use super::*;

    const ALL: [Codec; 3] = [Codec::None, Codec::Lz4, Codec::Zstd];

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at / 7 % 251) as u8 ^ (at % 13) as u8).collect()
    }

    #[test]
    fn bytes_come_back_and_the_limit_is_exact() {
        for codec in ALL {
            assert_eq!(Codec::from_number(codec.number()), Some(codec));
            for bytes in [0, 1, 100, 65_536, 65_537, 300_000, 1 << 20] {
                let plain = text(bytes);
                let stored = compress(codec, &plain);
                assert_eq!(decompress(codec, &stored, bytes), Ok(plain), "{codec:?} {bytes}");
                if bytes > 0 {
                    assert_eq!(decompress(codec, &stored, bytes - 1), Err(CodecFault::TooLarge { limit: bytes - 1 }));
                }
            }
        }
        assert_eq!(Codec::from_number(0), None);
        assert_eq!(Codec::from_number(4), None);
    }

    #[test]
    fn every_cut_and_every_added_byte_is_refused() {
        for codec in [Codec::Lz4, Codec::Zstd] {
            let mut stored = compress(codec, &text(3_000));
            for end in 0..stored.len() {
                assert!(decompress(codec, &stored[..end], 1 << 20).is_err(), "{codec:?} cut at {end}");
            }
            let twice = [stored.clone(), stored.clone()].concat();
            let bytes = stored.len();
            assert_eq!(decompress(codec, &twice, 1 << 20), Err(CodecFault::Trailing { codec, bytes }));
            stored.push(0);
            assert_eq!(decompress(codec, &stored, 1 << 20), Err(CodecFault::Trailing { codec, bytes: 1 }));
        }
    }

    #[test]
    fn frames_of_every_shape_are_read() {
        let plain = text(400_000);
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for checks in [false, true] {
                for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max4MB] {
                    let info = FrameInfo::new().block_mode(mode).block_size(size);
                    let info = info.block_checksums(checks).content_checksum(checks);
                    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                    encoder.write_all(&plain).expect("memory");
                    let mut stored = encoder.finish().expect("memory");
                    assert_eq!(decompress(Codec::Lz4, &stored, plain.len()).as_deref(), Ok(&plain[..]));
                    let fault = decompress(Codec::Lz4, &stored, plain.len() - 1);
                    assert_eq!(fault, Err(CodecFault::TooLarge { limit: plain.len() - 1 }));
                    if checks {
                        *stored.last_mut().expect("not empty") ^= 1;
                        assert_eq!(decompress(Codec::Lz4, &stored, plain.len()), Err(bad_lz4("content checksum")));
                    }
                }
            }
        }
    }

    #[test]
    fn our_lz4_is_read_by_the_library_decoder() {
        let plain = text(700_000);
        let stored = compress(Codec::Lz4, &plain);
        let mut back = Vec::new();
        FrameDecoder::new(&stored[..]).read_to_end(&mut back).expect("a whole frame");
        assert_eq!(back, plain);
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = vec![0; 64 << 20];
        let zstd_unsized = {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("memory");
            encoder.write_all(&bomb).expect("memory");
            encoder.finish().expect("memory")
        };
        let lz4_unsized = {
            let mut encoder = FrameEncoder::new(Vec::new());
            encoder.write_all(&bomb).expect("memory");
            encoder.finish().expect("memory")
        };
        let fault = Err(CodecFault::TooLarge { limit: 4 << 20 });
        assert_eq!(decompress(Codec::Zstd, &zstd_unsized, 4 << 20), fault);
        assert_eq!(decompress(Codec::Lz4, &lz4_unsized, 4 << 20), fault);
        for codec in [Codec::Lz4, Codec::Zstd] {
            assert_eq!(decompress(codec, &compress(codec, &bomb), 4 << 20), fault);
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics_nor_exceeds(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
            limit in 0..5_000_usize,
        ) {
            for (codec, magic) in [(Codec::Lz4, LZ4_MAGIC), (Codec::Zstd, ZSTD_MAGIC)] {
                let stored = [&magic[..], &noise].concat();
                if let Ok(plain) = decompress(codec, &stored, limit) {
                    prop_assert!(plain.len() <= limit);
                }
            }
        }

        #[test]
        fn damage_never_panics_nor_exceeds(
            at in any::<prop::sample::Index>(),
            with in 1..=255_u8,
            limit in 0..5_000_usize,
        ) {
            for codec in [Codec::Lz4, Codec::Zstd] {
                let mut stored = compress(codec, &text(4_000));
                let at = at.index(stored.len());
                stored[at] ^= with;
                if let Ok(plain) = decompress(codec, &stored, limit) {
                    prop_assert!(plain.len() <= limit);
                }
            }
        }
    }
}
