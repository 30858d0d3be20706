"""Ways to say the same in ONNX, timed and compared in onnxruntime: which operators exported files are made of, and why.

Runs in an environment with the packages of bench.txt. Every way runs in turns within one process; a line gives the
median time, the speed beside the first way, and how far rows are from a computation in float64.

    python xtask/reference/bench_operators.py [--rounds 15] [--threads 2]
"""

import argparse
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CONTRIB = "com.microsoft"


def session(nodes, constants, inputs, width, threads):
    """A session of a graph from `inputs` (name to width) `[batch, length, width]` to `y`."""
    value = lambda name, width: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "length", width])
    graph = helper.make_graph(
        nodes,
        "graph",
        [value(name, size) for name, size in inputs.items()],
        [value("y", width)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid(CONTRIB, 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=opsets, ir_version=11).SerializeToString()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def linear_ways(weight, bias):
    """A linear layer in f32 and in 8 bits, weights per output channel unless a block says otherwise."""
    node, columns = helper.make_node, weight.shape[1]
    scale = np.abs(weight).max(0) / 127
    levels = np.round(weight / scale)
    signed, unsigned = levels.astype(np.int8), (levels + 128).astype(np.uint8)
    per_row = [
        node("Abs", ["x"], ["size"]),
        node("ReduceMax", ["size", "axes"], ["largest"], keepdims=1),
        node("Div", ["x", "largest"], ["unit"]),
        node("QuantizeLinear", ["unit", "step", "zero"], ["q"]),
    ]
    finish = [node("Mul", ["scaled", "largest"], ["product"]), node("Add", ["product", "b"], ["y"])]
    rows = {"axes": np.array([-1]), "step": np.float32(1 / 127), "zero": np.uint8(128)}
    yield "MatMul, f32", [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["y"])], {"w": weight, "b": bias}
    for kind, values, zero in [("u8", unsigned, np.uint8(128)), ("s8", signed, np.int8(0))]:
        zeros = np.full(columns, zero)
        yield (
            f"DynamicQuantizeMatMul, {kind}",
            [node("DynamicQuantizeMatMul", ["x", "w", "s", "z", "b"], ["y"], domain=CONTRIB)],
            {"w": values, "s": scale, "z": zeros, "b": bias},
        )
        yield (
            f"MatMulInteger per row, {kind}",
            per_row
            + [
                node("MatMulInteger", ["q", "w", "zero", "z"], ["i"]),
                node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
                node("Mul", ["f", "s"], ["scaled"]),
            ]
            + finish,
            {"w": values, "s": scale / np.float32(127), "z": zero, "b": bias, **rows},
        )
        yield (
            f"MatMulIntegerToFloat per row, {kind}",
            per_row
            + [node("MatMulIntegerToFloat", ["q", "w", "step", "s", "zero", "z"], ["scaled"], domain=CONTRIB)]
            + finish,
            {"w": values, "s": scale, "z": zeros, "b": bias, **rows},
        )
    for block in (32, 128, 256):
        blocks = weight.T.reshape(columns, -1, block)
        block_scale = np.abs(blocks).max(2, keepdims=True) / 127
        yield (
            f"MatMulNBits, blocks of {block}",
            [
                node(
                    "MatMulNBits",
                    ["x", "w", "s", "", "", "b"],
                    ["y"],
                    domain=CONTRIB,
                    K=weight.shape[0],
                    N=columns,
                    bits=8,
                    block_size=block,
                    accuracy_level=4,
                )
            ],
            {"w": (np.round(blocks / block_scale) + 128).astype(np.uint8), "s": block_scale.reshape(-1), "b": bias},
        )


def attention_ways(heads, width, length, causal):
    """Multi-head attention of `[batch, length, heads * width]`."""
    node, scale = helper.make_node, width**-0.5
    nodes = [node("Mul", ["q", "s"], ["scaled"])]
    for name, order in [("scaled", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])]:
        nodes += [
            node("Reshape", [name, "split"], [f"{name}_split"]),
            node("Transpose", [f"{name}_split"], [f"{name}_heads"], perm=order),
        ]
    nodes += [
        node("MatMul", ["scaled_heads", "k_heads"], ["products"]),
        node("Add", ["products", "mask"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=-1),
        node("MatMul", ["weights", "v_heads"], ["mixed"]),
        node("Transpose", ["mixed"], ["by_token"], perm=[0, 2, 1, 3]),
        node("Reshape", ["by_token", "merge"], ["y"]),
    ]
    mask = np.triu(np.full((length, length), -np.inf if causal else 0, np.float32), 1)
    yield (
        "MatMul, Softmax, MatMul",
        nodes,
        {"s": np.float32(scale), "split": np.array([0, 0, heads, width]), "merge": np.array([0, 0, -1]), "mask": mask},
    )
    yield (
        "MultiHeadAttention (com.microsoft)",
        [
            node(
                "MultiHeadAttention",
                ["q", "k", "v"],
                ["y"],
                domain=CONTRIB,
                num_heads=heads,
                scale=scale,
                unidirectional=int(causal),
            )
        ],
        {},
    )
    yield (
        "Attention (operator set 23)",
        [
            node(
                "Attention",
                ["q", "k", "v"],
                ["y"],
                q_num_heads=heads,
                kv_num_heads=heads,
                scale=scale,
                is_causal=int(causal),
            )
        ],
        {},
    )


def compare(title, sessions, inputs, expected, rounds):
    """Prints a table."""
    times = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, ready in sessions.items():
            start = time.perf_counter()
            ready.run(None, inputs)
            times[name].append(time.perf_counter() - start)
    print(f"\n{title}\n{'':36}{'ms':>9}{'speed':>8}{'error, median':>16}{'largest':>10}")
    first = np.median(next(iter(times.values())))
    for name, ready in sessions.items():
        (found,) = ready.run(None, inputs)
        rows = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
        median = np.median(times[name])
        print(f"{name:36}{median * 1e3:9.2f}{first / median:8.2f}{np.median(rows):16.5f}{rows.max():10.5f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    normal = lambda *dims: generator.standard_normal(dims).astype(np.float32)

    for rows, size, columns in [(1600, 768, 3072), (1600, 3072, 768), (50, 768, 3072)]:
        weight, bias = normal(size, columns) * np.float32(0.03), normal(columns)
        # Tokens differ in size, as those of real images do.
        x = normal(rows // 50, 50, size) * np.exp(normal(rows // 50, 50, 1))
        ways = {
            name: session(nodes, constants, {"x": size}, columns, options.threads)
            for name, nodes, constants in linear_ways(weight, bias)
        }
        expected = x.astype(np.float64) @ weight + bias
        compare(f"linear layer [{rows}, {size}] x [{size}, {columns}]", ways, {"x": x}, expected, options.rounds)

    for batch, length, heads, width, causal in [(32, 50, 12, 64, False), (8, 197, 12, 64, False), (32, 77, 8, 64, True)]:
        inputs = {name: normal(batch, length, heads * width) for name in "qkv"}
        ways = {
            name: session(nodes, constants, dict.fromkeys("qkv", heads * width), heads * width, options.threads)
            for name, nodes, constants in attention_ways(heads, width, length, causal)
        }
        split = {name: x.astype(np.float64).reshape(batch, length, heads, width) for name, x in inputs.items()}
        scores = np.einsum("nqhe,nkhe->nhqk", split["q"], split["k"]) * width**-0.5
        if causal:
            scores += np.triu(np.full((length, length), -np.inf), 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        expected = np.einsum("nhqk,nkhe->nqhe", weights, split["v"]).reshape(batch, length, -1)
        kind = "causal attention" if causal else "attention"
        compare(f"{kind} [{batch}, {length}, {heads} x {width}]", ways, inputs, expected, options.rounds)


if __name__ == "__main__":
    main()
