"""Photographs as JPEG files of one size, made of the pictures that scikit-image ships.

    python bench_photographs.py --source SITE-PACKAGES/skimage/data --out FOLDER --count 128

A file is a crop of a picture, at one of several sizes and places, resized to 640x427: no two are alike. All pictures
are in the public domain or under CC0.
"""

import argparse
import random
from pathlib import Path

from PIL import Image

# Astronaut: NASA, public domain. Chelsea the cat: Stefan van der Walt, CC0. Coffee: Rachel Michetti, CC0. Rocket:
# SpaceX, public domain. Hubble deep field: NASA, public domain.
PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg")
SIZE = (640, 427)


def crop(picture: Image.Image, share: float, chance: random.Random) -> Image.Image:
    """A part of the picture that has the target's aspect ratio, its larger side `share` of what is possible."""
    scale = share * min(picture.width / SIZE[0], picture.height / SIZE[1])
    width, height = (round(side * scale) for side in SIZE)
    left, top = chance.randint(0, picture.width - width), chance.randint(0, picture.height - height)
    return picture.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder of the files")
    parser.add_argument("--count", type=int, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pictures = [Image.open(args.source / name).convert("RGB") for name in PICTURES]
    chance = random.Random(0)
    for index in range(args.count):
        image = crop(pictures[index % len(pictures)], chance.uniform(0.5, 1.0), chance)
        if index % 2:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image.save(args.out / f"{index:03}.jpg", quality=90, subsampling="4:2:0")


if __name__ == "__main__":
    main()
