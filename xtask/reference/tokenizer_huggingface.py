"""Conformance cases of Hugging Face tokenizers: small tokenizers of each kind, trained here on the captions and the hard
texts, saved the way that published models have them, and the ids that the reference's `HFTokenizer` gives for hard texts.

Training doesn't give the same twice, so tokenizers that are there are kept.

A case is a folder: the tokenizer's files and `expected.jsonl`. Its first line says how the tokenizer is made; then come a
line per text of `texts.json`, and the batches.
"""

import json
import random
import shutil
import tempfile
from pathlib import Path

from tokenizer_cases import TEXTS, generated, long_texts

CAPTIONS = Path(__file__).resolve().parent / "captions.txt"
CONTEXT_LENGTHS = (4, 8, 24, 77)
# What the small charsmap of some SentencePiece models rewrites: (from, to).
RULES = [
    ("\u2019", "'"), ("\u201c", '"'), ("\u201d", '"'), ("\u2026", "..."), ("\ufb01", "fi"), ("\u00bd", "1\u20442"), ("\uff21", "A"), ("\uff01", "!"),
    ("e\u0301", "\u00e9"), ("\u3000", " "), ("\u00a0", " "), ("\u200b", ""), ("\u2122", "TM"), ("\u00c5", "A\u030a"), ("\t", " "), ("\n", " "), ("\u30ab\u3099", "\u30ac"),
]


def corpus():
    lines = [line for line in CAPTIONS.read_text(encoding="utf-8").splitlines() if line]
    return lines + [text for texts in TEXTS.values() for text in texts if text and "\0" not in text]


def train_sentencepiece(path, **options):
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        if options.pop("small_charsmap", False):
            rules = Path(folder) / "rules.tsv"
            lines = ["\t".join(" ".join(f"{ord(c):X}" for c in side) for side in rule) for rule in RULES]
            rules.write_text("\n".join(lines) + "\n")
            options["normalization_rule_tsv"] = str(rules)
        prefix = str(Path(folder) / "model")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus()), model_prefix=prefix, num_threads=1, minloglevel=2,
            hard_vocab_limit=False, character_coverage=0.98, **options,
        )
        shutil.copyfile(prefix + ".model", path)


def train_byte_level(vocab_size, special_tokens):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special_tokens, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def roberta(folder):
    """vocab.json and merges.txt alone, as old repositories have them; the class comes from config.json."""
    train_byte_level(700, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]).model.save(str(folder))
    write_json(folder / "config.json", {"model_type": "roberta", "pad_token_id": 1})


def roberta_saved(folder):
    from transformers import RobertaTokenizerFast

    with tempfile.TemporaryDirectory() as files:
        roberta(Path(files))
        RobertaTokenizerFast.from_pretrained(files, add_prefix_space=True).save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()


def bert_vocabulary(folder):
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(corpus(), vocab_size=900, limit_alphabet=300, show_progress=False)
    tokenizer.save_model(str(folder))


def bert(folder):
    """vocab.txt alone."""
    bert_vocabulary(folder)
    write_json(folder / "config.json", {"model_type": "bert"})


def bert_cased(folder):
    """vocab.txt with options that change how text is normalised."""
    bert_vocabulary(folder)
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "BertTokenizer", "do_lower_case": False, "tokenize_chinese_chars": False, "strip_accents": True,
    })


def bert_saved(folder):
    from transformers import BertTokenizerFast

    with tempfile.TemporaryDirectory() as files:
        bert(Path(files))
        BertTokenizerFast.from_pretrained(files, bos_token="[unused1]", eos_token="[unused2]").save_pretrained(folder)
    (folder / "vocab.txt").unlink()
    # The saved normaliser lowercases; the configuration has the last word.
    config = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", config | {"do_lower_case": False})


def xlm_roberta(folder):
    """sentencepiece.bpe.model alone."""
    train_sentencepiece(folder / "sentencepiece.bpe.model", vocab_size=900, model_type="unigram", small_charsmap=True)
    write_json(folder / "config.json", {"model_type": "xlm-roberta"})


def xlm_roberta_saved(folder):
    from transformers import XLMRobertaTokenizerFast

    with tempfile.TemporaryDirectory() as files:
        xlm_roberta(Path(files))
        XLMRobertaTokenizerFast.from_pretrained(files).save_pretrained(folder)
    (folder / "sentencepiece.bpe.model").unlink()


T5_PIECES = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}


def mt5(folder):
    """spiece.model with SentencePiece's own rules, as in google/mt5-base."""
    train_sentencepiece(folder / "spiece.model", vocab_size=900, model_type="unigram", normalization_rule_name="nmt_nfkc", **T5_PIECES)
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "T5Tokenizer", "extra_ids": 0, "additional_special_tokens": None,
        "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
    })
    write_json(folder / "special_tokens_map.json", {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"})
    write_json(folder / "config.json", {"model_type": "mt5"})


def t5(folder):
    """spiece.model with sentinels and the newer treatment of spaces after special tokens."""
    train_sentencepiece(folder / "spiece.model", vocab_size=700, model_type="unigram", small_charsmap=True, user_defined_symbols=["<cat>"], **T5_PIECES)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 5, "legacy": False})


def siglip(folder):
    """As the reference imported the tokenizers of SigLIP."""
    from transformers import T5TokenizerFast

    with tempfile.TemporaryDirectory() as files:
        path = str(Path(files) / "spiece.model")
        train_sentencepiece(path, vocab_size=800, model_type="unigram", small_charsmap=True, **T5_PIECES)
        tokenizer = T5TokenizerFast(path, extra_ids=0, legacy=False)
        tokenizer.pad_token_id = 1
        tokenizer.eos_token_id = 1
        tokenizer.save_pretrained(folder)
        (folder / "spiece.model").unlink(missing_ok=True)


def gemma(folder):
    """As the reference imported the tokenizer of SigLIP2."""
    from transformers import GemmaTokenizerFast

    with tempfile.TemporaryDirectory() as files:
        path = str(Path(files) / "tokenizer.model")
        gemma_model(path)
        tokenizer = GemmaTokenizerFast(path, padding_side="right", add_bos_token=False, add_eos_token=True, legacy=False)
        tokenizer.pad_token_id = 0
        tokenizer.eos_token_id = 1
        tokenizer.save_pretrained(folder)
        (folder / "tokenizer.model").unlink(missing_ok=True)


def gemma_model(path):
    train_sentencepiece(
        path, vocab_size=1000, model_type="bpe", normalization_rule_name="identity", byte_fallback=True, split_digits=True,
        add_dummy_prefix=False, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, user_defined_symbols=["<mask>", "\n", "<start_of_turn>"],
    )


def gemma_file(folder):
    """tokenizer.model alone; texts are padded at their left, which is this class's own way."""
    gemma_model(folder / "tokenizer.model")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GemmaTokenizer"})


def nllb(folder):
    from transformers import NllbTokenizerFast

    with tempfile.TemporaryDirectory() as files:
        path = Path(files) / "sentencepiece.bpe.model"
        train_sentencepiece(path, vocab_size=800, model_type="unigram", small_charsmap=True)
        NllbTokenizerFast(str(path)).save_pretrained(folder)
    (folder / "sentencepiece.bpe.model").unlink()


def nllb_file(folder):
    """sentencepiece.bpe.model alone, with the older order of special tokens."""
    train_sentencepiece(folder / "sentencepiece.bpe.model", vocab_size=700, model_type="unigram", small_charsmap=True)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "NllbTokenizer", "legacy_behaviour": True, "src_lang": "deu_Latn"})


def clip(folder):
    """vocab.json and merges.txt with an end-of-word mark, as in openai/clip-vit-large-patch14."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=1200, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), end_of_word_suffix="</w>",
        special_tokens=["<|startoftext|>", "<|endoftext|>"], show_progress=False,
    )
    tokenizer.train_from_iterator((line.lower() for line in corpus()), trainer)
    tokenizer.model.save(str(folder))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"})


# Name: how the files are made, or another case whose files are used; HFTokenizer's arguments.
CASES = {
    "roberta": (roberta, {}),
    "roberta-saved": (roberta_saved, {}),
    "bert": (bert, {"strip_sep_token": True}),
    "bert-cased": (bert_cased, {"clean": "lower"}),
    "bert-saved": (bert_saved, {"tokenizer_mode": "clips"}),
    "xlm-roberta": (xlm_roberta, {}),
    "xlm-roberta-saved": (xlm_roberta_saved, {}),
    "mt5": (mt5, {}),
    "t5": (t5, {}),
    "siglip": (siglip, {"clean": "canonicalize"}),
    "gemma": (gemma, {"clean": "canonicalize"}),
    "gemma-file": (gemma_file, {"add_eos_token": True, "truncation_side": "left"}),
    "nllb": (nllb, {}),
    # Not by `language`: `transformers` goes back to `src_lang` on every call, so that option does nothing.
    "nllb-french": ("nllb", {"src_lang": "fra_Latn"}),
    "nllb-file": (nllb_file, {}),
    # By SentencePiece's own library.
    "xlm-roberta-slow": ("xlm-roberta", {"use_fast": False}),
    "mt5-slow": ("mt5", {"use_fast": False}),
    "t5-slow": ("t5", {"use_fast": False}),
    "gemma-slow": ("gemma-file", {"use_fast": False, "add_eos_token": True}),
    "nllb-slow": ("nllb-file", {"use_fast": False}),
    "clip": (clip, {}),
    "clip-clips": ("clip", {"tokenizer_mode": "clips", "cls_token": "cat</w>"}),
}


def texts():
    rng = random.Random(7)
    short = [text for members in TEXTS.values() for text in members if len(text) < 200]
    made = [text for _, text in generated(rng) if len(text) < 80]
    special = [
        "a <mask> b", "a<mask>b <s> c</s>", "[CLS] a [SEP] b [MASK]", "<unk> x <pad> y", "<extra_id_0> a <extra_id_4>b", "<cat> a<cat>b",
        "eng_Latn hello fra_Latn", "<bos> a <eos>", "<start_of_turn>a<end_of_turn>", "\u2581a \u2581\u2581b", "<|endoftext|> a", "[unused1] x", "<0x41> <0x0A>",
        "1234567 12,345.67", "  a   b  ", "don't we'll they're", "a" * 150 + " b", "\ue0b0 \U0001fae8 \u0378", "caf\u0065\u0301 \uff21\uff01\u2122",
    ]
    return special + rng.sample(short, 120) + rng.sample(made, 90)


def write(folder):
    from open_clip.tokenizer import HFTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    chosen = texts()
    write_json(folder / "texts.json", chosen)
    long = list(long_texts())
    for name, (make, arguments) in CASES.items():
        case = folder / name
        files = case if callable(make) else folder / make
        if not case.exists():
            case.mkdir()
            if callable(make):
                make(case)
            for needless in ("added_tokens.json", "chat_template.jinja"):
                (case / needless).unlink(missing_ok=True)
        tokenizer = HFTokenizer(str(files), context_length=CONTEXT_LENGTHS[-1], **arguments)
        inner = tokenizer.tokenizer
        arguments = dict(arguments)
        header = {
            "files": files.name, "tokenizer_mode": arguments.pop("tokenizer_mode", None), "options": arguments,
            "vocab_size": len(inner), "pad": inner.pad_token_id, "eos": inner.eos_token_id,
        }
        lines = [header]
        for text in chosen:
            ids = inner([tokenizer.clean_fn(text)], add_special_tokens=False, return_tensors=None)["input_ids"][0]
            lines.append({"ids": ids} | ({"decoded": inner.decode(ids)} if inner.is_fast else {}))
        rng = random.Random(11)
        for context_length in CONTEXT_LENGTHS:
            batch = rng.sample(range(len(chosen)), 12)
            inputs = [chosen[index] for index in batch] + ["", "a photo of a cat"] + long
            ids = tokenizer(inputs, context_length=context_length).tolist()
            lines.append({"context_length": context_length, "texts": batch, "ids": ids})
        (case / "expected.jsonl").write_text("\n".join(json.dumps(line, separators=(",", ":")) for line in lines) + "\n")
        size = sum(path.stat().st_size for path in case.iterdir())
        print(f"{name}: {len(inner)} ids, {size} bytes")
