//! A copy of the database made of nothing but what each cut ships.

use lifeboat::database::{DatabaseError, View};
use lifeboat_replica::dirty_pages::DirtyPages;
use lifeboat_wal::PageNo;

/// The image a replica would restore.
#[derive(Default)]
pub(crate) struct Model {
    image: Vec<u8>,
}

impl Model {
    /// Applies a file that holds these pages of the view.
    pub(crate) fn apply(&mut self, view: &mut View<'_>, dirty: &DirtyPages) {
        let page_size = view.page_size();
        self.image.resize(usize::try_from(view.page_count().bytes(page_size)).unwrap(), 0);
        let size = page_size.get() as usize;
        view.for_each_page(dirty, |page, image| {
            self.image[offset(page, size)..][..size].copy_from_slice(image);
            Ok::<(), DatabaseError>(())
        })
        .unwrap();
    }

    /// Compares with every page of the view.
    pub(crate) fn assert_equals(&self, view: &mut View<'_>) {
        let size = view.page_size().get() as usize;
        let mut all = DirtyPages::new();
        all.insert_all();
        let mut wrong = Vec::new();
        view.for_each_page(&all, |page, image| {
            if self.image[offset(page, size)..][..size] != *image {
                wrong.push(page.get());
            }
            Ok::<(), DatabaseError>(())
        })
        .unwrap();
        assert!(
            wrong.is_empty(),
            "of {} pages these are not as in the database: {wrong:?}",
            view.page_count()
        );
    }

    pub(crate) fn image(&self) -> &[u8] {
        &self.image
    }
}

fn offset(page: PageNo, size: usize) -> usize {
    (page.get() as usize - 1) * size
}
