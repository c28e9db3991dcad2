//! Where the files of a log lie, as <https://c2sp.org/tlog-tiles> lays down.

use super::WIDTH;

/// The signed checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// The folder of all tiles and bundles.
pub(super) const TILES: &str = "tile";

/// The path of the tile `number` of `level` with `width` hashes.
pub(super) fn tile(level: u8, number: u64, width: usize) -> String {
    partial(format!("{TILES}/{level}/{}", groups(number)), width)
}

/// The path of the bundle `number` with `width` entries.
pub(super) fn entries(number: u64, width: usize) -> String {
    partial(format!("{TILES}/entries/{}", groups(number)), width)
}

/// The folder of the partial versions of the file whose full version has the path `full`.
pub(super) fn partials(full: &str) -> String {
    format!("{full}.p")
}

fn partial(full: String, width: usize) -> String {
    if width == WIDTH { full } else { format!("{}/{width}", partials(&full)) }
}

// Three digits to a path element, so that no folder has too many files; all but the last begin with an x.
fn groups(number: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    let mut rest = number / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_in_groups_of_three_digits() {
        assert_eq!(tile(0, 0, 256), "tile/0/000");
        assert_eq!(tile(3, 999, 256), "tile/3/999");
        assert_eq!(tile(1, 1000, 256), "tile/1/x001/000");
        assert_eq!(tile(4, 1_234_067, 256), "tile/4/x001/x234/067");
    }

    #[test]
    fn partial_files_name_their_width() {
        assert_eq!(tile(2, 1_234_067, 7), "tile/2/x001/x234/067.p/7");
        assert_eq!(entries(0, 255), "tile/entries/000.p/255");
        assert_eq!(partials(&entries(5, 256)), "tile/entries/005.p");
    }
}
