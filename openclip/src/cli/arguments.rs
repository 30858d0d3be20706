//! The command line.

use std::{env, path::PathBuf};

use crate::{
    BackendKind, ClipBuilder, DeviceSpec, Indices, Precision, PreprocessOverrides,
    coca::{GenerationOptions, Method},
    vision::preprocess,
    zoo::{
        build::BackendOptions,
        hub::{Hub, HubConfig},
    },
};
use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::{Program, eval::arguments::Eval, outcome::UsageError, progress};

/// Embed, classify, caption and compare images and texts with OpenCLIP models.
#[derive(Parser)]
#[command(name = "openclip", version, about, max_term_width = 100)]
pub struct Arguments {
    /// Print errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// List the models that there are, or show one
    Models(Models),
    /// Download a model into the cache and verify it
    Pull(Pull),
    /// Say which labels fit images best
    Classify(Classify),
    /// Describe images in words, with a CoCa model
    Caption(Caption),
    /// Turn images or texts into vectors
    Embed(Embed),
    /// Look inside a model: what its stages compute of an image or a text, and what it attends to
    Inspect(Inspect),
    /// Measure how good a model is: zero-shot classification, retrieval, caption selection, captions, linear probe
    Eval(Eval),
    /// Write a model as ONNX files
    Export(Export),
    /// Write a model with its weights in 8-bit integers, a quarter of the size
    Quantize(Quantize),
    /// Classify the bundled sample images with the bundled model; needs no network
    Demo(Demo),
}

/// Which model.
#[derive(Args)]
pub struct ModelChoice {
    /// Architecture, `hf-hub:ORG/NAME`, `local-dir:PATH`, or a checkpoint file
    #[arg(long, value_name = "NAME", default_value = "emoji-clip")]
    pub model: String,
    /// Weights of an architecture: a tag (see `openclip models show NAME`) or a checkpoint file
    #[arg(long, value_name = "TAG|FILE")]
    pub pretrained: Option<String>,
    /// Another input size, `SIZE` or `HEIGHTxWIDTH`; the position embedding is resized
    #[arg(long, value_name = "SIZE", value_parser = image_size)]
    pub image_size: Option<[usize; 2]>,
    /// Another number of tokens per text; the position embedding is resized
    #[arg(long, value_name = "N", value_parser = positive)]
    pub context_length: Option<usize>,
    /// QuickGELU although the model's configuration doesn't say so
    #[arg(long)]
    pub force_quick_gelu: bool,
    /// The text tower as a part of its own, which heeds settings that the plain form passes over
    #[arg(long)]
    pub force_custom_text: bool,
    /// Other channel means than the model's, of values in 0 to 1: `R,G,B`, or one number for all
    #[arg(long, value_name = "VALUES", value_parser = per_channel, allow_hyphen_values = true)]
    pub image_mean: Option<[f64; 3]>,
    /// Other channel standard deviations: `R,G,B`, or one number for all
    #[arg(long, value_name = "VALUES", value_parser = positive_per_channel)]
    pub image_std: Option<[f64; 3]>,
    /// Another filter that resizes
    #[arg(long, value_name = "NAME", value_enum)]
    pub image_interpolation: Option<Interpolation>,
    /// How images are brought to the model's size: crop what is longer, pad what is shorter, or squash
    #[arg(long, value_name = "NAME", value_enum)]
    pub image_resize_mode: Option<ResizeMode>,
    /// Value of the padding's channels, 0 to 255
    #[arg(long, value_name = "VALUE")]
    pub image_fill_color: Option<u8>,
    /// The language of texts and labels for NLLB models, such as fra_Latn; English where nothing is said
    #[arg(long, value_name = "CODE")]
    pub language: Option<String>,
}

impl ModelChoice {
    /// A builder of the model, with a progress bar for downloads.
    pub fn builder(&self, program: &Program) -> ClipBuilder {
        let hub = Hub::new(HubConfig::from_env()).with_progress(progress::download(program.quiet));
        let mut builder = program.clip(&self.model).hub(hub);
        if let Some(pretrained) = &self.pretrained {
            builder = builder.pretrained(pretrained);
        }
        if let Some([height, width]) = self.image_size {
            builder = builder.image_size(height, width);
        }
        if let Some(context_length) = self.context_length {
            builder = builder.context_length(context_length);
        }
        if self.force_quick_gelu {
            builder = builder.quick_gelu();
        }
        if self.force_custom_text {
            builder = builder.custom_text();
        }
        if let Some(language) = &self.language {
            builder = builder.language(language);
        }
        builder.preprocess(PreprocessOverrides {
            mean: self.image_mean,
            std: self.image_std,
            interpolation: self.image_interpolation.map(Into::into),
            resize_mode: self.image_resize_mode.map(Into::into),
            fill_color: self.image_fill_color,
        })
    }
}

/// Filters that resize.
#[derive(Clone, Copy, ValueEnum)]
pub enum Interpolation {
    Bicubic,
    Bilinear,
}

impl From<Interpolation> for preprocess::Interpolation {
    fn from(interpolation: Interpolation) -> Self {
        match interpolation {
            Interpolation::Bicubic => Self::Bicubic,
            Interpolation::Bilinear => Self::Bilinear,
        }
    }
}

/// Ways to bring images to the model's size.
#[derive(Clone, Copy, ValueEnum)]
pub enum ResizeMode {
    Shortest,
    Longest,
    Squash,
}

impl From<ResizeMode> for preprocess::ResizeMode {
    fn from(mode: ResizeMode) -> Self {
        match mode {
            ResizeMode::Shortest => Self::Shortest,
            ResizeMode::Longest => Self::Longest,
            ResizeMode::Squash => Self::Squash,
        }
    }
}

/// Which images, and how they are read.
#[derive(Args)]
pub struct ImageArguments {
    /// Image files, folders (searched through), or `-` for a list of paths on stdin
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// Decode large JPEGs at a half, a quarter or an eighth of their size where that leaves at least twice what the model
    /// takes: photos of 12 megapixels are prepared in less than half the time, and embeddings are no longer exactly the
    /// reference's (cosine 0.9999 on average, 0.9992 at worst where it was measured)
    #[arg(long)]
    pub fast_decode: bool,
}

/// Which model, and what it runs on.
#[derive(Args)]
pub struct ModelArguments {
    #[command(flatten)]
    pub choice: ModelChoice,
    /// What computes: candle, tch or ort, of those that are built in
    #[arg(long, value_name = "NAME", default_value_t = BackendOptions::default().kind)]
    pub backend: BackendKind,
    /// Where: cpu, cuda, cuda:N or metal
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub device: DeviceSpec,
    /// f32, f16, bf16, int8 or int8-weights (integer weights, f32 arithmetic: the least memory)
    #[arg(long, value_name = "NAME", default_value = "f32")]
    pub precision: Precision,
    /// Images or texts that run through the model together
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    pub batch_size: usize,
    /// Threads that run the model; as many more prepare images while a batch runs. All cores where nothing is said
    #[arg(long, value_name = "N", value_parser = positive)]
    pub threads: Option<usize>,
    /// Keep packed weights in this folder (candle on a CPU): models start in a fraction of the time from the second time
    /// on, for about as much disk space as the weights take in the precision. Empty the folder to be rid of them
    /// [env: OPENCLIP_PACKED_CACHE]
    #[arg(long, value_name = "DIR")]
    pub packed_cache: Option<PathBuf>,
}

impl ModelArguments {
    /// A builder of the model, with a progress bar for downloads.
    pub fn builder(&self, program: &Program) -> Result<ClipBuilder> {
        let mut builder = self.choice.builder(program);
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        // Not left to clap, for which a variable that is set to nothing is an error.
        let from_environment = || env::var_os("OPENCLIP_PACKED_CACHE").filter(|folder| !folder.is_empty());
        if let Some(folder) = self.packed_cache.clone().or_else(|| from_environment().map(PathBuf::from)) {
            builder = builder.packed_cache(folder);
        }
        Ok(builder.backend(self.backend).device(self.device).precision(self.precision))
    }

    /// Threads that prepare images.
    pub fn loader_threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

fn per_channel(text: &str) -> Result<[f64; 3], String> {
    let values: Result<Vec<f64>, _> = text.split(',').map(|value| value.trim().parse()).collect();
    let values = values.map_err(|error| error.to_string())?;
    match *values.as_slice() {
        [value] if value.is_finite() => Ok([value; 3]),
        [r, g, b] if values.iter().all(|value| value.is_finite()) => Ok([r, g, b]),
        _ => Err("must be one finite number or three".to_owned()),
    }
}

fn positive_per_channel(text: &str) -> Result<[f64; 3], String> {
    let values = per_channel(text)?;
    // In single precision, in which they are used.
    match values.iter().all(|&value| value as f32 > 0.0) {
        true => Ok(values),
        false => Err("must be positive".to_owned()),
    }
}

fn indices(text: &str) -> Result<Indices, String> {
    if text == "all" {
        return Ok(Indices::All);
    }
    let places: Result<Vec<isize>, _> = text.split(',').map(|place| place.trim().parse()).collect();
    places.map(Indices::At).map_err(|error| format!("{error}: give `all` or a list such as 0,5,-1"))
}

fn image_size(text: &str) -> Result<[usize; 2], String> {
    match text.split_once('x') {
        Some((height, width)) => Ok([positive(height)?, positive(width)?]),
        None => positive(text).map(|size| [size; 2]),
    }
}

/// List the models that there are, or show one.
#[derive(Args)]
#[command(after_help = "Examples:
  openclip models list --family ViT
  openclip models list --pretrained --json
  openclip models show ViT-B-32")]
pub struct Models {
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
}

/// `models list` and `models show`.
#[derive(Subcommand)]
pub enum ModelsCommand {
    /// A line per architecture, or per pretrained tag
    List(ModelsList),
    /// All that is known of an architecture and its weights
    Show {
        /// The architecture
        name: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

/// A line per architecture, or per pretrained tag. A size with `~` is what the parameters take in 32-bit floats: that of the file
/// isn't known until it is downloaded. Licences are those that the hub shows for the weights, `-` where that isn't known.
#[derive(Args, Default)]
pub struct ModelsList {
    /// Only this family
    #[arg(long, value_name = "NAME")]
    pub family: Option<String>,
    /// A line per pretrained tag
    #[arg(long)]
    pub pretrained: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Download a model into the cache and verify it.
#[derive(Args)]
#[command(after_help = "Examples:
  openclip pull --model ViT-B-32 --pretrained laion2b_s34b_b79k
  openclip pull --model hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K")]
pub struct Pull {
    /// Architecture, or `hf-hub:ORG/NAME`
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Weights of an architecture
    #[arg(long, value_name = "TAG")]
    pub pretrained: Option<String>,
}

/// Say which labels fit images best.
#[derive(Args)]
#[command(after_help = "Examples:
  openclip classify cat.png --labels \"cat face, rocket, pizza\" --template \"an emoji of {}\"
  openclip classify photos/ --model ViT-B-32 --pretrained laion2b_s34b_b79k --labels-file classes.txt \\
      --templates openai --top-k 3 --json")]
pub struct Classify {
    #[command(flatten)]
    pub images: ImageArguments,
    /// Labels, separated by commas
    #[arg(
        long,
        value_name = "A,B,..",
        conflicts_with = "labels_file",
        required_unless_present = "labels_file"
    )]
    pub labels: Option<String>,
    /// A file with a label a line
    #[arg(long, value_name = "FILE")]
    pub labels_file: Option<PathBuf>,
    /// The text for a label, `{}` standing for it; may be given several times
    #[arg(long, value_name = "TEXT", conflicts_with = "templates")]
    pub template: Vec<String>,
    /// A known set of templates: openai (80) or simple (7)
    #[arg(long, value_name = "NAME")]
    pub templates: Option<Templates>,
    /// Print only so many labels of each image
    #[arg(long, value_name = "K", value_parser = positive)]
    pub top_k: Option<usize>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArguments,
}

/// Describe images in words, with a CoCa model.
#[derive(Args)]
#[command(after_help = "Examples:
  openclip caption cat.jpg --model coca_ViT-B-32 --pretrained mscoco_finetuned_laion2b_s13b_b90k
  openclip caption photos/ --model coca_ViT-L-14 --pretrained mscoco_finetuned_laion2b_s13b_b90k \\
      --generation top_p --top-p 0.9 --seed 1 --json
  openclip caption cat.jpg --score captions.txt --model coca_ViT-L-14 --pretrained laion2b_s13b_b90k")]
pub struct Caption {
    #[command(flatten)]
    pub images: ImageArguments,
    #[command(flatten)]
    pub generation: GenerationArguments,
    /// Instead of writing captions, print the perplexity of each line of a file as a caption, best first
    #[arg(long, value_name = "FILE")]
    pub score: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArguments,
}

/// How captions are generated, with the defaults of the reference.
#[derive(Args)]
pub struct GenerationArguments {
    /// How tokens are chosen: the best of several texts, or drawn from the likeliest tokens
    #[arg(long, value_enum, value_name = "METHOD", default_value_t = GenerationMethod::BeamSearch)]
    pub generation: GenerationMethod,
    /// Texts that beam search keeps
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub num_beams: usize,
    /// Groups of beams that don't compete with each other; it has to divide the number of beams
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub num_beam_groups: usize,
    /// Draw from so many tokens; 1 always takes the likeliest
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub top_k: usize,
    /// Draw from the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.1, allow_negative_numbers = true)]
    pub top_p: f32,
    /// Divides the logits before a token is drawn: above 1 for more variety
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Makes tokens less likely that the text has already: above 1
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    pub repetition_penalty: f32,
    /// Tokens at most, start token and prompt included
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub seq_len: usize,
    /// Tokens before a text may end
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub min_seq_len: usize,
    /// Tokens that sampling looks back at
    #[arg(long, value_name = "N", default_value_t = 77)]
    pub max_seq_len: usize,
    /// Pad the tokens to --seq-len
    #[arg(long)]
    pub fixed_output_length: bool,
    /// What sampling is deterministic in
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// A text that the captions go on from
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
}

/// How tokens are chosen, by the reference's names.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum GenerationMethod {
    /// The best of several texts.
    BeamSearch,
    /// Drawn from a number of the likeliest tokens.
    TopK,
    /// Drawn from the likeliest tokens that together have a probability.
    TopP,
}

/// A known set of prompt templates.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Templates {
    /// The 80 of the original CLIP.
    Openai,
    /// The 7 best of them.
    Simple,
}

/// Turn images or texts into vectors.
#[derive(Args)]
pub struct Embed {
    #[command(subcommand)]
    pub command: EmbedCommand,
}

/// `embed image` and `embed text`.
#[derive(Subcommand)]
pub enum EmbedCommand {
    /// Embed image files
    #[command(after_help = "Examples:
  openclip embed image photos/ -o photos.npy --model ViT-B-32 --pretrained laion2b_s34b_b79k
  find . -name '*.jpg' | openclip embed image - -o photos.jsonl")]
    Image(EmbedImage),
    /// Embed texts
    #[command(after_help = "Examples:
  openclip embed text \"a cat\" \"a dog\" -o texts.npy
  openclip embed text --input captions.txt -o captions.safetensors")]
    Text(EmbedText),
}

/// Embed image files.
#[derive(Args)]
pub struct EmbedImage {
    #[command(flatten)]
    pub images: ImageArguments,
    #[command(flatten)]
    pub output: OutputArguments,
    #[command(flatten)]
    pub model: ModelArguments,
}

/// Embed texts.
#[derive(Args)]
pub struct EmbedText {
    /// Texts
    #[arg(value_name = "TEXT", required_unless_present = "input")]
    pub texts: Vec<String>,
    /// A file with a text a line, or `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    pub input: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArguments,
    #[command(flatten)]
    pub model: ModelArguments,
}

/// Where embeddings go.
#[derive(Args)]
pub struct OutputArguments {
    /// .npy or .safetensors ([N, D] in f32, rows in the inputs' order), or .jsonl; JSON lines on stdout where nothing
    /// is said
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Leave the vectors as the model gives them instead of scaling them to unit length
    #[arg(long)]
    pub no_normalize: bool,
    /// JSON lines on stdout, which is the default without -o
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}

/// Look inside a model.
#[derive(Args)]
#[command(after_help = "Examples:
  openclip inspect image cat.png --picture attention.png
  openclip inspect image cat.png --stages=-1 -o features.safetensors --model ViT-B-32 --pretrained laion2b_s34b_b79k
  openclip inspect text \"a cat\" --stages 0,5,-1 --attention all -o cat.safetensors")]
pub struct Inspect {
    #[command(subcommand)]
    pub command: InspectCommand,
}

/// What a model is shown.
#[derive(Subcommand)]
pub enum InspectCommand {
    /// Look at what becomes of an image
    Image(InspectImage),
    /// Look at what becomes of texts
    Text(InspectText),
}

/// Look at what becomes of an image.
#[derive(Args)]
pub struct InspectImage {
    /// An image file
    #[arg(value_name = "IMAGE")]
    pub image: PathBuf,
    /// Write a PNG that shows what the model attends to: the image as the model sees it, bright where the weights of the
    /// last attention map are high
    #[arg(long, value_name = "PNG")]
    pub picture: Option<PathBuf>,
    #[command(flatten)]
    pub parts: InspectedParts,
    #[command(flatten)]
    pub model: ModelArguments,
}

/// Look at what becomes of texts.
#[derive(Args)]
pub struct InspectText {
    /// Texts
    #[arg(value_name = "TEXT", required = true)]
    pub texts: Vec<String>,
    #[command(flatten)]
    pub parts: InspectedParts,
    #[command(flatten)]
    pub model: ModelArguments,
}

/// Which parts of a model are looked at.
#[derive(Args)]
pub struct InspectedParts {
    /// Stages by index, `0,5,-1` or `all`: of transformers a stage is a block
    #[arg(long, value_name = "LIST", value_parser = indices, default_value = "all", allow_hyphen_values = true)]
    pub stages: Indices,
    /// Show stages as they are behind the tower's last norm, where it applies to tokens
    #[arg(long)]
    pub normalize_stages: bool,
    /// Attention maps of blocks by index; an attentional pooler counts as a further block
    #[arg(long, value_name = "LIST", value_parser = indices, allow_hyphen_values = true)]
    pub attention: Option<Indices>,
    /// .safetensors: a tensor for each stage, its extra tokens and each attention map, by the module's name
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// One JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Write a model as ONNX files.
#[derive(Args)]
#[command(after_help = "Examples:
  openclip export --onnx emoji/
  openclip export --onnx vit-b-32/ --model ViT-B-32 --pretrained laion2b_s34b_b79k

  openclip export --onnx vit-b-32/ --precision int8 --model ViT-B-32 --pretrained laion2b_s34b_b79k
  openclip classify cat.png --labels \"cat, dog\" --backend ort --model local-dir:vit-b-32/

Writes image.onnx, text.onnx, open_clip_config.json and the files of a Hugging Face tokenizer, for any batch size and text length. Pixels and embeddings are f32
at every precision.")]
pub struct Export {
    /// The folder to write into; it is made if it isn't there
    #[arg(long, value_name = "DIR")]
    pub onnx: PathBuf,
    /// Weights in files of their own beside the models, as is done anyway where one file can't hold them
    #[arg(long)]
    pub external_data: bool,
    /// Weights and arithmetic: f32, f16, or int8 (weights per output channel, activations per row)
    #[arg(long, value_name = "NAME", default_value = "f32")]
    pub precision: Precision,
    #[command(flatten)]
    pub model: ModelChoice,
}

/// Write a model with its weights in 8-bit integers, a quarter of the size.
#[derive(Args)]
#[command(after_help = "Examples:
  openclip quantize -o emoji-int8/
  openclip quantize -o vit-b-32-int8/ --model ViT-B-32 --pretrained laion2b_s34b_b79k
  openclip classify cat.png --labels \"cat, dog\" --precision int8 --model local-dir:vit-b-32-int8/

Writes model.safetensors, open_clip_config.json and the files of a Hugging Face tokenizer. Every backend loads the folder in every precision, not only int8.")]
pub struct Quantize {
    /// The folder to write into; it is made if it isn't there, and must not have weights yet
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    #[command(flatten)]
    pub model: ModelChoice,
}

/// Classify the bundled sample images with the bundled model.
#[derive(Args)]
pub struct Demo {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

impl GenerationArguments {
    /// The options, without the prompt. Values of methods that aren't used have to make sense, too.
    pub fn options(&self) -> Result<GenerationOptions> {
        let &Self { num_beams, num_beam_groups, top_k, top_p, .. } = self;
        let beams = Method::BeamSearch { num_beams, num_beam_groups };
        let (drawn_k, drawn_p) = (Method::TopK { top_k }, Method::TopP { top_p });
        let with = |method| GenerationOptions {
            method,
            seq_len: self.seq_len,
            min_seq_len: self.min_seq_len,
            max_seq_len: self.max_seq_len,
            temperature: self.temperature,
            repetition_penalty: self.repetition_penalty,
            fixed_output_length: self.fixed_output_length,
            seed: self.seed,
            ..GenerationOptions::default()
        };
        for method in [beams, drawn_k, drawn_p] {
            with(method).check().map_err(UsageError::of_option)?;
        }
        Ok(with(match self.generation {
            GenerationMethod::BeamSearch => beams,
            GenerationMethod::TopK => drawn_k,
            GenerationMethod::TopP => drawn_p,
        }))
    }
}

impl Classify {
    /// The labels, at least one.
    pub fn labels(&self) -> Result<Vec<String>> {
        let text = match (&self.labels, &self.labels_file) {
            (Some(labels), _) => labels.replace(',', "\n"),
            (None, Some(file)) => std::fs::read_to_string(file)
                .map_err(|error| anyhow::anyhow!("labels file {}: {error}", file.display()))?,
            (None, None) => String::new(),
        };
        let labels: Vec<String> =
            text.lines().map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect();
        if labels.is_empty() {
            let message =
                "the list of labels is empty: give --labels \"a, b\" or a --labels-file with a label a line";
            return Err(UsageError(message.to_owned()).into());
        }
        Ok(labels)
    }

    /// The prompt templates.
    pub fn prompt_templates(&self) -> Result<Vec<String>> {
        if let Some(template) = self.template.iter().find(|template| !template.contains("{}")) {
            let message = format!("template `{template}` has no {{}} where the label goes");
            return Err(UsageError(message).into());
        }
        Ok(match (self.templates, self.template.as_slice()) {
            (Some(Templates::Openai), _) => crate::prompts::openai().into_iter().map(str::to_owned).collect(),
            (Some(Templates::Simple), _) => crate::prompts::simple().into_iter().map(str::to_owned).collect(),
            (None, []) => vec!["{}".to_owned()],
            (None, given) => given.to_vec(),
        })
    }
}
