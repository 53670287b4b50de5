#!/usr/bin/env python3
"""Makes the model files that bench/run compares engines on.

usage: make_models.py SOURCE FOLDER NAME

SOURCE is SmolLM2-135M-Instruct in Q4_1 (scripts/fetch-model). FOLDER/NAME.gguf is made unless it is
there, and its path printed. NAME is one of

    q8_0 q4_0 q4_k_m      SOURCE de-quantised and quantised again by llama.cpp, as its users would
    1b-q4_0 1b-q4_k       the shape of Llama 3.2 1B with random weights of that type everywhere

Needs bench/llama-requirements.txt.
"""
import os
import sys

import gguf
import llama_cpp
import numpy as np

FTYPES = {"q8_0": 7, "q4_0": 2, "q4_k_m": 15}  # llama.h: enum llama_ftype
LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 16, 2048, 8192, 32, 8, 64, 128256
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
    """Blocks of random bytes under scales that keep values around 0.02, centred."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * cols // elements, size), dtype=np.uint8)
    d, offset = {Types.Q4_0: (0.004, None), Types.Q4_K: (1e-4, 7.5e-4)}[kind]
    blocks[:, 0:2] = np.frombuffer(np.float16(d).tobytes(), np.uint8)
    if offset is not None:
        blocks[:, 2:4] = np.frombuffer(np.float16(offset).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def large(source, path, kind):
    """The source's tokenizer with its vocabulary filled up, and the weights of a larger model."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, "llama")
    sizes = ["llama." + key for key in (
        "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "rope.dimension_count",
        "rope.freq_base", "attention.key_length", "attention.value_length")]
    words = ["tokenizer.ggml.tokens", "tokenizer.ggml.token_type"]
    copy_metadata(reader, writer, sizes + words)
    tokens = reader.fields[words[0]].contents()
    kinds = reader.fields[words[1]].contents()
    extra = VOCAB - len(tokens)
    writer.add_token_list(tokens + [f"<|filler_{i}|>" for i in range(extra)])
    writer.add_token_types(kinds + [int(gguf.TokenType.NORMAL)] * extra)
    writer.add_block_count(LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(500000.0)
    writer.add_vocab_size(VOCAB)
    rng = np.random.default_rng(1)

    def matrix(name, rows, cols):
        writer.add_tensor(name + ".weight", random_rows(rng, kind, rows, cols), raw_dtype=kind)

    def norm(name):
        writer.add_tensor(name + ".weight", np.ones(HIDDEN, np.float32))

    matrix("token_embd", VOCAB, HIDDEN)
    for i in range(LAYERS):
        part = f"blk.{i}."
        norm(part + "attn_norm")
        matrix(part + "attn_q", HEADS * HEAD_DIM, HIDDEN)
        matrix(part + "attn_k", KV_HEADS * HEAD_DIM, HIDDEN)
        matrix(part + "attn_v", KV_HEADS * HEAD_DIM, HIDDEN)
        matrix(part + "attn_output", HIDDEN, HEADS * HEAD_DIM)
        norm(part + "ffn_norm")
        matrix(part + "ffn_gate", FFN, HIDDEN)
        matrix(part + "ffn_up", FFN, HIDDEN)
        matrix(part + "ffn_down", HIDDEN, FFN)
    norm("output_norm")
    finish(writer)


def main():
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    source, folder, name = sys.argv[1:]
    path = os.path.join(os.path.abspath(folder), name + ".gguf")
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        unfinished = path + ".making"
        if name in FTYPES:
            requantised(source, unfinished, FTYPES[name])
        elif name in ("1b-q4_0", "1b-q4_k"):
            large(source, unfinished, Types[name[3:].upper()])
        else:
            raise SystemExit(__doc__)
        os.replace(unfinished, path)
    print(path)


if __name__ == "__main__":
    main()
