#!/usr/bin/env python3
"""Whether other programs read what `mlx-hub export` writes as it was meant.

For each tiny model of tests/fixtures/engine/families the hub writes GGUF from the folder, and from
that GGUF a folder for transformers and one for mlx-lm, plain and in 8 bits. Whichever of llama_cpp
(0.3.36), mlx_lm (0.32.2) and transformers (5.23.0) this Python has loads its own; its logits are
compared with the golden ones that transformers gave for the original (KL in nats, mean and largest
over positions). Run it once in each environment. mlx_lm also quantises a random matrix, which has to
equal what the hub writes, bit for bit.

usage: convert_check.py path/to/mlx-hub [family …]
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
FAMILIES = os.path.join(ROOT, "tests", "fixtures", "engine", "families")
# GGUF cannot say mistral's window, so the file's context ends there. llama.cpp ignores phi3's window,
# mlx-lm phi3's and gemma2's; both take long factors in short contexts, too. How many positions count.
LIMITS = {("llama.cpp", "phi3"): 20, ("mlx-lm", "phi3"): 20, ("mlx-lm", "gemma2"): 9,
          ("llama.cpp", "phi3_short"): 1, ("mlx-lm", "phi3_short"): 1}
WINDOWS = {"mistral": 11}
REFUSED = {"qwen2_yarn"}  # yarn without whole dimensions has no words in GGUF
PLAIN, EIGHT = 2e-3, 5e-2  # bounds of the mean: fp16 arithmetic and keys; eight bits


def read_safetensors(path):
    kinds = {"F32": np.float32, "I32": np.int32, "F16": np.float16, "U32": np.uint32}
    with open(path, "rb") as file:
        data = file.read()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] in kinds:
            out[name] = np.frombuffer(data[8 + size + begin:8 + size + end],
                                      kinds[entry["dtype"]]).reshape(entry["shape"])
    return out


def divergence(a, b):
    def logp(x):
        x = x.astype(np.float64) - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))
    p, q = logp(a), logp(b)
    kl = (np.exp(p) * (p - q)).sum(-1)
    return kl.mean(), kl.max()


def export(binary, base, form, out, *more):
    done = subprocess.run([binary, "export", base, "--format", form, "--out", out, *more],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{base} to {form}: {done.stderr}")
    return out


def without_vocabulary(path):
    """llama.cpp asks for a kind of tokenizer; 64 bytes of metadata keep the alignment."""
    def text(value):
        return struct.pack("<Q", len(value)) + value
    with open(path, "rb") as file:
        data = file.read()
    n_kv, = struct.unpack("<Q", data[16:24])
    more = text(b"tokenizer.ggml.model") + struct.pack("<I", 8) + text(b"none")
    more += text(b"x" * (64 - len(more) - 13)) + struct.pack("<IB", 0, 0)
    with open(path, "wb") as file:
        file.write(data[:16] + struct.pack("<Q", n_kv + 2) + more + data[24:])


def by_llama_cpp(path, tokens):
    import llama_cpp
    without_vocabulary(path)
    model = llama_cpp.Llama(path, n_ctx=64, logits_all=True, verbose=False, n_threads=1)
    model.eval(tokens)
    return np.array(model.scores[:len(tokens)])


def by_mlx(path, tokens):
    import pathlib
    import mlx.core as mx
    import mlx_lm.utils
    mx.set_default_device(mx.cpu)
    model = mlx_lm.utils.load_model(pathlib.Path(path))[0]
    return np.array(model(mx.array([tokens]))[0].astype(mx.float32))


def by_transformers(path, tokens):
    import torch
    import transformers
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


def has(module):
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def check(binary, name, folder):
    golden = read_safetensors(os.path.join(FAMILIES, name, "golden.safetensors"))
    tokens = [int(t) for t in golden["rows.tokens"][0] if t >= 0]
    want = golden["logits"][:len(tokens)]
    gguf = export(binary, os.path.join(FAMILIES, name), "gguf", os.path.join(folder, "a.gguf"))
    rows = []
    if has("torch"):
        made = export(binary, gguf, "safetensors", os.path.join(folder, "hf"), "--type", "f32")
        rows.append(("transformers", by_transformers(made, tokens), PLAIN))
    if has("mlx_lm"):
        made = export(binary, gguf, "mlx", os.path.join(folder, "mlx"), "--type", "f32")
        rows.append(("mlx-lm", by_mlx(made, tokens), PLAIN))
        made = export(binary, gguf, "mlx", os.path.join(folder, "mlx8"), "--type", "f32", "--bits",
                      "8", "--group-size", "32")
        rows.append(("mlx-lm, 8 bits", by_mlx(made, tokens), EIGHT))
    if has("llama_cpp"):
        rows.append(("llama.cpp", by_llama_cpp(gguf, tokens), PLAIN))
    good = True
    for who, got, bound in rows:
        n = LIMITS.get((who.split(",")[0], name), WINDOWS.get(name, len(tokens)))
        mean, most = divergence(want[:n], got[:n])
        good = good and mean <= bound
        print(f"{name:14} {who:16} KL mean {mean:.2e} max {most:.2e}"
              f"{'' if mean <= bound else '   TOO FAR'}", flush=True)
    return good


def check_quantisation(binary, folder):
    """The matrices of one family, as the hub and as mx.quantize have them."""
    import mlx.core as mx
    base = os.path.join(FAMILIES, "llama_linear")
    plain = mx.load(os.path.join(base, "model.safetensors"))
    good = True
    for bits in 4, 8:
        made = export(binary, base, "mlx", os.path.join(folder, f"q{bits}"), "--bits", str(bits),
                      "--group-size", "32")
        ours = mx.load(os.path.join(made, "model.safetensors"))
        stems = [k[:-len(".scales")] for k in ours if k.endswith(".scales")]
        for stem in stems:
            theirs = mx.quantize(plain[stem + ".weight"], group_size=32, bits=bits)
            for part, value in zip(("weight", "scales", "biases"), theirs):
                same = bool(mx.array_equal(value, ours[f"{stem}.{part}"]))
                good = good and same
                if not same:
                    print(f"{stem}.{part} in {bits} bits is not mx.quantize's")
        print(f"{bits} bits: {len(stems)} matrices as mx.quantize has them: {good}")
    return good


def main():
    binary = os.path.abspath(sys.argv[1])
    names = sys.argv[2:] or sorted(set(os.listdir(FAMILIES)) - REFUSED)
    with tempfile.TemporaryDirectory() as folder:
        good = check_quantisation(binary, folder) if has("mlx_lm") else True
        for name in names:
            os.makedirs(os.path.join(folder, name))
            good = check(binary, name, os.path.join(folder, name)) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
