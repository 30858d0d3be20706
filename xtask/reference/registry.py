#!/usr/bin/env python3
"""Writes openclip-zoo/registry/*.toml from the installed reference package and its two published data files.

    python xtask/reference/registry.py --profile model_profile.csv --results openclip_results.csv [--check]

The two files are docs/model_profile.csv and docs/openclip_results.csv of open_clip v3.3.0. Adding a family of
architectures means adding a line to FAMILIES and running this again. With --check nothing is written, and the exit
status says whether the committed files are what the script makes.
"""

import argparse
import csv
import json
import re
import sys
from pathlib import Path

import open_clip
from open_clip.factory import _MODEL_CONFIGS
from open_clip.pretrained import _PRETRAINED

REFERENCE = "3.3.0"
REGISTRY = Path(__file__).resolve().parents[2] / "openclip-zoo" / "registry"

# Published figures of the reference's front page that are missing in openclip_results.csv.
EXTRA_RESULTS = {
    ("ViT-L-14", "dfn2b_s39b"): 0.822,
    ("ViT-L-16-SigLIP2-256", "webli"): 0.825,
    ("PE-Core-L-14-336", "meta"): 0.835,
    ("ViT-SO400M-16-SigLIP2-384", "webli"): 0.841,
    ("ViT-gopt-16-SigLIP2-384", "webli"): 0.85,
    ("PE-Core-bigG-14-448", "meta"): 0.854,
}

# Licences of repositories as the hub shows them, each with the page of the repository that shows it.
LICENCES = json.loads((Path(__file__).parent / "licences.json").read_text())

# What a reader of a record should know and can't see in it.
NOTES = {
    ("ViT-B-16-plus-240", "laion400m_e32"): "the reference names the repository of laion400m_e31 here; kept as it is",
}


def image_kind(config):
    """`resnet`, `vit`, or the beginning of a trunk's name in timm."""
    vision = config["vision_cfg"]
    if "timm_model_name" in vision:
        return vision["timm_model_name"]
    return "resnet" if isinstance(vision["layers"], list) else "vit"


def text_model(config):
    """The Hugging Face model that the text tower is, if it is one."""
    return config["text_cfg"].get("hf_model_name", "")


def native(kind, quick_gelu):
    """Image tower of a kind, the reference's own text tower and CLIP's vocabulary."""

    def belongs(name, config):
        plain = not text_model(config) and "hf_tokenizer_name" not in config["text_cfg"]
        plain = plain and "multimodal_cfg" not in config
        return plain and image_kind(config) == kind and bool(config.get("quick_gelu")) == quick_gelu

    return belongs


def named(pattern):
    """Towers of the reference's own text kind, by name."""
    return lambda name, config: re.match(pattern, name) and not text_model(config)


def text(model):
    """By the Hugging Face model of the text tower."""
    return lambda name, config: text_model(config).startswith(model) and "multimodal_cfg" not in config


# file name -> (family as shown to users, predicate over name and config)
FAMILIES = {
    "rn": ("RN", native("resnet", False)),
    "rn-quickgelu": ("RN-quickgelu", native("resnet", True)),
    "vit": ("ViT", native("vit", False)),
    "vit-quickgelu": ("ViT-quickgelu", native("vit", True)),
    "worldwide": ("worldwide", named(".*-worldwide")),
    "clipa": ("CLIPA", named(".*-CLIPA")),
    "convnext": ("ConvNeXt", named("convnext_")),
    "siglip": ("SigLIP", named(".*-SigLIP($|-)")),
    "siglip2": ("SigLIP2", named(".*-SigLIP2($|-)")),
    "pe-core": ("PE-Core", named("PE-Core-")),
    "eva01": ("EVA01", named("EVA01-")),
    "eva02": ("EVA02", named("EVA02-")),
    "vitamin": ("ViTamin", named("ViTamin-")),
    "mobileclip": ("MobileCLIP", named("MobileCLIP-")),
    "mobileclip2": ("MobileCLIP2", named("MobileCLIP2-")),
    "timm": ("timm", named("(swin|vit)_")),
    "roberta": ("RoBERTa", text("roberta")),
    "xlm-roberta": ("XLM-RoBERTa", text("xlm-roberta")),
    "mt5": ("mT5", text("google/mt5")),
    "nllb": ("NLLB", text("facebook/nllb")),
    "coca": ("CoCa", lambda name, config: "multimodal_cfg" in config),
}


def natural_key(text):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text.lower())]


def value(item):
    """A TOML value. Python floats print their shortest exact form, which TOML reads back to the same number."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, (int, float)):
        return repr(item)
    if isinstance(item, str):
        return json.dumps(item, ensure_ascii=True)
    if isinstance(item, (list, tuple)):
        return "[" + ", ".join(value(part) for part in item) + "]"
    if isinstance(item, dict):
        return "{ " + ", ".join(f"{key} = {value(part)}" for key, part in item.items() if part is not None) + " }"
    raise TypeError(f"no TOML form for {item!r}")


def table(header, fields):
    lines = [header]
    lines += [f"{key} = {value(item)}" for key, item in fields.items() if item is not None]
    return "\n".join(lines) + "\n"


def twin(name):
    """The same architecture with the other activation, which has the same sizes."""
    return name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else name + "-quickgelu"


def profile_of(name, profiles):
    row = profiles.get(name) or profiles.get(twin(name))
    if row is None:
        return None
    return {
        "mparams": float(row["mparams"]),
        "image_mparams": float(row["image_mparams"]),
        "text_mparams": float(row["text_mparams"]),
        "gflops": float(row["gflops"]),
        "image_gflops": float(row["image_gflops"]),
        "text_gflops": float(row["text_gflops"]),
    }


def accuracy_of(name, tag, record, results):
    """The published top-1 accuracy of exactly this pair. The table has some QuickGELU weights under the plain name
    only; their figure was measured with their own activation, so it is the QuickGELU architecture's."""
    if (name, tag) in EXTRA_RESULTS:
        return EXTRA_RESULTS[name, tag]
    if (name, tag) in results:
        return results[name, tag]
    if name.endswith("-quickgelu") and record.get("quick_gelu"):
        return results.get((twin(name), tag))
    return None


def url_of(record):
    """The direct address and what it says about the file's SHA-256: all of it in OpenAI's, 8 digits in the
    reference's own releases, nothing elsewhere."""
    url = record.get("url")
    if not url:
        return None
    if "openaipublic" in url:
        return {"address": url, "sha256": url.split("/")[-2]}
    if "mlfoundations" in url:
        return {"address": url, "sha256": Path(url).stem.split("-")[-1]}
    return {"address": url}


def pretrained(name, tag, config, results):
    record = _PRETRAINED[name][tag]
    known = {"url", "hf_hub", "mean", "std", "interpolation", "resize_mode", "quick_gelu"}
    assert set(record) <= known, f"{name} {tag}: fields that this script doesn't know: {set(record) - known}"
    repository, _, file = record["hf_hub"].rpartition("/")
    fields = {
        "tag": tag,
        "repository": repository or None,
        "file": file or None,
        "url": url_of(record),
        "tokenizer": config["text_cfg"].get("hf_tokenizer_name", "clip"),
        "quick_gelu": bool(record.get("quick_gelu", False)),
        "preprocess": {key: record[key] for key in ("mean", "std", "interpolation", "resize_mode")},
        "licence": LICENCES.get(repository, {}).get("licence"),
        "imagenet_zero_shot": accuracy_of(name, tag, record, results),
    }
    note = NOTES.get((name, tag))
    return (f"# {note}\n" if note else "") + table("[[architecture.pretrained]]", fields)


def architecture(name, config, profiles, results):
    towers = {key: config[key] for key in ("vision_cfg", "text_cfg", "multimodal_cfg") if key in config}
    scalars = {key: item for key, item in config.items() if key not in towers}
    parts = [table("[[architecture]]", {"name": name, "profile": profile_of(name, profiles)})]
    parts.append(table("[architecture.config]", scalars))
    parts += [table(f"[architecture.config.{key}]", tower) for key, tower in towers.items()]
    parts += [pretrained(name, tag, config, results) for tag in _PRETRAINED.get(name, {})]
    return "\n".join(parts)


def family_file(title, names, profiles, results):
    head = (
        f"# {title}: {len(names)} architectures and their pretrained tags.\n"
        f"# Made by xtask/reference/registry.py from open_clip_torch {REFERENCE}; change the script, not this file.\n"
        "# Sources, units and attribution: README.md beside this file.\n\n"
        f"family = {value(title)}\n"
    )
    return head + "".join("\n" + architecture(name, _MODEL_CONFIGS[name], profiles, results) for name in names)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", required=True, type=Path, help="the reference's model_profile.csv")
    parser.add_argument("--results", required=True, type=Path, help="the reference's openclip_results.csv")
    parser.add_argument("--out", type=Path, default=REGISTRY, help="folder of the TOML files")
    parser.add_argument("--check", action="store_true", help="compare with the files that are there, write nothing")
    arguments = parser.parse_args()
    if open_clip.__version__ != REFERENCE:
        sys.exit(f"open_clip_torch {REFERENCE} is needed, {open_clip.__version__} is installed")

    with open(arguments.profile, newline="") as file:
        profiles = {row["model"]: row for row in csv.DictReader(file)}
    with open(arguments.results, newline="") as file:
        results = {(row["name"], row["pretrained"]): float(row["ImageNet 1k"]) for row in csv.DictReader(file)}

    stale = []
    placed = set()
    for stem, (title, belongs) in FAMILIES.items():
        names = sorted((name for name, config in _MODEL_CONFIGS.items() if belongs(name, config)), key=natural_key)
        assert not placed.intersection(names), f"{stem}: in two families: {placed.intersection(names)}"
        placed.update(names)
        content = family_file(title, names, profiles, results)
        path = arguments.out / f"{stem}.toml"
        tags = sum(len(_PRETRAINED.get(name, {})) for name in names)
        print(f"{path.name}: {len(names)} architectures, {tags} tags, {len(content)} bytes")
        if arguments.check:
            if not path.is_file() or path.read_text() != content:
                stale.append(path.name)
        else:
            path.write_text(content)
    if placed != set(_MODEL_CONFIGS):
        sys.exit(f"in no family: {', '.join(sorted(set(_MODEL_CONFIGS) - placed))}")
    if stale:
        sys.exit(f"not what this script makes: {', '.join(stale)}")


if __name__ == "__main__":
    main()
