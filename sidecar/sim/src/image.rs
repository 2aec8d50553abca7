//! Databases as pages, in worlds from a seed: what each commit makes of them, and files that are real LTX.
//!
//! In the worlds that are searched a database is the list of its commits and nothing else ([`Unseen`] is empty there). Here
//! each commit also changes pages, as drawn from the seed and its number; so a list of commits still says everything.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use lifeboat_ltx::{Checksum, Header, LtxFile, PageChecksum, decode_whole};
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_replica::restore::placement::Placement;
use lifeboat_wal::{PageCount, PageNo, PageSize};

use crate::dice::Dice;

/// Something that does not tell states of a world apart, because it follows from what does, or is not there.
#[derive(Clone, Debug, Default)]
pub struct Unseen<T>(pub T);

impl<T> PartialEq for Unseen<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Unseen<T> {}

impl<T> Hash for Unseen<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The image of a page.
pub type PageImage = Rc<[u8]>;

/// The pages of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Their size.
    pub page_size: PageSize,
    /// From page 1 on.
    pub pages: Vec<PageImage>,
    /// The rolling checksum.
    pub checksum: Checksum,
}

/// What a commit writes.
#[derive(Clone, Debug)]
pub struct Change {
    /// In the order in which SQLite writes it; a page that comes twice was spilled before the transaction ended.
    pub writes: Vec<(PageNo, PageImage)>,
    /// The size of the database after it.
    pub size: PageCount,
    /// What follows and is rolled back.
    pub rolled_back: Vec<(PageNo, PageImage)>,
}

impl Image {
    /// Of these pages.
    #[must_use]
    pub fn new(page_size: PageSize, pages: Vec<PageImage>) -> Self {
        let numbered = (1..).filter_map(PageNo::try_new).zip(&pages);
        let checksum = numbered
            .fold(Checksum::EMPTY, |checksum, (page, image)| checksum.toggle(PageChecksum::of(page, image)));
        Self { page_size, pages, checksum }
    }

    /// How many pages.
    #[must_use]
    pub fn size(&self) -> PageCount {
        PageCount::new(u32::try_from(self.pages.len()).unwrap_or(u32::MAX))
    }

    /// A page; `None` beyond the end.
    #[must_use]
    pub fn page(&self, page: PageNo) -> Option<&PageImage> {
        self.pages.get(page.get() as usize - 1)
    }

    /// The database after a change.
    #[must_use]
    pub fn after(&self, change: &Change) -> Self {
        let mut pages = self.pages.clone();
        pages.resize(change.size.get() as usize, blank(self.page_size));
        for (page, image) in &change.writes {
            if let Some(place) = pages.get_mut(page.get() as usize - 1) {
                *place = Rc::clone(image);
            }
        }
        Self::new(self.page_size, pages)
    }

    /// An LTX file with those of these pages that there are.
    ///
    /// # Errors
    /// What the encoder says.
    pub fn encode(&self, header: Header, pages: &DirtyPages) -> Result<Vec<u8>, String> {
        let wanted = pages.iter(self.size(), self.page_size);
        let pages = wanted.filter_map(|page| self.page(page).map(|image| (page, image.to_vec()))).collect();
        LtxFile { header, pages }.encode().map_err(|error| error.to_string())
    }
}

impl Change {
    /// What commit `number` does to this database.
    #[must_use]
    pub fn draw(seed: u64, number: u16, before: &Image) -> Self {
        let mut dice = Dice::of(seed, number.into());
        let old = before.size().get();
        let size = match dice.below(12) {
            0 if old > 2 => 1 + dice.below(u64::from(old) - 1),
            1..=3 => u64::from(old) + 1 + dice.below(3),
            _ => u64::from(old).max(1 + dice.below(4)),
        };
        let size = u32::try_from(size).unwrap_or(1).min(PAGES_MAX);
        let mut numbers: Vec<u32> = (old + 1..=size).collect();
        numbers.extend((0..dice.below(4)).map(|_| 1 + u32::try_from(dice.below(size.into())).unwrap_or(0)));
        // Page 1 comes last: it names the commit, so no state ever comes back.
        numbers.push(1);
        let mut writes = Vec::new();
        for page in numbers.iter().filter_map(|page| PageNo::try_new(*page)) {
            if dice.one_in(6) {
                writes.push((page, fill(before.page_size, number, dice.next())));
            }
            let same = before.page(page).filter(|_| page != PageNo::FIRST && dice.one_in(6));
            let image = same.cloned().unwrap_or_else(|| fill(before.page_size, number, dice.next()));
            writes.push((page, image));
        }
        let rolled_back = (0..dice.below(3)).filter(|_| dice.one_in(2));
        let rolled_back = rolled_back.map(|_| PageNo::FIRST).collect::<Vec<_>>();
        let rolled_back =
            rolled_back.into_iter().map(|page| (page, fill(before.page_size, number, dice.next())));
        Self { writes, size: PageCount::new(size), rolled_back: rolled_back.collect() }
    }
}

/// Builds the database that these files, newest first, lead to, as a restore does.
///
/// # Errors
/// What is wrong with them.
pub fn rebuild<'b>(newest_first: impl IntoIterator<Item = &'b [u8]>) -> Result<Image, String> {
    let (mut placement, mut end, mut pages) = (None, None, Vec::new());
    for bytes in newest_first {
        let file = decode_whole(bytes).map_err(|error| error.to_string())?;
        let size = file.header.commit;
        let placement = placement.get_or_insert_with(|| Placement::begin(size));
        if end.is_none() {
            pages = vec![None; size.get() as usize];
            end = Some((file.header.page_size, file.header.mark));
        }
        placement.enter(size);
        for (page, image) in file.pages {
            if placement.claim(page)
                && let Some(place) = pages.get_mut(page.get() as usize - 1)
            {
                *place = Some(PageImage::from(image));
            }
        }
    }
    let (page_size, mark) = end.ok_or("no file at all")?;
    let pages: Option<Vec<_>> = pages.into_iter().collect();
    let image = Image::new(page_size, pages.ok_or("no file holds one of its pages")?);
    match mark {
        Some(mark) if mark.post_apply == image.checksum => Ok(image),
        _ => Err("the pages do not have the checksum that the newest file names".to_owned()),
    }
}

/// A page that nobody wrote yet.
#[must_use]
pub fn blank(page_size: PageSize) -> PageImage {
    PageImage::from(vec![0; page_size.get() as usize])
}

fn fill(page_size: PageSize, number: u16, word: u64) -> PageImage {
    let mut bytes = vec![0; page_size.get() as usize];
    for (place, byte) in bytes.iter_mut().zip(number.to_le_bytes().into_iter().chain(word.to_le_bytes())) {
        *place = byte;
    }
    PageImage::from(bytes)
}

/// Databases are small here.
const PAGES_MAX: u32 = 20;
