//! The command line of `openclip eval`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::{
    BackendKind, Precision,
    cli::arguments::{GenerationArguments, ModelArguments, positive},
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
    /// Compare captions with those that people wrote: BLEU, ROUGE-L, CIDEr
    #[command(after_help = "Examples:
  openclip eval caption --dataset wds:coco --model coca_ViT-B-32 --pretrained mscoco_finetuned_laion2b_s13b_b90k
  openclip caption photos/ --json > written.jsonl --model coca_ViT-B-32 --pretrained mscoco_finetuned_laion2b_s13b_b90k
  openclip eval caption --dataset csv:photos.csv --captions written.jsonl

Of the scores of CLIP_benchmark, METEOR and SPICE are missing: they are programs in Java.")]
    Caption(Caption),
    /// Train a linear layer on image features and measure how well it tells the classes apart
    #[command(after_help = "Examples:
  openclip eval linear-probe --dataset cifar10:data --val-proportion 0.1 --model ViT-B-32 --pretrained laion2b_s34b_b79k
  openclip eval linear-probe --dataset wds:pets --train-split train --val-split val --fewshot-k 16 --seed 1")]
    LinearProbe(LinearProbe),
    /// Compare backends and precisions on a dataset: accuracy, and how often they agree with the first
    #[command(after_help = "Examples:
  openclip eval compare --dataset wds:cifar10 --model ViT-B-32 --pretrained laion2b_s34b_b79k
  openclip eval compare --dataset wds:cifar10 --run candle:f32 --run candle:int8 --run ort:int8")]
    Compare(Compare),
    /// Merge results into a table (CSV, Markdown) and pictures (SVG)
    #[command(after_help = "Examples:
  openclip eval report results/ -o report/")]
    Report(Report),
}

/// What every task is told.
#[derive(Args)]
pub struct TaskArguments {
    /// wds:DIR (CLIP_benchmark's layout) or wds:FILE.tar, imagefolder:DIR, csv:FILE, parquet:PATH, cifar10:DIR,
    /// cifar100:DIR, mnist:DIR; from the hub wds:hf-hub:ORG/NAME and parquet:hf-hub:ORG/NAME/FILE
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

/// Captioning.
#[derive(Args)]
pub struct Caption {
    #[command(flatten)]
    pub task: TaskArguments,
    /// Captions that `openclip caption --json` wrote, for the images' paths or file names; no model is run then
    #[arg(long, value_name = "JSONL")]
    pub captions: Option<PathBuf>,
    #[command(flatten)]
    pub generation: GenerationArguments,
}

/// Linear probes.
#[derive(Args)]
pub struct LinearProbe {
    #[command(flatten)]
    pub task: TaskArguments,
    /// What is trained on
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub train_split: String,
    /// What the weight decay is chosen by; it is 0 without any
    #[arg(long, value_name = "NAME", conflicts_with = "val_proportion")]
    pub val_split: Option<String>,
    /// Choose the weight decay by this share of what is trained on
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub val_proportion: Option<f64>,
    /// Train on so many images of each class; all where nothing is said
    #[arg(long, value_name = "K", value_parser = positive)]
    pub fewshot_k: Option<usize>,
    /// Passes over what is trained on
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    pub fewshot_epochs: usize,
    /// The learning rate at the start
    #[arg(long, value_name = "RATE", default_value_t = 0.1)]
    pub fewshot_lr: f64,
    /// Images of a step of training
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub probe_batch_size: usize,
    /// What is drawn at random is drawn from this
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("must be between 0 and 1".to_owned()),
    }
}

/// Backends and precisions beside each other.
#[derive(Args)]
pub struct Compare {
    #[command(flatten)]
    pub task: TaskArguments,
    #[command(flatten)]
    pub classes: ClassArguments,
    /// BACKEND:PRECISION; may be given several times. f32, bf16 and int8 of every backend that is built in where nothing is said
    #[arg(long, value_name = "BACKEND:PRECISION", value_parser = backend_and_precision)]
    pub run: Vec<(BackendKind, Precision)>,
}

fn backend_and_precision(text: &str) -> Result<(BackendKind, Precision), String> {
    let (backend, precision) = text.split_once(':').ok_or("write BACKEND:PRECISION, such as candle:int8")?;
    let backend = backend.parse().map_err(|error: crate::core::Error| error.to_string())?;
    Ok((backend, precision.parse().map_err(|error: crate::core::Error| error.to_string())?))
}

/// A report.
#[derive(Args)]
pub struct Report {
    /// Results, and folders with results
    #[arg(required = true, value_name = "DIR|FILE")]
    pub results: Vec<PathBuf>,
    /// The folder to write into; it is made if it isn't there. The Markdown is printed where nothing is said
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}
