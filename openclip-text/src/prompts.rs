//! Prompts of zero-shot classification: templates and class names that are known by name, and how they make a text.

/// The 80 templates of the original CLIP for ImageNet (`data/LICENSE-CLIP`).
pub fn openai() -> Vec<&'static str> {
    include_str!("../data/templates-openai.txt").lines().collect()
}

/// The 7 templates that together do nearly as well (`data/LICENSE-CLIP`).
pub fn simple() -> Vec<&'static str> {
    include_str!("../data/templates-simple.txt").lines().collect()
}

/// The names of ImageNet's 1000 classes, in their order (`data/LICENSE-CLIP`).
pub fn imagenet_classnames() -> Vec<&'static str> {
    include_str!("../data/imagenet-classnames.txt").lines().collect()
}

/// Whether a template has a place for the class name: `{}`, or `{c}` as CLIP_benchmark's files write it.
pub fn has_place(template: &str) -> bool {
    PLACES.iter().any(|place| template.contains(place))
}

/// The text that `template` makes of a class name.
pub fn fill(template: &str, name: &str) -> String {
    let [plain, named] = PLACES;
    // In one pass: a name may itself contain a place.
    template.split(plain).map(|part| part.replace(named, name)).collect::<Vec<_>>().join(name)
}

/// What stands for a class name.
const PLACES: [&str; 2] = ["{}", "{c}"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_has_one_place_for_the_label() {
        for (templates, count) in [(openai(), 80), (simple(), 7)] {
            assert_eq!(templates.len(), count);
            assert!(templates.iter().all(|template| template.matches("{}").count() == 1));
        }
    }

    #[test]
    fn imagenet_has_a_thousand_classes() {
        let names = imagenet_classnames();
        assert_eq!((names.len(), names[0], names[999]), (1000, "tench", "toilet paper"));
    }

    #[test]
    fn places_are_filled() {
        assert_eq!(fill("a {} and a {c}", "cat {} {c}"), "a cat {} {c} and a cat {} {c}");
        assert!(has_place("{c}.") && has_place("a {}") && !has_place("a photo of {0}"));
    }
}
