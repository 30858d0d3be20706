//! Prompt templates by name: the 80 of the original CLIP for ImageNet, and the 7 best of them.

/// The 80 templates of the original CLIP for ImageNet (`data/LICENSE-CLIP`).
pub fn openai() -> Vec<&'static str> {
    include_str!("../data/templates-openai.txt").lines().collect()
}

/// The 7 templates that together do nearly as well (`data/LICENSE-CLIP`).
pub fn simple() -> Vec<&'static str> {
    include_str!("../data/templates-simple.txt").lines().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_template_has_one_place_for_the_label() {
        for (templates, count) in [(super::openai(), 80), (super::simple(), 7)] {
            assert_eq!(templates.len(), count);
            assert!(templates.iter().all(|template| template.matches("{}").count() == 1));
        }
    }
}
