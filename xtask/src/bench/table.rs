//! Tables whose columns line up.

/// Renders rows under a heading: the first column and those in `left` are text, the others numbers.
pub fn render(heading: &[&str], left: &[usize], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = heading.iter().map(|&title| title.to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&heading]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in [&heading].into_iter().chain(rows) {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            if column == 0 || left.contains(&column) {
                format!("{cell:width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows =
            [vec!["a".into(), "1.25".into(), "what".into()], vec!["bcd".into(), "10".into(), "é".into()]];
        let text = render(&["name", "n", "note"], &[2], &rows);
        assert_eq!(text, "name     n  note\na     1.25  what\nbcd     10  é\n");
    }
}
