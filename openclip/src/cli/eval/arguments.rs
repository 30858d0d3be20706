//! The command line of `openclip eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    cli::arguments::{ModelArguments, positive},
    eval::dataset::DatasetName,
};

/// Measure how good a model is.
#[derive(Args)]
#[command(after_help = "Examples:
  openclip eval zero-shot --dataset imagefolder:imagenet/val --classnames imagenet --templates openai \\
      --model ViT-B-32 --pretrained laion2b_s34b_b79k
  openclip eval retrieval --dataset wds:flickr30k --recall-k 1,5,10 --model ViT-B-32 --pretrained laion2b_s34b_b79k

Figures are those of CLIP_benchmark, by its names. Features are kept: a second run computes nothing, and one that was
interrupted goes on where it was.")]
pub struct Eval {
    #[command(subcommand)]
    pub command: EvalCommand,
}

/// What is measured.
#[derive(Subcommand)]
pub enum EvalCommand {
    /// Give images the class whose description is nearest: accuracy, or average precision where an image has several classes
    #[command(after_help = "Examples:
  openclip eval zero-shot --dataset wds:cifar10 -o cifar10.json --model ViT-B-32 --pretrained laion2b_s34b_b79k
  openclip eval zero-shot --dataset imagefolder:pets --templates \"photos.txt\" --per-class --confusion pets.csv")]
    ZeroShot(ZeroShot),
    /// Find images by their texts and texts by their images: recall and ranks
    #[command(after_help = "Examples:
  openclip eval retrieval --dataset wds:flickr30k --recall-k 1,5,10 --model ViT-B-32 --pretrained laion2b_s34b_b79k
  openclip eval retrieval --dataset csv:captions.tsv --template \"a photo of {}\" --json")]
    Retrieval(Retrieval),
    /// Choose between captions that are nearly alike, and between images (Winoground, SugarCrepe)
    #[command(after_help = "Examples:
  openclip eval selection --dataset csv:sugar_crepe/swap_obj.csv --model ViT-B-32 --pretrained laion2b_s34b_b79k

The table has the columns image and caption, and negative_caption, or image_0, image_1, caption_0, caption_1. In tar files the
captions are the lines of .txt, the right one first.")]
    Selection(Selection),
}

/// What every task is told.
#[derive(Args)]
pub struct TaskArguments {
    /// wds:DIR (CLIP_benchmark's layout) or wds:FILE.tar, imagefolder:DIR, csv:FILE
    #[arg(long, value_name = "FORMAT:PATH")]
    pub dataset: DatasetName,
    /// Which part of the dataset
    #[arg(long, value_name = "NAME", default_value = "test")]
    pub split: String,
    /// The result's file; {dataset}_{pretrained}_{model}_{language}_{task}.json where nothing is said
    #[arg(short, long, value_name = "OUT.json")]
    pub output: Option<PathBuf>,
    /// Keep features in this folder; openclip/features in the user's cache folder where nothing is said
    #[arg(long, value_name = "DIR")]
    pub features: Option<PathBuf>,
    /// Keep no features
    #[arg(long, conflicts_with = "features")]
    pub no_features: bool,
    /// Decode large JPEGs at a fraction of their size, as in `openclip embed image`
    #[arg(long)]
    pub fast_decode: bool,
    /// Print the result as one line of JSON instead of a table
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub model: ModelArguments,
}

/// Zero-shot classification.
#[derive(Args)]
pub struct ZeroShot {
    #[command(flatten)]
    pub task: TaskArguments,
    #[command(flatten)]
    pub classes: ClassArguments,
    /// Print how each class fared
    #[arg(long)]
    pub per_class: bool,
    /// Write how often images of a class (row) were taken for a class (column), as CSV
    #[arg(long, value_name = "CSV")]
    pub confusion: Option<PathBuf>,
}

/// Where the classes' features come from.
#[derive(Args)]
pub struct ClassArguments {
    /// A file with a class name a line, or `imagenet`; the dataset's own where nothing is said
    #[arg(long, value_name = "FILE|imagenet")]
    pub classnames: Option<String>,
    /// openai (80), simple (7), or a file with a template a line, `{}` or `{c}` standing for the class name; the dataset's own
    /// where nothing is said, or simple
    #[arg(long, value_name = "openai|simple|FILE")]
    pub templates: Option<String>,
    /// Write the classes' features, as safetensors
    #[arg(long, value_name = "FILE")]
    pub save_classifier: Option<PathBuf>,
    /// Take the classes' features from a file that --save-classifier wrote; the mean of several files
    #[arg(long, value_name = "FILE", conflicts_with_all = ["templates", "save_classifier"])]
    pub load_classifier: Vec<PathBuf>,
}

/// Retrieval.
#[derive(Args)]
pub struct Retrieval {
    #[command(flatten)]
    pub task: TaskArguments,
    /// How far down the ranking a match counts
    #[arg(long, value_name = "K,..", value_delimiter = ',', default_value = "5", value_parser = positive)]
    pub recall_k: Vec<usize>,
    /// What a caption becomes before it is embedded, `{}` standing for it
    #[arg(long, value_name = "TEXT")]
    pub template: Option<String>,
}

/// Caption selection.
#[derive(Args)]
pub struct Selection {
    #[command(flatten)]
    pub task: TaskArguments,
}
