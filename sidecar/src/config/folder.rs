//! Databases that are named by a folder and a pattern, and not one by one.

use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::reading::parse_bool;
use super::{DatabaseConfig, absolute, file};
use crate::disk;
use crate::exit::Failure;
use crate::location::Location;

/// A folder of databases, and what they have in common.
#[derive(Clone, Debug)]
pub struct FolderConfig {
    /// The folder.
    pub dir: PathBuf,
    /// Whether the folders in it belong to it.
    pub is_recursive: bool,
    /// Whether databases that come later are followed too.
    pub is_watched: bool,
    /// What each of them is like; its location is the prefix of all of theirs.
    pub each: DatabaseConfig,
    pattern: GlobMatcher,
    /// Whether the pattern is about the path below the folder, or about the file's name only.
    is_about_path: bool,
}

impl FolderConfig {
    /// The folder that a path with wildcards means, such as `/data/*.db`; `None` for a plain path.
    pub(super) fn from_path(path: &Path, location: &Location) -> Result<Option<Self>, Failure> {
        let is_wild =
            |part: Component<'_>| part.as_os_str().as_encoded_bytes().iter().any(|byte| WILD.contains(byte));
        let path = absolute(path)?;
        // A file that is really called so is meant.
        if !path.components().any(is_wild) || path.exists() {
            return Ok(None);
        }
        let dir: PathBuf = path.components().take_while(|part| !is_wild(*part)).collect();
        let pattern: PathBuf = path.components().skip_while(|part| !is_wild(*part)).collect();
        let pattern = pattern.to_str().ok_or_else(|| Failure::usage("a pattern is UTF-8"))?;
        let folder = Self::new(&dir, pattern, location)?;
        Ok(Some(Self { is_recursive: pattern.contains('/'), is_about_path: true, ..folder }))
    }

    /// The folder of an entry with the key `dir`.
    pub(super) fn from_entry(
        entry: &file::Database,
        dir: &Path,
        location: &Location,
    ) -> Result<Self, Failure> {
        let pattern = entry.pattern.as_deref();
        let pattern =
            pattern.ok_or_else(|| Failure::usage("the key 'pattern' is missing, such as '*.db'"))?;
        let folder = Self::new(dir, pattern, location)?;
        let flag = |key: &str, text: &Option<String>, default| {
            let wrong = |wrong| Failure::usage(format!("{key}: {wrong}"));
            text.as_deref().map_or(Ok(default), parse_bool).map_err(wrong)
        };
        let is_recursive = flag("recursive", &entry.recursive, false)?;
        let is_watched = flag("watch", &entry.watch, true)?;
        Ok(Self { is_recursive, is_watched, ..folder })
    }

    fn new(dir: &Path, pattern: &str, location: &Location) -> Result<Self, Failure> {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        let glob = glob.map_err(|error| Failure::usage(format!("pattern '{pattern}': {error}")))?;
        let each = DatabaseConfig { is_discovered: true, ..DatabaseConfig::new(dir, location.clone())? };
        Ok(Self {
            dir: each.path.clone(),
            is_recursive: false,
            is_watched: true,
            each,
            pattern: glob.compile_matcher(),
            is_about_path: pattern.contains('/'),
        })
    }

    /// The database at this absolute path, if it belongs to the folder by its name; whether it exists does not matter.
    #[must_use]
    pub fn database(&self, path: &Path) -> Option<DatabaseConfig> {
        let below = path.strip_prefix(&self.dir).ok()?;
        let name = below.file_name()?.to_str()?;
        let is_companion = disk::COMPANIONS.iter().any(|suffix| name.ends_with(suffix));
        let folders: Vec<_> = below.parent()?.components().collect();
        let is_ours = folders.iter().any(|folder| is_private(Path::new(folder)));
        let pattern_meets = self.pattern.is_match(if self.is_about_path { below } else { Path::new(name) });
        if is_companion || is_ours || !pattern_meets || (!self.is_recursive && !folders.is_empty()) {
            return None;
        }
        Some(DatabaseConfig {
            name: path.display().to_string(),
            path: path.to_owned(),
            location: self.each.location.below(below.to_str()?),
            ..self.each.clone()
        })
    }

    /// Whether databases are looked for in this folder below ours.
    #[must_use]
    pub fn enters(&self, folder: &Path) -> bool {
        let is_replica =
            matches!(&self.each.location, Location::Directory(replica) if folder.starts_with(replica));
        folder == self.dir || (self.is_recursive && !is_private(folder) && !is_replica)
    }
}

/// Whether a folder is what we, or Litestream, keep beside a database.
fn is_private(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && PRIVATE.iter().any(|suffix| name.ends_with(suffix))
}

const WILD: &[u8] = b"*?[{";
const PRIVATE: [&str; 2] = ["-lifeboat", "-litestream"];

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    fn found(keys: &str, path: &str) -> Option<String> {
        let text = format!("dbs: [{{{keys}, replica: {{url: 's3://b/p'}}}}]");
        let database = Config::parse(&text).unwrap().find(Path::new(path)).ok();
        database.map(|database| database.location.to_string())
    }

    #[test]
    fn a_database_of_a_folder_is_stored_at_its_path_below_it() {
        let keys = "dir: /d, pattern: '*.db', recursive: true";
        assert_eq!(found(keys, "/d/a.db").as_deref(), Some("s3://b/p/a.db"));
        assert_eq!(found(keys, "/d/x/y/a.db").as_deref(), Some("s3://b/p/x/y/a.db"));
        assert_eq!(found(keys, "/d/a.sqlite"), None);
        assert_eq!(found(keys, "/e/a.db"), None);
    }

    #[test]
    fn folders_in_a_folder_are_entered_only_when_that_is_asked_for() {
        assert_eq!(found("dir: /d, pattern: '*.db'", "/d/x/a.db"), None);
        assert_eq!(found("path: '/d/*.db'", "/d/x/a.db"), None, "a star is one part of a path");
        assert_eq!(found("path: '/d/*/a.db'", "/d/x/a.db").as_deref(), Some("s3://b/p/x/a.db"));
        assert_eq!(found("path: '/d/**/*.db'", "/d/x/y/a.db").as_deref(), Some("s3://b/p/x/y/a.db"));
    }

    #[test]
    fn what_sqlite_and_we_keep_beside_a_database_is_none() {
        let keys = "dir: /d, pattern: '*', recursive: true";
        for path in ["/d/a-wal", "/d/a-shm", "/d/a-journal", "/d/.a-lifeboat/pages", "/d/.a-litestream/x"] {
            assert_eq!(found(keys, path), None, "{path}");
        }
        assert!(found(keys, "/d/a").is_some());
    }

    #[test]
    fn a_wrong_folder_is_refused_with_what_is_wrong() {
        let refusal = |keys: &str| {
            let text = format!("dbs: [{{{keys}, replica: {{url: 's3://b/p'}}}}]");
            Config::parse(&text).unwrap_err().message
        };
        assert!(refusal("dir: /d").contains("'pattern' is missing"));
        assert!(refusal("dir: /d, pattern: '[', path: /x").contains("one of"));
        assert!(refusal("dir: /d, pattern: '[a'").contains("'[a'"));
        assert!(refusal("dir: /d, pattern: '*', name: x").contains("'name'"));
        assert!(refusal("path: /d/a.db, pattern: '*'").contains("'dir'"));
        let twice = "dbs: [{dir: /d, pattern: '*', replica: {url: 's3://b/p'}}, {dir: /e, pattern: '*', replica: {url: 's3://b/p'}}]";
        assert!(Config::parse(twice).unwrap_err().message.contains("twice"));
    }
}
