"""Figures of CLIP_benchmark, pycocoevalcap and open_clip, which those of `openclip eval` have to equal.

    python evaluation.py --out conformance/evaluation

`metrics.json` holds metrics of made-up features, `captions.json` those of made-up captions, and `noto-v1.json` those of the
bundled model on the pictures in openclip/tests/data. It needs evaluation.txt beside requirements.txt, and Java for the
tokenizer of captions. `conformance/README.md` describes the files.
"""

import argparse
import io
import json
import logging
import math
import tarfile
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import open_clip
import pyarrow.parquet
import torch
from clip_benchmark.datasets.builder import build_dataset
from clip_benchmark.metrics import image_caption_selection, zeroshot_classification, zeroshot_retrieval
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from evaluation_captions import caption_cases

ROOT = Path(__file__).resolve().parents[2]
MODEL = f"local-dir:{ROOT / 'openclip-zoo/models/emoji-clip'}"
NOTO = ROOT / "openclip/tests/data/noto-v1"


def one_value():
    """CLIP_benchmark 1.6.2 makes a number of an array with one axis, which NumPy 2.4 refuses."""
    plain = torch.Tensor.numpy
    return mock.patch.object(torch.Tensor, "numpy", lambda tensor: plain(tensor.squeeze()))


def unit(generator: torch.Generator, rows: int, width: int, coarse: bool) -> torch.Tensor:
    """Features of unit length. Coarse ones are four of ±1/2: their products are exact, and many are equal."""
    if not coarse:
        return torch.nn.functional.normalize(torch.randn(rows, width, generator=generator), dim=-1)
    features = torch.zeros(rows, width)
    for row in features:
        places = torch.randperm(width, generator=generator)[:4]
        row[places] = torch.randint(0, 2, (4,), generator=generator) - 0.5
    return features


def numbers(tensor: torch.Tensor) -> list:
    return [[float(value) for value in row] for row in tensor]


def jsonable(value: float):
    return None if math.isnan(value) else value


class Given(torch.nn.Module):
    """A model whose images and texts are their features."""

    def encode_image(self, images):
        return images.flatten(1)

    def encode_text(self, texts):
        return texts


def classification(name: str, features, classifier, classes) -> dict:
    logits, target = 100.0 * features @ classifier.T, torch.tensor(classes)
    with one_value():
        acc = zeroshot_classification.accuracy(logits, target, topk=(1, 5) if len(classifier) >= 5 else (1,))
    recall = balanced_accuracy_score(target, logits.argmax(axis=1))
    figures = {"acc1": acc[0], "acc5": acc[1] if len(acc) > 1 else None, "mean_per_class_recall": float(recall)}
    return {
        "name": name,
        "features": numbers(features),
        "classifier": numbers(classifier),
        "classes": classes,
        "figures": figures,
    }


def classifications(generator: torch.Generator) -> list[dict]:
    def draw(classes: int, count: int) -> list[int]:
        return torch.randint(0, classes, (count,), generator=generator).tolist()

    def case(name, images, classes, coarse, targets=None):
        features, classifier = unit(generator, images, 8, coarse), unit(generator, classes, 8, coarse)
        return classification(name, features, classifier, targets or draw(classes, images))

    equal = unit(generator, 1, 8, True)
    return [
        case("random", 60, 10, False),
        case("ties", 80, 12, True),
        case("ties among many classes", 40, 350, True),
        case("fewer than five classes", 30, 3, False),
        case("five classes", 30, 5, True),
        case("one sample", 1, 7, False),
        case("one class", 4, 1, False),
        case("classes without images", 20, 15, False, [4] * 12 + [9] * 8),
        classification("all equal", equal.repeat(9, 1), equal.repeat(6, 1), draw(6, 9)),
        classification("all equal, many classes", equal.repeat(9, 1), equal.repeat(400, 1), draw(400, 9)),
    ]


def multilabels(generator: torch.Generator) -> list[dict]:
    cases = []
    for name, images, classes, coarse, share in [
        ("random", 40, 6, False, 0.3),
        ("ties", 60, 9, True, 0.4),
        ("labels that nobody has", 12, 5, False, 0.0),
        ("one sample", 1, 4, False, 0.5),
    ]:
        features, classifier = unit(generator, images, 8, coarse), unit(generator, classes, 8, coarse)
        labels = (torch.rand(images, classes, generator=generator) < share).long()
        scores = 100.0 * features @ classifier.T
        # The order in which torch.sort leaves equal scores depends on the processor, unless it is asked to keep theirs.
        plain = torch.sort
        with mock.patch.object(torch, "sort", lambda x, dim, down: plain(x, dim=dim, descending=down, stable=True)):
            found = zeroshot_classification.average_precision_per_class(scores, labels)
        cases.append(
            {
                "name": name,
                "features": numbers(features),
                "classifier": numbers(classifier),
                "labels": labels.tolist(),
                "average_precision": found.tolist(),
                "mean_average_precision": found.mean().item(),
            }
        )
    return cases


def retrieval(name: str, images, texts, image_of_text: list[int], ks: list[int]) -> dict:
    texts_of_image = [[text for text, of in enumerate(image_of_text) if of == image] for image in range(len(images))]
    # In the order in which the reference gets them.
    order = [text for of in texts_of_image for text in of]
    batches = []
    for start in range(0, len(images), 16):
        part = slice(start, start + 16)
        batches.append((images[part, :, None, None], texts_of_image[part]))
    figures = zeroshot_retrieval.evaluate(
        Given(), batches, lambda numbers: texts[numbers], "cpu", amp=False, recall_k_list=ks
    )
    return {
        "name": name,
        "images": numbers(images),
        "texts": numbers(texts[order]),
        "image_of_text": [image_of_text[text] for text in order],
        "recall_k": ks,
        "figures": figures,
    }


def retrievals(generator: torch.Generator) -> list[dict]:
    def case(name, images, texts, coarse, ks, image_of_text=None):
        if image_of_text is None:
            drawn = torch.randint(0, images, (texts - images,), generator=generator).tolist()
            image_of_text = sorted([*range(images), *drawn])
        return retrieval(name, unit(generator, images, 8, coarse), unit(generator, texts, 8, coarse), image_of_text, ks)

    images = unit(generator, 30, 8, True)
    captions = unit(generator, 10, 8, True).repeat(6, 1)
    cases = [
        case("a text for each image", 50, 50, False, [1, 5, 10]),
        case("several texts for an image", 40, 130, False, [1, 5, 10]),
        case("ties", 60, 150, True, [1, 5, 10]),
        case("ties in long rankings", 700, 720, True, [1, 5, 10]),
        retrieval("duplicated captions", images, captions, [text // 2 for text in range(60)], [1, 2, 5]),
        retrieval("all equal", images[:1].repeat(12, 1), images[:1].repeat(24, 1), [t // 2 for t in range(24)], [1, 5]),
        case("an image without texts", 6, 5, False, [1, 3], [0, 1, 1, 4, 5]),
        case("one pair", 1, 1, False, [1]),
    ]
    return cases


def selections(generator: torch.Generator) -> list[dict]:
    cases = []
    for name, instances, images, texts, coarse in [
        ("two images, two captions", 40, 2, 2, False),
        ("two images, two captions, ties", 60, 2, 2, True),
        ("one image, two captions", 50, 1, 2, False),
        ("one image, two captions, ties", 50, 1, 2, True),
        ("three images, two captions", 20, 3, 2, True),
        ("one instance", 1, 2, 2, False),
    ]:
        seen, read = unit(generator, instances * images, 8, coarse), unit(generator, instances * texts, 8, coarse)
        batch = seen.view(instances, images, 8, 1, 1)
        captions = [list(range(start, start + texts)) for start in range(0, instances * texts, texts)]
        figures = image_caption_selection.evaluate(
            Given(), [(batch, captions)], lambda numbers: read[numbers], "cpu", amp=False
        )
        cases.append(
            {
                "name": name,
                "images_each": images,
                "texts_each": texts,
                "images": numbers(seen),
                "texts": numbers(read),
                "figures": figures,
            }
        )
    return cases


def tops(generator: torch.Generator) -> list[dict]:
    """Which of equal scores are among the first."""
    cases = []
    for length, k, levels in [
        (5, 1, 2),
        (5, 5, 2),
        (8, 3, 3),
        (20, 5, 3),
        (64, 1, 2),
        (64, 5, 4),
        (320, 5, 3),
        (400, 5, 10),
        (639, 10, 5),
        (640, 10, 5),
        (1000, 10, 7),
        (1000, 5, 400),
        (30, 10, 1),
    ]:
        scores = torch.randint(0, levels, (length,), generator=generator)
        found = torch.topk(scores.float()[None], k, 1, True, True)[1][0]
        cases.append({"scores": scores.tolist(), "k": k, "top": found.tolist()})
    return cases


def tar(path: Path, files: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (path.parent / "nshards.txt").write_text("1")


def noto() -> dict:
    """The bundled model on a font that it never saw: in CLIP_benchmark's layout, read by its own code."""
    model, _, preprocess = open_clip.create_model_and_transforms(MODEL)
    model.eval()
    tokenizer = open_clip.get_tokenizer(MODEL)
    labels = (NOTO / "labels.txt").read_text().splitlines()
    pictures = sorted(NOTO.glob("*.png"))
    found = {"template": "an emoji of {c}"}

    def open_loader(folder: Path, task: str):
        dataset = build_dataset(
            "wds/noto", root=str(folder), transform=preprocess, split="test", task=f"zeroshot_{task}"
        )
        loader = torch.utils.data.DataLoader(dataset.batched(64), batch_size=None, shuffle=False)
        loader.dataset.classes = dataset.classes
        return loader

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        classes, pairs, several = [], [], []
        for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            image = (f"{number:04}.png", picture.read_bytes())
            classes += [image, (f"{number:04}.cls", str(number).encode())]
            pairs += [image, (f"{number:04}.txt", f"an emoji of {label}\n{label}".encode())]
            several += [image, (f"{number:04}.npy", npy([int(word in label) for word in WORDS]))]
        tar(folder / "classes/test/0.tar", classes)
        tar(folder / "pairs/test/0.tar", pairs)
        tar(folder / "several/test/0.tar", several)
        (folder / "classes/classnames.txt").write_text("\n".join(labels))
        (folder / "several/classnames.txt").write_text("\n".join(WORDS))
        (folder / "several/dataset_type.txt").write_text("multilabel")
        for kind in ("classes", "several"):
            (folder / kind / "zeroshot_classification_templates.txt").write_text("an emoji of {c}")
        (folder / "pairs/dataset_type.txt").write_text("retrieval")
        for kind in ("classes", "several"):
            loader = open_loader(folder / kind, "classification")
            with one_value():
                found[kind] = zeroshot_classification.evaluate(
                    model, loader, tokenizer, loader.dataset.classes, ["an emoji of {c}"], "cpu", amp=False
                )
        loader = open_loader(folder / "pairs", "retrieval")
        found["pairs"] = zeroshot_retrieval.evaluate(
            model, loader, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10]
        )
    found["words"] = WORDS
    found["selection"] = noto_selection(model, preprocess, tokenizer, pictures, labels)
    return found


# Words of several labels.
WORDS = ["face", "woman", "man", "button", "heart", "hand", "unicorn"]


def npy(values: list[int]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(values))
    return file.getvalue()


def noto_selection(model, preprocess, tokenizer, pictures, labels) -> dict:
    """Neighbours in the list, to be told apart: two pictures with two names, and one picture with two."""
    images = torch.stack([preprocess(Image.open(picture)) for picture in pictures[:200]])
    texts = [f"an emoji of {label}" for label in labels[:200]]
    two = [(images.view(100, 2, *images.shape[1:]), [texts[start : start + 2] for start in range(0, 200, 2)])]
    one = [(images[:199], [[texts[number], texts[number + 1]] for number in range(199)])]
    run = image_caption_selection.evaluate
    return {
        "two": run(model, two, tokenizer, "cpu", amp=False),
        "one": run(model, one, tokenizer, "cpu", amp=False),
    }


def parquet(folder: Path) -> None:
    """Some of the pictures as the crate `datasets` keeps them: with a class each, by number and by name, and with several."""
    labels = (NOTO / "labels.txt").read_text().splitlines()[:6]
    pictures = sorted(NOTO.glob("*.png"))[:6]
    images = [{"bytes": picture.read_bytes(), "path": picture.name} for picture in pictures]
    class_label = {"names": labels, "_type": "ClassLabel"}

    def write(name: str, count: int, columns: dict, label, compression: str) -> None:
        image = pyarrow.array(images[:count], pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}))
        features = {"image": {"_type": "Image"}, "label": label}
        table = pyarrow.table({"image": image, **columns})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pyarrow.parquet.write_table(table, folder / name, compression=compression, row_group_size=4)

    captions = pyarrow.array([[f"an emoji of {label}", label] for label in labels])
    write("noto-v1.parquet", 6, {"label": list(range(6)), "captions": captions}, class_label, "snappy")
    names = [labels[place] for place in (2, 0, 2)]
    write("noto-v1-names.parquet", 3, {"label": names}, {"dtype": "string", "_type": "Value"}, "gzip")
    several = {"feature": class_label, "_type": "Sequence"}
    write("noto-v1-several.parquet", 3, {"label": [[0, 5], [], [2]]}, several, "zstd")


def linear_probe() -> list[dict]:
    """Linear layers that CLIP_benchmark's code trains on a processor, in the order of the samples."""
    from clip_benchmark.metrics import linear_probe as original

    generator = torch.Generator().manual_seed(1)
    cases = []
    for name, count, classes, weight_decay, epochs, rate in [
        ("without weight decay", 50, 4, 0.0, 3, 0.1),
        ("with weight decay", 45, 3, 0.3, 4, 0.05),
    ]:
        features = unit(generator, count, 8, False)
        targets = torch.randint(0, classes, (count,), generator=generator)
        layer = torch.nn.Linear(8, classes)
        initial = [layer.weight.tolist(), layer.bias.tolist()]
        loader = torch.utils.data.DataLoader(original.FeatureDataset(features, targets), batch_size=16)
        with (
            mock.patch.object(torch.nn, "Linear", lambda *_: layer),
            mock.patch.object(torch.nn.Module, "cuda", lambda module: module),
            mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor),
            mock.patch.object(torch.nn, "DataParallel", lambda module, **_: module),
        ):
            found = original.train(loader, 8, classes, weight_decay, rate, epochs, False, "cpu", 0)
        cases.append(
            {
                "name": name,
                "features": numbers(features),
                "classes": targets.tolist(),
                "weight_decay": weight_decay,
                "epochs": epochs,
                "learning_rate": rate,
                "batch_size": 16,
                "initial": initial,
                "trained": [found.weight.tolist(), found.bias.tolist()],
            }
        )
    return cases


def metrics() -> dict:
    generator = torch.Generator().manual_seed(0)
    return {
        "top": tops(generator),
        "classification": classifications(generator),
        "multilabel": multilabels(generator),
        "retrieval": retrievals(generator),
        "selection": selections(generator),
        "linear_probe": linear_probe(),
    }


def lines(value: dict) -> str:
    """A case a line."""
    parts = []
    for key, cases in value.items():
        if isinstance(cases, list):
            rows = ",\n  ".join(json.dumps(case, ensure_ascii=False) for case in cases)
            parts.append(f' "{key}": [\n  {rows}\n ]')
        else:
            parts.append(f' "{key}": {json.dumps(cases, ensure_ascii=False)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    parser.add_argument("--only", default="", help="one of the files by name")
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, make in [("metrics", metrics), ("captions", caption_cases), ("noto-v1", noto)]:
        if args.only in name:
            (args.out / f"{name}.json").write_text(lines(make()))
            print(name, flush=True)
    if args.only in "noto-v1.parquet":
        parquet(args.out)


if __name__ == "__main__":
    main()
