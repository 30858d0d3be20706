//! What of a batch of texts a tower is given.

use openclip_core::{TextInfo, TextReach, TokenBatch, backend::TokenPosition};

fn info(reach: TextReach) -> TextInfo {
    TextInfo { context_length: 8, vocab_size: 100, embed_dim: 4, reach, pad_id: None, eos_id: None }
}

fn arranged(reach: TextReach, rows: &[[u32; 5]], whole: bool) -> Result<Vec<Vec<u32>>, String> {
    let batch = TokenBatch::new(rows.len(), 5, rows.concat()).map_err(|error| error.to_string())?;
    let arranged = info(reach).arranged(&batch, whole).map_err(|error| error.to_string())?;
    Ok(arranged.iter().map(<[u32]>::to_vec).collect())
}

#[test]
fn positions_that_no_embedding_depends_on_are_left_out() {
    let rows = [[5, 9, 0, 0, 0], [5, 6, 9, 0, 0]];
    let all = rows.map(|row| row.to_vec()).to_vec();
    let cut: Vec<_> = all.iter().map(|row| row[..3].to_vec()).collect();
    let unpadded = TextReach::Unpadded { pad_id: 0, counts_tokens: false };
    for reach in [TextReach::To(TokenPosition::HighestId), TextReach::To(TokenPosition::First(9)), unpadded] {
        assert_eq!(arranged(reach, &rows, false), Ok(cut.clone()), "{reach:?}");
        assert_eq!(arranged(reach, &rows, true), Ok(all.clone()), "{reach:?}");
    }
    assert_eq!(arranged(TextReach::Whole, &rows, false), Ok(all));
}

#[test]
fn padding_between_tokens_moves_where_it_is_not_counted() {
    let rows = [[5, 1, 6, 1, 7], [5, 6, 1, 1, 1]];
    let counted = TextReach::Unpadded { pad_id: 1, counts_tokens: false };
    assert_eq!(arranged(counted, &rows, false), Ok(rows.map(|row| row.to_vec()).to_vec()));
    let not_counted = TextReach::Unpadded { pad_id: 1, counts_tokens: true };
    assert_eq!(arranged(not_counted, &rows, false), Ok(vec![vec![5, 6, 7], vec![5, 6, 1]]));
    assert_eq!(arranged(not_counted, &rows, true), Ok(vec![vec![5, 6, 7, 1, 1], vec![5, 6, 1, 1, 1]]));
}

#[test]
fn a_text_that_is_padding_alone_is_refused() {
    let reach = TextReach::Unpadded { pad_id: 0, counts_tokens: true };
    let error = arranged(reach, &[[5, 0, 0, 0, 0], [0; 5]], false).unwrap_err();
    assert_eq!(error, "text 1 of the batch is nothing but padding");
    assert_eq!(reach.length(&[0, 0]), 1);
}
