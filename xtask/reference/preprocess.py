"""References of image preprocessing: the modes that Pillow opens files in, the 8-bit pixels after the reference's resize
and crop, and the normalised tensors.

    python preprocess.py                                  # writes conformance/preprocess
    python preprocess.py --fuzz DIR --count N --seed S    # random files and configurations, for a wide comparison

The inputs are made here (gradients, noise, waves), in every file kind whose decoding is exact, except two samples of
Noto Emoji. `references.json` has for each file its mode and size, or that the reference refuses it, and for each
configuration the SHA-256 of the pixels and of the float32 tensor, or that the reference refuses it.
"""

import argparse
import hashlib
import io
import json
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

warnings.simplefilter("ignore")
ROOT = Path(__file__).resolve().parents[2] / "conformance" / "preprocess"


# ---------------------------------------------------------------------------------------------------------- content


def content(rng, width, height, channels, kind=None):
    """An array `[H, W, C]` of bytes."""
    kind = kind or rng.choice(["gradient", "noise", "waves", "flat"])
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    planes = []
    for _ in range(channels):
        if kind == "gradient":
            a, b = rng.uniform(-1, 1, 2)
            plane = 128 + 127 * (a * x / max(width, 1) + b * y / max(height, 1))
        elif kind == "flat":
            plane = np.full((height, width), rng.integers(0, 256))
            plane[rng.integers(0, height) :, rng.integers(0, width) :] = rng.integers(0, 256)
        else:
            fx, fy, phase = rng.uniform(0, 1.5, 3)
            plane = 128 + 90 * np.sin(x * fx + y * fy + phase * 4) + rng.normal(0, 8, (height, width))
        planes.append(plane)
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


# -------------------------------------------------------------------------------------------------------------- PNG

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, color, depth, interlaced=False, palette=None, trns=None):
    """A PNG of any colour type and depth from an array `[H, W, C]` of sample values."""
    height, width, _ = samples.shape

    def rows(part):
        out = b""
        for row in part:
            flat = row.reshape(-1)
            if depth == 16:
                data = flat.astype(">u2").tobytes()
            elif depth == 8:
                data = flat.astype(np.uint8).tobytes()
            else:
                bits = (flat[:, None].astype(np.uint8) >> np.arange(depth - 1, -1, -1)) & 1
                data = np.packbits(bits.reshape(-1)).tobytes()
            out += b"\0" + data
        return out

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    if interlaced:
        parts = [samples[y0::dy, x0::dx] for x0, y0, dx, dy in ADAM7]
        data = b"".join(rows(part) for part in parts if part.size)
    else:
        data = rows(samples)
    out = b"\x89PNG\r\n\x1a\n"
    out += chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced)))
    if palette is not None:
        out += chunk(b"PLTE", palette)
    if trns is not None:
        out += chunk(b"tRNS", trns)
    return out + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def png_kinds():
    for color, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for depth in depths:
            yield color, depth


def random_png(rng, width, height, color, depth, interlaced=False, trns=False):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    samples = content(rng, width, height, channels).astype(np.uint32)
    samples = samples * 257 + (samples * 31 + 7) % 200 if depth == 16 else samples >> (8 - depth)
    samples = np.clip(samples, 0, (1 << depth) - 1)
    palette = alpha = None
    if color == 3:
        size = 1 << depth if rng.random() < 0.7 else int(rng.integers(1, (1 << depth) + 1))
        samples = np.minimum(samples, size - 1)
        palette = rng.integers(0, 256, size * 3, dtype=np.uint8).tobytes()
    if trns:
        alpha = {0: b"\0\1", 2: b"\0\1\0\2\0\3", 3: bytes([0, 128, 255][: 1 << min(depth, 2)])}.get(color)
    return png(samples, color, depth, interlaced, palette, alpha)


# ---------------------------------------------------------------------------------------- bitmaps, any-maps, targas


def bmp(width, height, bits, rows, palette=b"", compression=0, masks=b"", top_down=False, header=40, colors=0):
    offset = 14 + header + (len(masks) if header == 40 else 0) + len(palette)
    info = struct.pack(
        "<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression, len(rows), 0, 0, colors, 0
    )
    info += masks if header == 40 else masks.ljust(header - 40, b"\0")
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + info + palette + rows


def padded(data, stride):
    return b"".join(data[i : i + stride].ljust(-(-stride // 4) * 4, b"\0") for i in range(0, len(data), stride))


def packed_rows(samples, bits):
    out = b""
    for row in samples:
        unpacked = (row[:, None] >> np.arange(bits - 1, -1, -1)) & 1
        line = np.packbits(unpacked.reshape(-1)).tobytes()
        out += line.ljust(-(-len(line) // 4) * 4, b"\0")
    return out


def run_lengths(samples):
    out = b""
    for row in samples[::-1]:
        x = 0
        while x < len(row):
            run = 1
            while x + run < len(row) and row[x + run] == row[x] and run < 255:
                run += 1
            if run == 1 and len(row) - x >= 3:
                count = min(len(row) - x, 5)
                out += bytes([0, count]) + bytes(row[x : x + count]) + b"\0" * (count % 2)
                x += count
            else:
                out += bytes([run, row[x]])
                x += run
        out += b"\0\0"
    return out + b"\0\1"


def random_bmp(rng, width, height, kind):
    if kind in (1, 4, 8, "gray", "rle8"):
        bits = kind if isinstance(kind, int) else 8
        samples = content(rng, width, height, 1)[..., 0] >> (8 - bits)
        levels = np.arange(256, dtype=np.uint8) if kind == "gray" else rng.integers(0, 256, 1 << bits)
        if kind == 1 and rng.random() < 0.5:
            levels = np.array([0, 255])
        palette = b"".join(bytes([v, v if kind in ("gray", 1) else v ^ 90, v, 0]) for v in levels.tolist())
        if kind == "rle8":
            return bmp(width, height, 8, run_lengths(samples), palette, 1)
        return bmp(width, height, bits, packed_rows(samples, bits), palette, top_down=bool(rng.random() < 0.3))
    channels = {15: 2, 16: 2, 24: 3, 32: 4, "rgba": 4, "abgr": 4}[kind]
    data = padded(content(rng, width, height, channels).tobytes(), width * channels)
    if kind == 16:
        return bmp(width, height, 16, data, compression=3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F))
    if kind == "rgba":
        masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        return bmp(width, height, 32, data, compression=3, masks=masks, header=56)
    if kind == "abgr":
        masks = struct.pack("<IIII", 0xFF000000, 0xFF0000, 0xFF00, 0xFF)
        return bmp(width, height, 32, data, compression=3, masks=masks, header=124)
    return bmp(width, height, channels * 8, data, top_down=bool(rng.random() < 0.3))


BMP_KINDS = [1, 4, 8, "gray", "rle8", 15, 16, 24, 32, "rgba", "abgr"]


def random_pnm(rng, width, height, kind, maxval):
    head = f"P{kind}\n# a comment\n{width} {height}\n"
    if kind in (1, 4):
        bits = content(rng, width, height, 1)[..., 0] >> 7
        if kind == 1:
            return head.encode() + b"".join(b" ".join(b"01"[v : v + 1] for v in row) + b"\n" for row in bits)
        return head.encode() + b"".join(np.packbits(row).tobytes() for row in bits)
    if kind == "f":
        values = (content(rng, width, height, 1).astype("<f4") * 1.3 - 20).tobytes()
        return f"Pf\n{width} {height}\n-1.0\n".encode() + values
    channels = 3 if kind in (3, 6) else 1
    values = content(rng, width, height, channels).astype(np.uint32) * maxval // 255
    head = (head + f"{maxval}\n").encode()
    if kind in (2, 3):
        return head + " ".join(map(str, values.reshape(-1))).encode() + b"\n"
    return head + values.astype(">u2" if maxval > 255 else "u1").tobytes()


def random_tga(rng, width, height, mode, rle, orientation):
    array = content(rng, width, height, {"RGB": 3, "RGBA": 4, "LA": 2}.get(mode, 1))
    image = Image.fromarray(array if array.shape[-1] > 1 else array[..., 0], mode if mode != "P" else "L")
    if mode == "P":
        image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    out = io.BytesIO()
    image.save(out, "TGA", orientation=orientation, compression="tga_rle" if rle else None)
    return out.getvalue()


# ------------------------------------------------------------------------------------- what Pillow itself can write


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def random_image(rng, width, height, mode):
    if mode == "1":
        return Image.fromarray(content(rng, width, height, 1)[..., 0]).convert("1")
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, int(rng.choice([300, 65536])), (height, width), dtype=np.uint16))
    if mode == "I":
        return Image.fromarray(rng.integers(-300, 70000, (height, width), dtype=np.int32))
    if mode == "F":
        return Image.fromarray(rng.uniform(-50, 400, (height, width)).astype(np.float32))
    if mode == "P":
        image = Image.fromarray(content(rng, width, height, 1)[..., 0], "L")
        image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
        return image
    array = content(rng, width, height, {"L": 1, "LA": 2, "RGB": 3}.get(mode, 4))
    return Image.fromarray(array if array.shape[-1] > 1 else array[..., 0], mode)


def random_tiff(rng, width, height, mode):
    compression = rng.choice(["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
    if mode == "1" and rng.random() < 0.5:
        compression = "group4"
    options = {"tiffinfo": {274: int(rng.integers(1, 9))}} if rng.random() < 0.4 else {}
    return saved(random_image(rng, width, height, mode), "TIFF", compression=str(compression), **options)


def random_gif(rng, width, height):
    mode = str(rng.choice(["P", "L", "1"]))
    image = random_image(rng, width, height, mode)
    options = {"interlace": int(rng.integers(0, 2)), "optimize": bool(rng.random() < 0.3)}
    if rng.random() < 0.3:
        options["transparency"] = 0
    if rng.random() < 0.3:
        options |= {"save_all": True, "append_images": [random_image(rng, width, height, "P")]}
    return saved(image, "GIF", **options)


def random_jpeg(rng, width, height):
    mode = str(rng.choice(["L", "RGB", "RGB", "RGB", "CMYK"]))
    options = {"quality": int(rng.integers(20, 100)), "progressive": bool(rng.random() < 0.3)}
    if mode == "RGB":
        options["subsampling"] = [0, 1, 2, "4:1:1"][rng.integers(0, 4)]
    if rng.random() < 0.3:
        options["restart_marker_blocks"] = int(rng.integers(1, 9))
    exif = Image.Exif()
    exif[274] = int(rng.integers(1, 9))
    return saved(random_image(rng, width, height, mode), "JPEG", exif=exif, **options)


TIFF_MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"]


def random_file(rng, width, height):
    """A file of a random kind and its extension."""
    family = rng.choice(["png", "png", "png", "bmp", "pnm", "tga", "tiff", "tiff", "gif", "jpg", "jpg", "webp"])
    if family == "png":
        color, depth = list(png_kinds())[rng.integers(0, 15)]
        return random_png(rng, width, height, color, depth, rng.random() < 0.2, rng.random() < 0.3), "png"
    if family == "bmp":
        return random_bmp(rng, width, height, BMP_KINDS[rng.integers(0, len(BMP_KINDS))]), "bmp"
    if family == "pnm":
        kind = [1, 2, 3, 4, 5, 6, "f"][rng.integers(0, 7)]
        return random_pnm(rng, width, height, kind, int(rng.choice([1, 15, 100, 255, 300, 1023, 65535]))), "pnm"
    if family == "tga":
        mode = str(rng.choice(["1", "L", "LA", "P", "RGB", "RGBA"][1:]))
        return random_tga(rng, width, height, mode, rng.random() < 0.5, int(rng.choice([-1, 1]))), "tga"
    if family == "tiff":
        return random_tiff(rng, width, height, TIFF_MODES[rng.integers(0, len(TIFF_MODES))]), "tif"
    if family == "gif":
        return random_gif(rng, width, height), "gif"
    if family == "jpg":
        return random_jpeg(rng, width, height), "jpg"
    return saved(random_image(rng, width, height, str(rng.choice(["RGB", "RGBA"]))), "WEBP", lossless=True), "webp"


# ------------------------------------------------------------------------------------------------------- references


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def describe(data):
    """Mode and size in which Pillow opens a file, or None where it refuses it."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Exception:
        return None
    return {"mode": image.mode.replace("I;16B", "I;16"), "width": image.width, "height": image.height}


def reference(data, config):
    """The hashes for one file and configuration; None where the reference refuses it."""
    transform = image_transform_v2(PreprocessCfg(**config), is_train=False).transforms
    try:
        pixels = Image.open(io.BytesIO(data))
        for step in transform[:-2]:
            pixels = step(pixels)
    except ValueError:
        return None, None
    tensor = pixels
    for step in transform[-2:]:
        tensor = step(tensor)
    return pixels, tensor.numpy()


def case(name, data, config):
    pixels, tensor = reference(data, config)
    if pixels is None:
        return {"file": name, "config": config, "error": True}
    return {
        "file": name,
        "config": config,
        "pixels": sha256(pixels.tobytes()),
        "tensor": sha256(tensor.astype("<f4").tobytes()),
    }


def random_config(rng, width, height, largest=72):
    side = lambda: int(rng.integers(1, largest))
    size = side() if rng.random() < 0.6 else [side(), side()]
    if rng.random() < 0.1:
        size = [height, width]
    return {
        "size": size,
        "resize_mode": str(rng.choice(["shortest", "longest", "squash"])),
        "interpolation": str(rng.choice(["bicubic", "bilinear"])),
        "fill_color": int(rng.integers(0, 256)) if rng.random() < 0.5 else 0,
        "mean": [0.48145466, 0.4578275, 0.40821073] if rng.random() < 0.5 else [0.5, 0.5, 0.5],
        "std": [0.26862954, 0.26130258, 0.27577711] if rng.random() < 0.5 else [0.5, 0.5, 0.5],
    }


def fuzz(folder, count, seed, largest):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    files, cases = {}, []
    for index in range(count):
        width, height = (int(v) for v in rng.integers(1, largest, 2))
        if rng.random() < 0.2:
            width, height = [(1, height), (width, 1), (int(rng.integers(1, 6)), height)][rng.integers(0, 3)]
        data, extension = random_file(rng, width, height)
        name = f"{seed}-{index}.{extension}"
        (folder / name).write_bytes(data)
        files[name] = describe(data)
        if files[name]:
            width, height = files[name]["width"], files[name]["height"]
            cases += [case(name, data, random_config(rng, width, height)) for _ in range(3)]
            cases.append(case(name, data, {"size": [height, width], "resize_mode": "squash"}))
    (folder / "references.json").write_text(json.dumps({"files": files, "cases": cases}))


# -------------------------------------------------------------------------------------------------------- committed

CONFIGS = [
    {"size": 32},
    {"size": 32, "interpolation": "bilinear"},
    {"size": 11, "resize_mode": "longest", "fill_color": 127},
    {"size": [24, 40], "interpolation": "bilinear"},
    {"size": [40, 24], "resize_mode": "longest", "fill_color": 3},
    {"size": 20, "resize_mode": "squash"},
    {"size": [17, 61], "resize_mode": "squash", "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3},
    {"size": 224},
]


def committed_files():
    rng = np.random.default_rng(2)
    for color, depth in png_kinds():
        for interlaced in (False, True):
            width, height = (37, 29) if interlaced else (23, 50)
            name = f"png-type{color}-{depth}bit{'-interlaced' if interlaced else ''}.png"
            yield name, random_png(rng, width, height, color, depth, interlaced, trns=interlaced)
    for kind in BMP_KINDS:
        yield f"bmp-{kind}.bmp", random_bmp(rng, 31, 18, kind)
    for kind, maxval in [(1, 1), (2, 15), (2, 1000), (3, 255), (4, 1), (5, 255), (5, 65535), (6, 255), (6, 700), ("f", 1)]:
        yield f"pnm-P{kind}-{maxval}.pnm", random_pnm(rng, 19, 27, kind, maxval)
    for mode in ("L", "LA", "P", "RGB", "RGBA"):
        for rle in (False, True):
            yield f"tga-{mode}{'-rle' if rle else ''}.tga", random_tga(rng, 21, 17, mode, rle, 1 if rle else -1)
    for mode in TIFF_MODES:
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            data = saved(random_image(rng, 22, 35, mode), "TIFF", compression=compression)
            yield f"tiff-{mode.replace(';', '')}-{compression.removeprefix('tiff_')}.tif", data
    yield "tiff-1-group4.tif", saved(random_image(rng, 50, 35, "1"), "TIFF", compression="group4")
    for orientation in (3, 6, 8):
        data = saved(random_image(rng, 22, 35, "RGB"), "TIFF", tiffinfo={274: orientation})
        yield f"tiff-orientation{orientation}.tif", data
    for index in range(6):
        yield f"gif-{index}.gif", random_gif(rng, 33, 28)
    yield "webp-lossless-rgb.webp", saved(random_image(rng, 40, 31, "RGB"), "WEBP", lossless=True)
    yield "webp-lossless-rgba.webp", saved(random_image(rng, 40, 31, "RGBA"), "WEBP", lossless=True)
    for subsampling in (0, 1, 2, "4:1:1"):
        for progressive in (False, True):
            image = Image.fromarray(content(rng, 75, 53, 3, "waves"))
            name = f"jpeg-{str(subsampling).replace(':', '')}{'-progressive' if progressive else ''}.jpg"
            yield name, saved(image, "JPEG", subsampling=subsampling, progressive=progressive)
    yield "jpeg-gray.jpg", saved(random_image(rng, 30, 41, "L"), "JPEG")
    yield "jpeg-cmyk.jpg", saved(random_image(rng, 30, 41, "CMYK"), "JPEG")
    exif = Image.Exif()
    exif[274] = 6
    image = Image.fromarray(content(rng, 48, 20, 3, "waves"))
    yield "jpeg-restart-exif6.jpg", saved(image, "JPEG", exif=exif, restart_marker_blocks=2)
    for width, height in [(1, 1), (1, 500), (500, 1), (1, 37), (3, 400), (400, 3), (300, 217), (2, 2)]:
        for mode in ("RGB", "RGBA", "P", "I;16"):
            if mode == "RGB" or width * height <= 500:
                yield f"size-{width}x{height}-{mode.replace(';', '')}.png", saved(random_image(rng, width, height, mode), "PNG")


def committed():
    inputs = ROOT / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    made = dict(committed_files())
    made |= {path.name: path.read_bytes() for path in sorted(inputs.glob("noto-*.png"))}
    files, cases = {}, []
    for name, data in made.items():
        (inputs / name).write_bytes(data)
        files[name] = describe(data)
        own = {"size": [files[name]["height"], files[name]["width"]], "resize_mode": "squash"}
        cases += [case(name, data, config) for config in [*CONFIGS, own]]
    body = ",\n".join(json.dumps(entry) for entry in cases)
    listing = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in files.items())
    (ROOT / "references.json").write_text(f'{{"files": {{\n{listing}\n}},\n"cases": [\n{body}\n]}}\n')
    # Whole pixels of a few cases, so that a difference can be looked at.
    for name, config in [("size-300x217-RGB.png", {"size": 32}), ("png-type6-8bit.png", {"size": 20, "resize_mode": "squash"})]:
        pixels, _ = reference(made[name], config)
        pixels.save(ROOT / f"pixels-{name.removesuffix('.png')}-{config['size']}.ppm")
    # Whole JPEGs, because the default decoder is only close.
    for name in ("jpeg-0.jpg", "jpeg-2.jpg", "jpeg-cmyk.jpg"):
        Image.open(io.BytesIO(made[name])).convert("RGB").save((ROOT / name).with_suffix(".ppm"))
    # A lossy WebP with all its pixels.
    image = Image.fromarray(content(rng := np.random.default_rng(5), 64, 48, 3, "waves"))
    data = saved(image, "WEBP", quality=80)
    (ROOT / "lossy.webp").write_bytes(data)
    Image.open(io.BytesIO(data)).convert("RGB").save(ROOT / "lossy.ppm")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--fuzz", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=160)
    arguments = parser.parse_args()
    if arguments.fuzz:
        fuzz(arguments.fuzz, arguments.count, arguments.seed, arguments.largest)
    else:
        committed()


if __name__ == "__main__":
    main()
