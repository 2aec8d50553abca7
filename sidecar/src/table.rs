//! Lists for people: columns below one another, sizes and times as one reads them.

use std::fmt::Write as _;

/// The rows, the first of them with the headings, each column as wide as its longest cell.
#[must_use]
pub fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// A time of RFC 3339 without its fractions; what is none stays as it is.
#[must_use]
pub fn to_the_second(time: &str) -> String {
    let shown =
        time.parse::<jiff::Timestamp>().ok().map(|time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    shown.unwrap_or_else(|| time.to_owned())
}

/// A number of bytes, such as `8.00 KiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// So many of something, such as `1 database` or `3 databases`.
#[must_use]
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
