//! The checksum that runs through a WAL: every frame's includes all frames before it.

/// Order of the bytes in the words that a checksum adds up. A WAL names its own; checksums are *stored* big-endian
/// either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// Least significant byte first: what x86 and ARM machines create.
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    /// The order of this machine, which the WAL-index uses.
    pub const NATIVE: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };

    const fn word(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// A running checksum: two sums that depend on each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// The first sum.
    pub first: u32,
    /// The second sum.
    pub second: u32,
}

impl Checksum {
    /// The checksum with these bytes added. Bytes after the last multiple of eight are not counted; SQLite sums no such.
    #[must_use]
    pub fn update(self, order: ByteOrder, bytes: &[u8]) -> Self {
        let (mut first, mut second) = (self.first, self.second);
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            first = first.wrapping_add(order.word([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add(order.word([e, f, g, h])).wrapping_add(first);
        }
        Self { first, second }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_follow_the_definition_in_both_byte_orders() {
        let bytes = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0];
        let little = Checksum::default().update(ByteOrder::Little, &bytes);
        assert_eq!(little, Checksum { first: 1 + 3 + 3, second: 3 + 4 + 7 });
        let big = Checksum::default().update(ByteOrder::Big, &bytes);
        assert_eq!(big, Checksum { first: 7 << 24, second: 14 << 24 });
    }

    #[test]
    fn adding_bytes_in_two_steps_is_adding_them_at_once() {
        let bytes: Vec<u8> = (0..64).collect();
        let at_once = Checksum::default().update(ByteOrder::Little, &bytes);
        let in_steps = Checksum::default()
            .update(ByteOrder::Little, &bytes[..24])
            .update(ByteOrder::Little, &bytes[24..]);
        assert_eq!(at_once, in_steps);
    }
}
