//! Tables for people.

/// Columns that line up. Columns of numbers stand to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let width = |column: usize| {
        all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let numeric = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).all(|cell| {
            let number = cell.strip_prefix('~').unwrap_or(cell);
            cell == "-" || number.starts_with(|first: char| first.is_ascii_digit()) && !cell.contains("://")
        })
    };
    let numeric: Vec<bool> = (0..header.len()).map(numeric).collect();
    let mut text = String::new();
    for row in all() {
        let cells: Vec<String> = row
            .iter()
            .zip(widths.iter().zip(&numeric))
            .map(|(cell, (&width, &numeric))| match numeric {
                true => format!("{cell:>width$}"),
                false => format!("{cell:width$}"),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
