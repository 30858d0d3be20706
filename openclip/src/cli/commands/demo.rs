//! `openclip demo`: the bundled model on the bundled images, which it never saw in training.

use anyhow::Result;

use crate::cli::{arguments::Demo, outcome::Outcome};

#[cfg(not(feature = "emoji-clip"))]
pub fn run(_: &Demo) -> Result<Outcome> {
    anyhow::bail!("this build has no bundled model: build with the cargo feature `emoji-clip`")
}

#[cfg(feature = "emoji-clip")]
pub fn run(arguments: &Demo) -> Result<Outcome> {
    use std::{
        fmt::Write as _,
        io::{Write, stdout},
    };

    use crate::{Clip, DecodedImage, ZeroShotClassifier, zoo::emoji_clip};
    use anyhow::Context;

    use super::ranking::Ranking;

    let clip = Clip::builder(emoji_clip::NAME).build()?;
    let labels = emoji_clip::SAMPLE_IMAGES.map(|sample| sample.label.to_owned());
    let classifier = ZeroShotClassifier::new(&clip, &labels, &[emoji_clip::TEMPLATE])?;
    let mut right = 0;
    let mut text = format!(
        "{} images in an art style that the model never saw, {} labels\n\n{:20}  {:14}  {:>6}  {:14}  {:>6}\n",
        emoji_clip::SAMPLE_IMAGES.len(),
        labels.len(),
        "image",
        "best label",
        "score",
        "second",
        "score"
    );
    for sample in &emoji_clip::SAMPLE_IMAGES {
        let image = DecodedImage::from_bytes(sample.file, sample.png)?;
        let scores = classifier.scores(&clip.encode_image(&image)?);
        let ranking = Ranking::new(sample.file, &labels, &scores, None);
        if arguments.json {
            ranking.print_json()?;
            continue;
        }
        if let [first, second, ..] = ranking.labels.as_slice() {
            let correct = first.label == sample.label;
            right += usize::from(correct);
            let verdict = if correct { "" } else { "  wrong" };
            writeln!(
                text,
                "{:20}  {:14}  {:>6.4}  {:14}  {:>6.4}{verdict}",
                sample.file, first.label, first.score, second.label, second.score,
            )?;
        }
    }
    if !arguments.json {
        let (total, template) = (labels.len(), emoji_clip::TEMPLATE);
        writeln!(text, "\n{right} of {total} right. Try your own:")?;
        writeln!(text, "  openclip classify IMAGE --labels \"cat face, rocket\" --template \"{template}\"")?;
        stdout().write_all(text.as_bytes()).context("stdout")?;
    }
    Ok(Outcome::Done)
}
