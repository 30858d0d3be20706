//! `openclip demo`: the bundled model on the bundled images, which it never saw in training.

use anyhow::Result;

use crate::{arguments::Demo, outcome::Outcome};

#[cfg(not(feature = "emoji-clip"))]
pub fn run(_: &Demo) -> Result<Outcome> {
    anyhow::bail!("this build has no bundled model: build with the cargo feature `emoji-clip`")
}

#[cfg(feature = "emoji-clip")]
pub fn run(arguments: &Demo) -> Result<Outcome> {
    use openclip::{Clip, DecodedImage, ZeroShotClassifier, zoo::emoji_clip};

    use super::ranking::Ranking;

    let clip = Clip::builder(emoji_clip::NAME).build()?;
    let labels = emoji_clip::SAMPLE_IMAGES.map(|sample| sample.label.to_owned());
    let classifier = ZeroShotClassifier::new(&clip, &labels, &[emoji_clip::TEMPLATE])?;
    let mut right = 0;
    if !arguments.json {
        println!(
            "{} images in an art style that the model never saw, {} labels\n",
            emoji_clip::SAMPLE_IMAGES.len(),
            labels.len()
        );
        println!("{:20}  {:14}  {:>6}  {:14}  {:>6}", "image", "best label", "score", "second", "score");
    }
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
            println!(
                "{:20}  {:14}  {:>6.4}  {:14}  {:>6.4}  {}",
                sample.file,
                first.label,
                first.score,
                second.label,
                second.score,
                if correct { "" } else { "wrong" }
            );
        }
    }
    if !arguments.json {
        println!("\n{right} of {} right. Try your own:", emoji_clip::SAMPLE_IMAGES.len());
        println!(
            "  openclip classify IMAGE --labels \"cat face, rocket\" --template \"{}\"",
            emoji_clip::TEMPLATE
        );
    }
    Ok(Outcome::Done)
}
