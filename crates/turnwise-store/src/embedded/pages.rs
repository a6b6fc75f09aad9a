//! A checksum of every page of the file, as it was last written or first read.
//! The database checks its pages only when it repairs; here each read is
//! checked. Put down beside the file when it is closed in order, the sums also
//! save the next start from reading the whole file just to trust it.

use parking_lot::RwLock;
use std::io;

/// Bytes of a page; the database's own pages are multiples of it.
pub(super) const PAGE_BYTES: usize = 4096;
/// Starts the file of sums. On disk: a change of the format needs a new one.
const MAGIC: [u8; 8] = *b"twseal01";

/// The sums in memory: four bytes for each page, 1 MiB for each GiB of the file.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// By page; 0 is not known. The first page, the database's header, is never known.
    sums: RwLock<Vec<u32>>,
}

fn sum(page: &[u8]) -> u32 {
    crc32fast::hash(page).max(1)
}

/// The whole pages in `data`, with their numbers.
fn pages(offset: u64, data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let misaligned = usize::try_from(offset % PAGE_BYTES as u64).unwrap_or(0);
    let skipped = if misaligned == 0 { 0 } else { PAGE_BYTES - misaligned };
    let first = usize::try_from(offset.div_ceil(PAGE_BYTES as u64)).unwrap_or(usize::MAX);
    let whole = data.get(skipped..).unwrap_or_default().chunks_exact(PAGE_BYTES);
    whole.enumerate().map(move |(at, page)| (first.saturating_add(at), page)).filter(|(page, _)| *page > 0)
}

impl Pages {
    /// Compares what was read with what is known; learns what is not.
    ///
    /// # Errors
    /// `InvalidData`, naming the page.
    pub(super) fn check(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut unknown = false;
        {
            let sums = self.sums.read();
            for (page, data) in pages(offset, data) {
                match sums.get(page) {
                    None | Some(0) => unknown = true,
                    Some(known) if *known == sum(data) => {}
                    Some(_) => {
                        let why = format!("page {page} is not as it was written");
                        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                    }
                }
            }
        }
        if unknown {
            self.note(offset, data);
        }
        Ok(())
    }

    /// Remembers what was written.
    pub(super) fn note(&self, offset: u64, data: &[u8]) {
        let mut sums = self.sums.write();
        self::forget(&mut sums, offset, data.len());
        for (page, data) in pages(offset, data) {
            if page >= sums.len() {
                sums.resize(page + 1, 0);
            }
            if let Some(known) = sums.get_mut(page) {
                *known = sum(data);
            }
        }
    }

    /// What is there now is not known: a write failed.
    pub(super) fn forget(&self, offset: u64, bytes: usize) {
        forget(&mut self.sums.write(), offset, bytes);
    }

    /// The file was cut off or made longer.
    pub(super) fn resized(&self, bytes: u64) {
        let whole = usize::try_from(bytes / PAGE_BYTES as u64).unwrap_or(usize::MAX);
        let mut sums = self.sums.write();
        if sums.len() > whole {
            sums.truncate(whole);
        }
    }

    /// The sums to be put down beside a file with this length and first page.
    pub(super) fn seal(&self, file_bytes: u64, first_page: &[u8]) -> Vec<u8> {
        let sums = self.sums.read();
        let mut seal = Vec::with_capacity(MAGIC.len() + 16 + sums.len() * 4);
        seal.extend_from_slice(&MAGIC);
        seal.extend_from_slice(&file_bytes.to_le_bytes());
        seal.extend_from_slice(&sum(first_page).to_le_bytes());
        sums.iter().for_each(|sum| seal.extend_from_slice(&sum.to_le_bytes()));
        let whole = crc32fast::hash(&seal);
        seal.extend_from_slice(&whole.to_le_bytes());
        seal
    }

    /// The sums put down beside a file, if they are of this file as it is.
    pub(super) fn sealed(seal: &[u8], file_bytes: u64, first_page: &[u8]) -> Option<Pages> {
        let (text, whole) = seal.split_last_chunk::<4>()?;
        let rest = text.strip_prefix(&MAGIC)?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let (first, rest) = rest.split_first_chunk::<4>()?;
        let is_of_it = crc32fast::hash(text).to_le_bytes() == *whole
            && u64::from_le_bytes(*length) == file_bytes
            && u32::from_le_bytes(*first) == sum(first_page);
        let (sums, left) = rest.as_chunks::<4>();
        let sums = sums.iter().map(|sum| u32::from_le_bytes(*sum)).collect();
        (is_of_it && left.is_empty()).then(|| Pages { sums: RwLock::new(sums) })
    }
}

fn forget(sums: &mut [u32], offset: u64, bytes: usize) {
    let page_of = |at: u64| usize::try_from(at / PAGE_BYTES as u64).unwrap_or(usize::MAX);
    let end = page_of(offset.saturating_add(bytes as u64).saturating_add(PAGE_BYTES as u64 - 1));
    let range = page_of(offset).min(sums.len())..end.min(sums.len());
    sums.get_mut(range).into_iter().flatten().for_each(|sum| *sum = 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8) -> Vec<u8> {
        vec![byte; PAGE_BYTES]
    }

    #[test]
    fn a_page_that_is_not_as_it_was_written_is_refused() {
        let pages = Pages::default();
        pages.note(4096, &[page(1), page(2)].concat());
        assert!(pages.check(4096, &[page(1), page(2)].concat()).is_ok());
        assert!(pages.check(8192, &page(2)).is_ok());
        assert!(pages.check(8192, &page(1)).is_err());
        assert!(pages.check(12288, &page(9)).is_ok(), "nothing is known of it");
        assert!(pages.check(12288, &page(8)).is_err(), "what was read first is known");
        pages.forget(8192, 1);
        assert!(pages.check(8192, &page(7)).is_ok());
    }

    #[test]
    fn a_part_of_a_page_makes_it_unknown() {
        let pages = Pages::default();
        pages.note(4096, &page(1));
        pages.note(4100, &[9; 8]);
        assert!(pages.check(4096, &page(3)).is_ok());
    }

    #[test]
    fn a_seal_is_good_for_one_file_only() {
        let pages = Pages::default();
        pages.note(4096, &page(1));
        let seal = pages.seal(8192, &page(0));
        let again = Pages::sealed(&seal, 8192, &page(0)).expect("its own file");
        assert!(again.check(4096, &page(2)).is_err());
        assert!(Pages::sealed(&seal, 4096, &page(0)).is_none());
        assert!(Pages::sealed(&seal, 8192, &page(1)).is_none());
        for at in 0..seal.len() {
            let mut damaged = seal.clone();
            damaged.get_mut(at).into_iter().for_each(|byte| *byte ^= 1);
            assert!(Pages::sealed(&damaged, 8192, &page(0)).is_none(), "byte {at}");
        }
        assert!(Pages::sealed(&[], 0, &[]).is_none());
    }
}
