"""Reference outputs of the mixer, from a definition in PyTorch that knows nothing of the one in Rust.

    python reference.py

Weights and images are synthesised as for OpenCLIP's own architectures (`conformance/README.md`).
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "../../xtask/reference"))
import synth  # noqa: E402
from towers import FORMAT, IMAGES, activation, lines, packed, summary  # noqa: E402


class Block(nn.Module):
    def __init__(self, tokens: int, width: int):
        super().__init__()
        self.norm_tokens = nn.LayerNorm(width)
        self.mix_tokens = nn.Linear(tokens, tokens)
        self.norm_channels = nn.LayerNorm(width)
        self.mix_channels = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gelu = nn.functional.gelu
        x = x + gelu(self.mix_tokens(self.norm_tokens(x).mT)).mT
        return x + gelu(self.mix_channels(self.norm_channels(x)))


class Mixer(nn.Module):
    def __init__(self, embed_dim: int, image_size: int, patch_size: int, width: int, layers: int, **_):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.blocks = nn.ModuleList([Block((image_size // patch_size) ** 2, width) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, embed_dim))


def main() -> None:
    config = json.loads((HERE / "src/mixer.json").read_text())
    vision = config["vision_cfg"]
    model = nn.Module()
    model.visual = visual = Mixer(config["embed_dim"], **vision)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(synth.parameter(name, list(parameter.shape))))
        dims = [IMAGES, 3, vision["image_size"], vision["image_size"]]
        x = visual.patches(torch.from_numpy(synth.image(dims))).flatten(2).mT
        activations, stages = [], []
        side = vision["image_size"] // vision["patch_size"]
        for index, block in enumerate(visual.blocks):
            x = block(x)
            activations.append(activation(f"visual.blocks.{index}", x, None))
            stages.append(activation(f"{index} {[side, side]}", visual.norm(x), None))
        embedding = visual.norm(x).mean(1) @ visual.proj
    image = {
        "parameters": summary(model, "image", False),
        "input": {"dims": dims},
        "embedding": packed(embedding),
        "activations": activations,
        "stages": stages,
    }
    entry = {
        "format": FORMAT,
        "generator": synth.GENERATOR,
        "versions": {"torch": torch.__version__},
        "name": "mixer",
        "model_cfg": config,
        "options": {},
        "stored_dims": {},
        "image": image,
    }
    (HERE / "conformance/mixer.json").write_text(lines(entry, 3) + "\n")


if __name__ == "__main__":
    main()
