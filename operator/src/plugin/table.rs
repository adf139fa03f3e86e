//! Columns of text, as wide as what stands in them.

/// Between columns.
const GAP: usize = 2;

/// Rows of cells under a heading, each line behind `indent`; nothing where there are no rows. The last column is not padded.
#[must_use]
pub fn table(indent: &str, heading: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heading: Vec<String> = heading.iter().map(|name| (*name).to_owned()).collect();
    let all = || std::iter::once(&heading).chain(rows);
    let width = |n: usize| all().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            line += cell;
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + GAP));
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let text = table("  ", &["A", "LONG"], &[row(&["größer", "x"]), row(&["b", ""])]);
        assert_eq!(text, "  A       LONG\n  größer  x\n  b\n");
        assert_eq!(table("", &["A"], &[]), "");
    }
}
