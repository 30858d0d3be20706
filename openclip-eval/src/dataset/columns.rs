//! Tables of samples: which columns hold images, captions and classes, by the names that are in use.

use super::open::Wanted;

/// Names of a column with an image or its path, the first that there is.
const IMAGE: &[&str] =
    &["image", "img", "filepath", "file_path", "image_path", "path", "filename", "file_name"];
/// Names of a column with a caption, or several.
const CAPTION: &[&str] =
    &["caption", "captions", "title", "text", "texts", "sentence", "sentences", "sentids"];
/// Names of a column with a caption that doesn't fit.
const NEGATIVE: &[&str] = &["negative_caption", "negative_captions"];
/// Names of a column with the class, or several.
const LABEL: &[&str] = &["label", "labels", "fine_label", "class", "target"];

/// The places of the columns that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    /// Images: one, or one for each that is to choose from.
    pub images: Vec<usize>,
    /// Captions, in the order in which they are to choose from.
    pub captions: Vec<usize>,
    /// The class.
    pub label: Option<usize>,
    /// The split that a row belongs to.
    pub split: Option<usize>,
}

impl Columns {
    /// Finds what is wanted among `names`. Says what is missing, otherwise.
    pub fn find<S: AsRef<str>>(names: &[S], wanted: Wanted) -> Result<Self, String> {
        let place =
            |name: &str| names.iter().position(|known| known.as_ref().trim().eq_ignore_ascii_case(name));
        let first = |known: &[&str]| known.iter().find_map(|name| place(name));
        // image_0, image_1, ...: Winoground's.
        let numbered =
            |stem: &str| -> Vec<usize> { (0..).map_while(|i| place(&format!("{stem}_{i}"))).collect() };
        let or_first = |places: Vec<usize>, known: &[&str]| match places.is_empty() {
            true => first(known).into_iter().collect(),
            false => places,
        };
        let missing = |what: &str, known: &[&str]| {
            let found: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
            let (known, found) = (known.join(", "), found.join(", "));
            format!("there is no column with {what} (one of {known}); the columns are {found}")
        };
        let split = place("split");
        let (images, captions, label) = match wanted {
            Wanted::Classes => {
                let label = first(LABEL).ok_or_else(|| missing("a class", LABEL))?;
                (first(IMAGE).into_iter().collect(), Vec::new(), Some(label))
            }
            Wanted::Captions => {
                let captions = or_first(numbered("caption"), CAPTION);
                (first(IMAGE).into_iter().collect(), captions, None)
            }
            Wanted::Choices => {
                let mut captions = or_first(numbered("caption"), CAPTION);
                captions.extend(first(NEGATIVE));
                (or_first(numbered("image"), IMAGE), captions, None)
            }
        };
        if images.is_empty() {
            return Err(missing("an image", IMAGE));
        }
        if captions.is_empty() && wanted != Wanted::Classes {
            return Err(missing("a caption", CAPTION));
        }
        Ok(Self { images, captions, label, split })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_the_names_that_are_in_use() {
        let open_clip = Columns::find(&["filepath", "title"], Wanted::Captions).unwrap();
        assert_eq!((open_clip.images, open_clip.captions), (vec![0], vec![1]));
        let winoground = ["id", "image_0", "image_1", "caption_0", "caption_1"];
        let winoground = Columns::find(&winoground, Wanted::Choices).unwrap();
        assert_eq!((winoground.images, winoground.captions), (vec![1, 2], vec![3, 4]));
        let sugar_crepe =
            Columns::find(&["filename", "caption", "negative_caption"], Wanted::Choices).unwrap();
        assert_eq!((sugar_crepe.images, sugar_crepe.captions), (vec![0], vec![1, 2]));
        let classes = Columns::find(&["Split", "img", "label"], Wanted::Classes).unwrap();
        assert_eq!((classes.images, classes.label, classes.split), (vec![1], Some(2), Some(0)));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (names, wanted, part) in [
            (["a", "label"], Wanted::Classes, "no column with an image (one of image, "),
            (["image", "caption"], Wanted::Classes, "no column with a class"),
            (["image", "label"], Wanted::Captions, "the columns are image, label"),
        ] {
            let error = Columns::find(&names, wanted).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
