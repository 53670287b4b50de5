#!/usr/bin/env python3
"""Golden logits of a tiny random llama model in three quantisations, by transformers.

Writes tests/fixtures/engine/serve/: q4_0.gguf, q4_1.gguf and q8_0.gguf (the same random weights,
quantised by the gguf package, q and k rows in GGUF's order) and, for each, <type>.safetensors with

    tokens   I32 (n,)
    logits   F32 (n, vocab): transformers in fp32 on the de-quantised weights

usage: engine.py [output folder]
Needs scripts/golden/requirements.txt.
"""
import os
import sys

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file
from transformers import LlamaConfig, LlamaForCausalLM

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCAB, LENGTH = 3, 64, 96, 4, 2, 16, 128, 60


def permuted(weight, heads):
    """Hugging Face's rows of each head (halves apart) to GGUF's (halves side by side)."""
    rows, cols = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def write(path, kind, state):
    """Writes the GGUF file; returns the weights as a reader will see them."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    seen = {}
    for name, tensor in state.items():
        data = tensor.numpy().astype(np.float32)
        target = names.get_name(name, try_suffixes=(".weight",))
        if data.ndim == 1:
            writer.add_tensor(target, data)
            seen[name] = torch.from_numpy(data)
            continue
        blocks = quantize(data, kind)
        seen[name] = torch.from_numpy(dequantize(blocks, kind).reshape(data.shape).copy())
        if "q_proj" in name:
            blocks = permuted(blocks, HEADS)
        if "k_proj" in name:
            blocks = permuted(blocks, KV_HEADS)
        writer.add_tensor(target, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return seen


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        here, "..", "..", "tests", "fixtures", "engine", "serve")
    os.makedirs(out, exist_ok=True)
    torch.manual_seed(11)
    torch.set_num_threads(1)
    config = LlamaConfig(
        hidden_size=HIDDEN, intermediate_size=FFN, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM,
        vocab_size=VOCAB, max_position_embeddings=256, rms_norm_eps=1e-5,
        tie_word_embeddings=False, initializer_range=0.2)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.copy_(0.5 + torch.rand(p.shape))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    tokens = torch.randint(0, VOCAB, (LENGTH,))
    for label in ("q4_0", "q4_1", "q8_0"):
        kind = gguf.GGMLQuantizationType[label.upper()]
        model.load_state_dict(write(os.path.join(out, label + ".gguf"), kind, state))
        with torch.no_grad():
            logits = model(input_ids=tokens[None]).logits[0].float()
        save_file({"tokens": tokens.numpy().astype(np.int32), "logits": logits.numpy()},
                  os.path.join(out, label + ".safetensors"))


if __name__ == "__main__":
    main()
