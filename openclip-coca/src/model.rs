//! CoCa as a whole: image tower, text tower, decoder.

use openclip_core::{
    Backend, CaptionFamily, CaptionInfo, CaptionTower, Dim, Error, Growth, ImageFamily, ImageTower,
    ModelConfig, Reading, Result, Symbol, Taps, TextFamily, TextTower, Weights,
    backend::{ShapeBackend, ShapeTensor},
    nn::{Extended, KeyValues},
    weights::synth::SynthesisedWeights,
};
use openclip_text::{HuggingFaceTextFamily, TextTransformer, TextTransformerConfig, TextTransformerFamily};
use openclip_vision::VisionTransformerFamily;

use crate::{MultimodalConfig, MultimodalDecoder, config::SECTION};

/// Number of token ids of a `text_cfg` that doesn't say it.
const VOCAB_SIZE: usize = 49408;

/// The family of CoCa models: every configuration with a `multimodal_cfg`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CocaFamily;

/// The kinds of text towers.
enum TextKind {
    Transformer,
    HuggingFace,
}

impl TextKind {
    fn of(config: &ModelConfig) -> Result<Self> {
        let accepted = [
            (TextTransformerFamily.accepts(&config.text_cfg), Self::Transformer),
            (HuggingFaceTextFamily.accepts(&config.text_cfg), Self::HuggingFace),
        ];
        let found = accepted.into_iter().find_map(|(accepts, kind)| accepts.then_some(kind));
        found.ok_or_else(|| {
            Error::config("text_cfg", "CoCa models have a text transformer or one of `transformers`")
        })
    }
}

impl CocaFamily {
    /// Number of token ids that have a logit: what the text section says, whatever the text tower itself is.
    fn logits(config: &ModelConfig) -> Result<usize> {
        let Some(value) = config.text_cfg.get("vocab_size") else { return Ok(VOCAB_SIZE) };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number
            .ok_or_else(|| Error::config("text_cfg", format!("`vocab_size` is {value}, which is no number")))
    }

    /// Number and width of an image's tokens.
    fn image_tokens(config: &ModelConfig) -> Result<[usize; 2]> {
        let [height, width] = VisionTransformerFamily.info(config)?.image_size;
        let any = Weights::new(std::sync::Arc::new(SynthesisedWeights::new()));
        let tower = VisionTransformerFamily.build(&ShapeBackend, config, &any)?;
        let pixels = ShapeTensor(vec![Dim::symbol(Symbol::BATCH), 3.into(), height.into(), width.into()]);
        let tokens = tower.forward(&ShapeBackend, &pixels, &mut Taps::tokens())?.tokens;
        match tokens.as_ref().map(|tokens| tokens.0.as_slice()) {
            Some([_, Dim::Fixed(count), Dim::Fixed(width)]) => Ok([*count, *width]),
            _ => Err(Error::config(
                "vision_cfg",
                "the image tower leaves no tokens for a decoder to attend to",
            )),
        }
    }
}

impl CaptionFamily for CocaFamily {
    fn name(&self) -> &'static str {
        "coca"
    }

    fn accepts(&self, config: &ModelConfig) -> bool {
        config.multimodal_cfg.is_some()
    }

    fn info(&self, config: &ModelConfig) -> Result<CaptionInfo> {
        let decoder = MultimodalConfig::of(config)?;
        let mismatch = |section: &str, width: usize| {
            let message =
                format!("{section} gives tokens of width {width}, the decoder takes {}", decoder.width);
            Err(Error::config(SECTION, message))
        };
        if !VisionTransformerFamily.accepts(&config.vision_cfg) {
            return Err(Error::config("vision_cfg", "CoCa models have a native vision transformer"));
        }
        let [image_tokens, width] = Self::image_tokens(config)?;
        if width != decoder.width {
            return mismatch("vision_cfg", width);
        }
        let (text, reading, text_layers) = match TextKind::of(config)? {
            TextKind::HuggingFace => (HuggingFaceTextFamily.info(config)?, Reading::Whole, 0),
            TextKind::Transformer => {
                let text = TextTransformerConfig::of(config)?;
                if text.width != decoder.width {
                    return mismatch("text_cfg", text.width);
                }
                let info = TextTransformerFamily.info(config)?;
                let hides_next = text.embed_cls.then_some(text.pad_id);
                let reading = match text.no_causal_mask {
                    true => Reading::Whole,
                    false => Reading::Causal { positions: text.positions(), hides_next },
                };
                (info, reading, text.layers)
            }
        };
        Ok(CaptionInfo {
            image: VisionTransformerFamily.info(config)?,
            context_length: text.context_length.min(decoder.context_length),
            vocab_size: text.vocab_size,
            logits: Self::logits(config)?,
            reading,
            width: decoder.width,
            text_layers,
            decoder_layers: decoder.layers,
            image_tokens,
        })
    }

    fn build<B: Backend>(
        &self,
        backend: &B,
        config: &ModelConfig,
        w: &Weights,
    ) -> Result<Box<dyn CaptionTower<B>>> {
        let info = self.info(config)?;
        let decoder = MultimodalConfig::of(config)?;
        let visual = VisionTransformerFamily.build(backend, config, &w.scope("visual"))?;
        let text = w.scope("text");
        let text = match TextKind::of(config)? {
            TextKind::Transformer => Text::Transformer(TextTransformer::new(backend, config, &text)?),
            TextKind::HuggingFace => Text::Other(HuggingFaceTextFamily.build(backend, config, &text)?),
        };
        let text_decoder = MultimodalDecoder::new(
            backend,
            &decoder,
            config.quick_gelu,
            info.logits,
            &w.scope("text_decoder"),
        )?;
        Ok(Box::new(Coca { info, visual, text, text_decoder }))
    }
}

/// A CoCa model, its fields named after the scopes of its parameters.
pub struct Coca<B: Backend> {
    info: CaptionInfo,
    visual: Box<dyn ImageTower<B>>,
    text: Text<B>,
    text_decoder: MultimodalDecoder<B>,
}

/// A text tower.
enum Text<B: Backend> {
    Transformer(TextTransformer<B>),
    Other(Box<dyn TextTower<B>>),
}

impl<B: Backend> Text<B> {
    /// Tokens `[T, L, width]` of whole texts `[T, L]`.
    fn tokens(&self, backend: &B, ids: &B::Tensor) -> Result<B::Tensor> {
        let output = match self {
            Self::Transformer(tower) => tower.forward(backend, ids, &mut Taps::tokens()),
            Self::Other(tower) => tower.forward(backend, ids, &mut Taps::tokens()),
        };
        output?.tokens.ok_or_else(|| Error::config("text_cfg", "the text tower leaves no tokens"))
    }
}

impl<B: Backend> CaptionTower<B> for Coca<B> {
    fn look(&self, backend: &B, pixels: &B::Tensor) -> Result<Vec<KeyValues<B::Tensor>>> {
        let tokens = self.visual.forward(backend, pixels, &mut Taps::tokens())?.tokens;
        let tokens = tokens.ok_or_else(|| Error::config("vision_cfg", "the image tower leaves no tokens"))?;
        self.text_decoder.look(backend, &tokens)
    }

    fn grow(&self, backend: &B, growth: &Growth<B::Tensor>) -> Result<Extended<B::Tensor>> {
        let (Text::Transformer(text), Reading::Causal { .. }) = (&self.text, self.info.reading) else {
            return Err(Error::InvalidArgument("texts of this model are read as a whole".to_owned()));
        };
        let &Growth { ids, positions, text_bias, decoder_bias, known, image } = growth;
        let (known_text, known) = known.split_at(known.len().min(self.info.text_layers));
        let Extended { output, known: mut grown } =
            text.extend(backend, ids, positions, text_bias, known_text)?;
        let logits = self.text_decoder.extend(backend, output, decoder_bias, known, image)?;
        grown.extend(logits.known);
        Ok(Extended { output: logits.output, known: grown })
    }

    fn read(&self, backend: &B, ids: &B::Tensor, image: &[KeyValues<B::Tensor>]) -> Result<B::Tensor> {
        let x = self.text.tokens(backend, ids)?;
        let all = |one: &B::Tensor| backend.expand_batch(one, &x);
        let image: Vec<_> = image
            .iter()
            .map(|layer| Ok(KeyValues { keys: all(&layer.keys)?, values: all(&layer.values)? }))
            .collect::<Result<_>>()?;
        self.text_decoder.forward(backend, x.clone(), &image)
    }
}
