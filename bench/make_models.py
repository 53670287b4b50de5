#!/usr/bin/env python3
"""Makes the model files that bench/run compares engines on.

usage: make_models.py SOURCE FOLDER NAME

SOURCE is SmolLM2-135M-Instruct in Q4_1 (scripts/fetch-model). FOLDER/NAME.gguf is made unless it is
there, and its path printed. NAME is one of

    q8_0 q4_0 q4_k_m q5_1 q6_k
                          SOURCE de-quantised and quantised again by llama.cpp, as its users would
    SHAPE-q4_0 SHAPE-q4_k random weights of that type everywhere, in one of the SHAPES below

Needs bench/llama-requirements.txt; for random weights gguf and numpy are enough.
"""
import os
import sys

import gguf
import numpy as np

FTYPES = {"q8_0": 7, "q4_0": 2, "q4_k_m": 15, "q5_1": 9, "q6_k": 18}  # llama.h: enum llama_ftype
# name → layers, hidden, ffn, heads, heads of keys and values, head dim, vocabulary
SHAPES = {
    "135m": (30, 576, 1536, 9, 3, 64, 49152),     # SmolLM2
    "135m-15l": (15, 576, 1536, 9, 3, 64, 49152),  # the same with half and with twice the layers
    "135m-60l": (60, 576, 1536, 9, 3, 64, 49152),
    "360m": (32, 960, 2560, 15, 5, 64, 49152),    # SmolLM2
    "1b": (16, 2048, 8192, 32, 8, 64, 128256),    # Llama 3.2
    "7b": (32, 4096, 11008, 32, 32, 128, 49152),  # Llama 2, with the source's vocabulary
}
CONTEXT = 8192
Types = gguf.GGMLQuantizationType


def copy_metadata(reader, writer, replaced=()):
    """All of the file's keys but its architecture's sizes where those are `replaced`."""
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in (
                "general.architecture", "general.file_type") or field.name in replaced:
            continue
        kind = field.types[0]
        writer.add_key_value(field.name, field.contents(), kind,
                             sub_type=field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_f16(source, path):
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, "llama")
    copy_metadata(reader, writer)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        shape = tuple(int(n) for n in reversed(tensor.shape))
        writer.add_tensor(tensor.name, values.reshape(shape).astype(
            np.float32 if len(shape) == 1 else np.float16))
    finish(writer)


def requantised(source, path, ftype):
    import llama_cpp  # takes minutes to build, and only this needs it
    plain = path + ".f16"
    write_f16(source, plain)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = ftype
    params.nthread = os.cpu_count()
    failed = llama_cpp.llama_model_quantize(plain.encode(), path.encode(), params)
    os.remove(plain)
    if failed:
        raise SystemExit(f"make_models: llama.cpp could not write {path}")


def random_rows(rng, kind, rows, cols):
    """Blocks of random bytes under scales that keep values around 0.02, centred. Columns that do not
    fill a Q4_K block are Q4_0, as llama.cpp falls back, too."""
    if cols % gguf.GGML_QUANT_SIZES[kind][0] != 0:
        kind = Types.Q4_0
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * cols // elements, size), dtype=np.uint8)
    d, offset = {Types.Q4_0: (0.004, None), Types.Q4_K: (1e-4, 7.5e-4)}[kind]
    blocks[:, 0:2] = np.frombuffer(np.float16(d).tobytes(), np.uint8)
    if offset is not None:
        blocks[:, 2:4] = np.frombuffer(np.float16(offset).tobytes(), np.uint8)
    return blocks.reshape(rows, -1), kind


def write_tokenizer(reader, writer, vocab):
    """The source's, its vocabulary filled up."""
    words = ["tokenizer.ggml.tokens", "tokenizer.ggml.token_type"]
    copy_metadata(reader, writer, ["llama." + key for key in (
        "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "rope.dimension_count",
        "rope.freq_base", "attention.key_length", "attention.value_length")] + words)
    tokens = reader.fields[words[0]].contents()
    kinds = reader.fields[words[1]].contents()
    extra = vocab - len(tokens)
    writer.add_token_list(tokens + [f"<|filler_{i}|>" for i in range(extra)])
    writer.add_token_types(kinds + [int(gguf.TokenType.NORMAL)] * extra)


def shaped(source, path, shape, kind):
    """A llama of that shape. All its layers hold the same random matrices: a speed does not show it,
    and a large file is made without holding it in memory."""
    layers, hidden, ffn, heads, kv_heads, head_dim, vocab = SHAPES[shape]
    writer = gguf.GGUFWriter(path, "llama")
    write_tokenizer(gguf.GGUFReader(source), writer, vocab)
    writer.add_block_count(layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(500000.0)
    writer.add_vocab_size(vocab)
    rng = np.random.default_rng(1)
    matrices = {name: random_rows(rng, kind, rows, cols) for name, rows, cols in (
        ("token_embd", vocab, hidden),
        ("attn_q", heads * head_dim, hidden), ("attn_k", kv_heads * head_dim, hidden),
        ("attn_v", kv_heads * head_dim, hidden), ("attn_output", hidden, heads * head_dim),
        ("ffn_gate", ffn, hidden), ("ffn_up", ffn, hidden), ("ffn_down", hidden, ffn))}

    def matrix(prefix, name):
        data, each = matrices[name]
        writer.add_tensor(prefix + name + ".weight", data, raw_dtype=each)

    def norm(name):
        writer.add_tensor(name + ".weight", np.ones(hidden, np.float32))

    matrix("", "token_embd")
    for i in range(layers):
        part = f"blk.{i}."
        norm(part + "attn_norm")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(part, name)
        norm(part + "ffn_norm")
        for name in ("ffn_gate", "ffn_up", "ffn_down"):
            matrix(part, name)
    norm("output_norm")
    finish(writer)


def main():
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    source, folder, name = sys.argv[1:]
    shape, _, kind = name.rpartition("-")
    # Files of an older make of these shapes have another name, and stay unused.
    mark = "" if name in FTYPES else f"-{CONTEXT}"
    path = os.path.join(os.path.abspath(folder), name + mark + ".gguf")
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        unfinished = path + ".making"
        if name in FTYPES:
            requantised(source, unfinished, FTYPES[name])
        elif shape in SHAPES and kind in ("q4_0", "q4_k"):
            shaped(source, unfinished, shape, Types[kind.upper()])
        else:
            raise SystemExit(__doc__)
        os.replace(unfinished, path)
    print(path)


if __name__ == "__main__":
    main()
