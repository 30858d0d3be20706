"""Writes the checkpoints of conformance/checkpoints with PyTorch, and what a reader must find in them.

Run: python xtask/reference/checkpoints.py
The files differ in a serialization id from run to run; their tensors don't.
"""

import argparse
import collections
import json
import os
import pathlib
import struct
import zipfile

import numpy
import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "checkpoints"


def counted(*dims, dtype=torch.float32, start=0.0):
    """0.25 apart, so that every element type holds the values exactly."""
    count = int(numpy.prod(dims))
    return (torch.arange(count, dtype=torch.float64) * 0.25 + start).reshape(dims).to(dtype)


def dtypes():
    state = {
        str(dtype).removeprefix("torch."): counted(2, 3, dtype=dtype, start=-1.0)
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    }
    for dtype in (torch.int8, torch.int16, torch.int32, torch.int64):
        state[str(dtype).removeprefix("torch.")] = torch.tensor([-3, 0, 7], dtype=dtype)
    state["uint8"] = torch.tensor([0, 200, 255], dtype=torch.uint8)
    state["bool"] = torch.tensor([[True, False], [False, True]])
    return state


def views():
    base = counted(4, 6)
    return {
        "base": base,
        "transposed": base.t(),
        "window": base[1:3, 2:5],
        "row": base[3],
        "every_second": base.flatten()[1::2],
        "permuted": counted(2, 3, 4).permute(2, 0, 1),
        "expanded": torch.tensor([[5.0], [6.0]]).expand(2, 3),
        "scalar": torch.tensor(4.6052),
        "empty": torch.zeros(0, 3),
        "channels_last": counted(1, 2, 2, 2).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(counted(3)),
    }


def clip_layout():
    return collections.OrderedDict(
        [
            ("positional_embedding", counted(4, 2)),
            ("text_projection", counted(2, 2)),
            ("logit_scale", torch.tensor(2.5)),
            ("visual.class_embedding", counted(2)),
            ("visual.conv1.weight", counted(2, 3, 1, 1)),
            ("transformer.resblocks.0.ln_1.weight", counted(2)),
            ("token_embedding.weight", counted(5, 2)),
            ("ln_final.weight", counted(2)),
        ]
    )


def arrays():
    """Arrays as NumPy's archives have them."""
    made = {f"params/{name}": value.numpy() for name, value in dtypes().items() if value.dtype != torch.bfloat16}
    return made | {
        "fortran": numpy.asfortranarray(counted(4, 6).numpy()),
        "fortran3": numpy.asfortranarray(counted(2, 3, 4).half().numpy()),
        "scalar": numpy.float32(4.6052),
        "empty": numpy.zeros((0, 3), numpy.float32),
    }


def damaged_arrays(refused):
    """NumPy archives whose arrays aren't what their names or headers say."""
    edits = {
        "short_array.npz": (lambda content: content[:-1], "`fortran`: its header describes [4, 6]"),
        "no_array.npz": (lambda content: b"hello", "`fortran`: it doesn't start as a NumPy array does"),
        "wrong_header.npz": (lambda content: content.replace(b"'shape'", b"'shade'"), "`fortran`: its header isn't what"),
    }
    for name, (edit, message) in edits.items():
        rewrite(OUT / "arrays.npz", OUT / name, lambda n, c: edit(c) if n == "fortran.npy" else c)
        refused[name] = message
    # A few bytes that are announced as 2 GB.
    content = bytearray((OUT / "packed.npz").read_bytes())
    entry = content.rindex(b"fortran.npy") - 46
    content[entry + 24 : entry + 28] = struct.pack("<I", 2**31 - 1)
    (OUT / "announced.npz").write_bytes(content)
    refused["announced.npz"] = "bytes can't become the 2147483647 that"


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = torch.nn.LayerNorm(2)
        self.mlp = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))

    def forward(self, x):
        return self.mlp(self.ln_1(x))


class Model(torch.nn.Module):
    """Has what the published TorchScript archives have: buffers that are no parameters, half precision, lists."""

    def __init__(self):
        super().__init__()
        self.visual = Block()
        self.transformer = torch.nn.ModuleList([Block()])
        self.positional_embedding = torch.nn.Parameter(counted(4, 2))
        self.logit_scale = torch.nn.Parameter(torch.tensor(2.5))
        self.register_buffer("input_resolution", torch.tensor(224))
        self.register_buffer("context_length", torch.tensor(77))
        self.register_buffer("vocab_size", torch.tensor(49408))
        self.sizes = [1, 2]
        self.options = {"width": 2}

    def forward(self, x):
        for block in self.transformer:
            x = block(x)
        return self.visual(x) * self.logit_scale + self.sizes[0] + self.options["width"]


class Call:
    def __reduce__(self):
        return os.system, ("echo this must never run",)


def training(model):
    """As the reference's training writes its epochs."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(counted(1, 2)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "name": "a run",
        "state_dict": {"module." + name: value for name, value in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "growth_interval": 2000, "_growth_tracker": 0},
    }


def expected(state):
    tensors = {}
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            continue
        kind = str(value.dtype).removeprefix("torch.")
        tensors[name] = {"dtype": kind, "dims": list(value.shape), "values": value.detach().double().flatten().tolist()}
    return tensors


def rewrite(source, target, change):
    """Copies a zip archive, with `change(name, content)` in place of each entry's content; None drops the entry."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = change(entry.filename, old.read(entry))
            if content is not None:
                new.writestr(zipfile.ZipInfo(entry.filename), content)


def main():
    torch.manual_seed(7)
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    accepted = {}

    def save(name, value, state):
        torch.save(value, OUT / name)
        accepted[name] = expected(state)

    save("dtypes.bin", dtypes(), dtypes())
    save("views.pt", views(), views())
    save("clip.pt", clip_layout(), clip_layout())
    for protocol in (3, 4, 5):
        torch.save(clip_layout(), OUT / f"protocol{protocol}.pt", pickle_protocol=protocol)
        accepted[f"protocol{protocol}.pt"] = expected(clip_layout())
    checkpoint = training(Block())
    save("training.pt", checkpoint, checkpoint["state_dict"])
    extras = {
        "state_dict": clip_layout(),
        "args": argparse.Namespace(lr=0.1, model="ViT-B-32"),
        "best": numpy.float64(0.5),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "history": [1, (2.5, None), {3}, frozenset([4]), b"bytes", 2**80, collections.defaultdict(list)],
    }
    save("extras.pt", extras, clip_layout())
    tagged = torch.nn.Parameter(counted(2))
    tagged.tag = "an attribute"
    save("attributes.pt", {"w": tagged}, {"w": tagged})

    model = Model().half()
    script = torch.jit.script(model)
    script.save(str(OUT / "script.pt"))
    accepted["script.pt"] = expected(script.state_dict())

    contiguous = {name: value.contiguous().clone() for name, value in (dtypes() | views()).items()}
    save_file(contiguous, OUT / "all.safetensors", metadata={"format": "pt"})
    accepted["all.safetensors"] = expected(contiguous)

    # Readable as a whole, with tensors that can't be read.
    unsupported = {
        "w": counted(2),
        "eight": counted(2).to(torch.float8_e4m3fn),
        "complex": torch.zeros(2, dtype=torch.complex64),
        "unsigned": torch.zeros(2, dtype=torch.uint16),
    }
    torch.save(unsupported, OUT / "unsupported.pt")

    refused = {}

    def refuse(name, value, message, **options):
        torch.save(value, OUT / name, **options)
        refused[name] = message

    refuse("call.pt", {"state_dict": clip_layout(), "extra": Call()}, f"`{os.system.__module__}.system`")
    refuse("module.pt", Block(), "`__main__.Block`")
    refuse("layer.pt", torch.nn.Linear(2, 2), "`torch.nn.modules.linear.Linear`")
    refuse("sparse.pt", {"w": counted(2, 2).to_sparse()}, "`torch._utils._rebuild_sparse_tensor`")
    refuse("legacy.pt", clip_layout(), "before 1.6", _use_new_zipfile_serialization=False)
    refuse("list.pt", [counted(2)], "not a dictionary of tensors")
    refuse("numbers.pt", {"a": 1}, "has no tensors")

    def change(name, edit, message):
        rewrite(OUT / "clip.pt", OUT / name, edit)
        refused[name] = message

    change("big_endian.pt", lambda n, c: b"big" if n.endswith("byteorder") else c, "big-endian")
    change("no_storage.pt", lambda n, c: None if n.endswith("data/2") else c, "`logit_scale`")
    change("short_storage.pt", lambda n, c: c[:7] if n.endswith("data/1") else c, "`text_projection`")
    change("no_pickle.pt", lambda n, c: None if n.endswith("data.pkl") else c, "without a `data.pkl`")
    with zipfile.ZipFile(OUT / "clip.pt") as old, zipfile.ZipFile(OUT / "deflated.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
    refused["deflated.pt"] = "compressed"
    tensors = arrays()
    numpy.savez(OUT / "arrays.npz", **tensors)
    numpy.savez_compressed(OUT / "packed.npz", **tensors)
    accepted["arrays.npz"] = accepted["packed.npz"] = expected({n: torch.from_numpy(numpy.asarray(v)) for n, v in tensors.items()})
    numpy.savez(OUT / "unsupported.npz", w=counted(2).numpy(), big=numpy.zeros(2, ">f4"), complex=numpy.zeros(2, "c8"))
    damaged_arrays(refused)

    # The sizes and offsets of one entry in the fields of zip64, as files over 4 GB have them.
    with zipfile.ZipFile(OUT / "zip64.pt", "w") as new, zipfile.ZipFile(OUT / "clip.pt") as old:
        for entry in old.namelist():
            with new.open(zipfile.ZipInfo(entry), "w", force_zip64=True) as target:
                target.write(old.read(entry))
    patch_zip64(OUT / "zip64.pt")
    accepted["zip64.pt"] = accepted["clip.pt"]

    files = ",\n".join(f"{json.dumps(name)}: {json.dumps(tensors)}" for name, tensors in accepted.items())
    refusals = json.dumps(refused, indent=1)
    (OUT / "expected.json").write_text(f'{{"accepted": {{\n{files}\n}},\n"refused": {refusals}}}\n')
    for path in OUT.iterdir():
        path.chmod(0o644)


def patch_zip64(path):
    """Moves sizes and offset of every directory entry to the zip64 extra field, and adds the zip64 end records."""
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    count, size, start = struct.unpack("<HII", content[end + 10 : end + 20])
    directory, position = b"", start
    for _ in range(count):
        fixed = bytearray(content[position : position + 46])
        compressed, uncompressed, name_length, extra_length, comment_length = struct.unpack("<IIHHH", fixed[20:34])
        (offset,) = struct.unpack("<I", fixed[42:46])
        name = content[position + 46 : position + 46 + name_length]
        extra = struct.pack("<HHQQQ", 1, 24, uncompressed, compressed, offset)
        fixed[20:34] = struct.pack("<IIHHH", 2**32 - 1, 2**32 - 1, name_length, len(extra), 0)
        fixed[42:46] = struct.pack("<I", 2**32 - 1)
        directory += bytes(fixed) + name + extra
        position += 46 + name_length + extra_length + comment_length
    end64 = start + len(directory)
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end64, 1)
    last = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(content[:start] + directory + record + locator + last)


if __name__ == "__main__":
    main()
