"""Captions that the reference generates with synthesised weights, one JSON file per model.

    python generation.py --out conformance/generation [--only PATTERN] [--threads N]

It needs a release of transformers with the parts that the reference's `generate` is made of (generation.txt), before that of
requirements.txt in PYTHONPATH. Tokens are drawn by uniform numbers that Rust makes, too. `conformance/README.md` describes
the files.
"""

import argparse
import fnmatch
import json
import logging
from pathlib import Path
from unittest import mock

import open_clip
import torch
import transformers
from open_clip.utils import to_2tuple
from torch import nn

import synth
from cases import Case, all_cases
from towers import Checkpoint, build, compute_buffers, fill, lines, parameters

# Images of small models, with many options, and of published ones, with few.
IMAGES, IMAGES_PUBLISHED = 3, 9
MODELS = ("made-coca", "made-coca-patches", "made-coca-options", "made-coca-roberta")
MODELS += ("coca_base", "coca_ViT-B-32", "coca_ViT-L-14", "coca_roberta-ViT-B-32")
MASK = 2**64 - 1


class Uniforms:
    """splitmix64 (Steele, Lea and Flood, 2014), as numbers from 0 to 1."""

    def __init__(self, seed: int):
        self.state = seed

    def next(self) -> float:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
        z ^= z >> 31
        return (z >> 11) / 2**53


def drawing(uniforms: Uniforms):
    """In place of `torch.multinomial` of one row: the token that stands at a uniform number."""

    def multinomial(probabilities: torch.Tensor, count: int) -> torch.Tensor:
        assert count == 1 and len(probabilities) == 1
        sums = probabilities.double().cumsum(-1)
        reached = sums > uniforms.next() * sums[:, -1:]
        return reached.to(torch.uint8).argmax(-1, keepdim=True)

    return mock.patch.object(torch, "multinomial", multinomial)


def whole(case: Case) -> nn.Module:
    """The model with all of its parameters."""
    model = build(case, case.options)
    for tower in ("image", "text", "decoder"):
        fill(model, parameters(model, tower), Checkpoint())
        compute_buffers(model, tower)
    return model


def runs(case: Case, vocabulary: int) -> list[dict]:
    """Options, by the names of the reference's `generate`; `prompt` and `seed` are ours."""
    if not case.made_up:
        # Of a whole vocabulary of nearly equal probabilities, the last bits of their sums choose. So among a few only.
        return [{}, {"generation_type": "top_k"}, {"generation_type": "top_k", "top_k": 40, "seed": 5}]
    marks = {"sot_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "seq_len": 11}
    options = [
        {},
        {"num_beams": 4, "num_beam_groups": 1},
        {"num_beams": 6, "num_beam_groups": 2, "repetition_penalty": 1.3},
        {"num_beams": 3, "num_beam_groups": 1, "min_seq_len": 2, "fixed_output_length": True},
        {"generation_type": "top_k"},
        {"generation_type": "top_k", "top_k": 20, "temperature": 0.7, "seed": 1},
        {"generation_type": "top_k", "top_k": 5, "repetition_penalty": 1.5, "seed": 2, "fixed_output_length": True},
        {"generation_type": "top_p", "top_p": 0.8, "temperature": 1.5, "seed": 3, "min_seq_len": 3},
        {"generation_type": "top_p", "top_p": 1.0, "seed": 4, "max_seq_len": 4},
        {"generation_type": "top_k", "prompt": [vocabulary - 2, 7, 0, 11]},
    ]
    return [{**marks, **run} for run in options]


def generate(model: nn.Module, image: torch.Tensor, options: dict) -> list[int]:
    options = dict(options)
    prompt, seed = options.pop("prompt", None), options.pop("seed", 0)
    text = None if prompt is None else torch.tensor([prompt])
    with drawing(Uniforms(seed)):
        return model.generate(image, text, **options)[0].tolist()


def captions(model: nn.Module, images: torch.Tensor, options: dict) -> dict:
    """What is generated for each image by itself."""
    tokens = [generate(model, images[image : image + 1], options) for image in range(len(images))]
    return {"options": options, "tokens": tokens}


def run(case: Case) -> dict:
    model = whole(case)
    dims = [IMAGES if case.made_up else IMAGES_PUBLISHED, 3, *to_2tuple(model.visual.image_size)]
    images = torch.from_numpy(synth.image(dims))
    vocabulary = model.text_decoder.text_projection.shape[1]
    found = []
    with torch.inference_mode():
        for options in runs(case, vocabulary):
            found.append(captions(model, images, options))
            if case.made_up and "prompt" not in options:
                # Ends in the midst of what was written: synthesised models don't end by themselves.
                end = found[-1]["tokens"][1][5]
                found.append(captions(model, images, {**options, "eos_token_id": end, "min_seq_len": 3}))
    versions = {"open_clip": open_clip.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    return {"generator": synth.GENERATOR, "versions": versions, "name": case.name, "dims": dims, "runs": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="models by name, as in a shell")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    for case in all_cases():
        if case.name in MODELS and fnmatch.fnmatch(case.name, args.only):
            (args.out / f"{case.name}.json").write_text(lines(run(case), 3) + "\n")
            print(case.name, flush=True)


if __name__ == "__main__":
    main()
