#!/usr/bin/env python3
"""Golden logits and LoRA gradients of one tiny random model per family, by transformers and PEFT.

Writes tests/fixtures/engine/families/<name>/: config.json and model.safetensors (F16, so that both
sides see the same weights), <name>.gguf with the same weights where llama.cpp knows the family
(metadata and names as its converter writes them), and golden.safetensors with

    rows.tokens     I32 (4, length)  padded with -1
    rows.targets    I32 (4, length)  1 where a token is to be predicted
    logits          F32 (length, vocab) of the first row, adapter off, in fp32
    init.<factor>   F32 adapter values; B is not zero, so A has a gradient
    grad.<factor>   F32 gradients of sum(-log p) / targets over the first two rows
    loss            F32 mean loss of those two rows

and lora in its metadata. gemma3/wrapped holds the same model inside a multimodal one, phi3/affine in MLX's
affine 8 bits where columns are whole groups of 32. Factor names and shapes are as train.py has them.

usage: families.py [output folder]
Needs scripts/golden/requirements.txt.
"""
import copy
import json
import os
import sys

import gguf
import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from engine import permuted
from train import ALL, backward, factors, make_rows

SIZES = dict(hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=64, max_position_embeddings=128, rms_norm_eps=1e-5,
             bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.15,
             attn_implementation="eager")
ROWS = [40, 23, 9, 37]
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
              high_freq_factor=4.0, original_max_position_embeddings=32)
DEFAULT = dict(rope_type="default", rope_theta=10000.0)


def stretched(original):
    return dict(rope_type="longrope", rope_theta=10000.0,
                original_max_position_embeddings=original,
                short_factor=[1.0 + 0.125 * i for i in range(8)],
                long_factor=[1.5 + 0.75 * i for i in range(8)])


# name: transformers' class, what differs from SIZES, and the GGUF architecture
FAMILIES = {
    "llama": dict(cls="Llama", gguf="LLAMA", config=dict(
        head_dim=16, attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3,
        tie_word_embeddings=False)),
    "llama_linear": dict(cls="Llama", gguf="LLAMA", config=dict(
        head_dim=80, num_attention_heads=1, num_key_value_heads=1, tie_word_embeddings=True,
        rope_parameters=dict(DEFAULT, rope_type="linear", factor=4.0))),
    "mistral": dict(cls="Mistral", gguf=None, config=dict(
        head_dim=16, sliding_window=11, tie_word_embeddings=False)),
    "qwen2": dict(cls="Qwen2", gguf="QWEN2", config=dict(
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        rope_parameters=dict(DEFAULT, rope_theta=1000000.0))),
    "qwen3": dict(cls="Qwen3", gguf="QWEN3", config=dict(
        head_dim=32, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=False)),
    "smollm3": dict(cls="SmolLM3", gguf="SMOLLM3", config=dict(
        num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=4,
        intermediate_size=24, rope_parameters=dict(DEFAULT, rope_theta=5000000.0))),
    "gemma2": dict(cls="Gemma2", gguf="GEMMA2", config=dict(
        head_dim=16, query_pre_attn_scalar=16, sliding_window=9, attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0, hidden_activation="gelu_pytorch_tanh")),
    "gemma3": dict(cls="Gemma3", gguf="GEMMA3", config=dict(
        head_dim=16, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=6,
        intermediate_size=24, query_pre_attn_scalar=16, sliding_window=17,
        hidden_activation="gelu_pytorch_tanh",
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", rope_theta=1000000.0, factor=8.0),
            sliding_attention=dict(DEFAULT)))),
    "phi3": dict(cls="Phi3", gguf="PHI3", config=dict(
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=24,
        sliding_window=20, rope_parameters=dict(DEFAULT, partial_rotary_factor=0.75)),
        targets=["o_proj", "down_proj"]),
    # rows and sessions shorter than the original context take the short factors, these the long
    "phi3_short": dict(cls="Phi3", gguf="PHI3", config=dict(
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=24,
        max_position_embeddings=512, original_max_position_embeddings=128,
        rope_parameters=stretched(128)), targets=["o_proj", "down_proj"]),
    "phi3_long": dict(cls="Phi3", gguf="PHI3", config=dict(
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=24,
        max_position_embeddings=128, original_max_position_embeddings=8,
        rope_parameters=stretched(8)), targets=["o_proj", "down_proj"]),
    # the ramp runs from dimension 0 to 6; and unrounded, from 0.6 to 2.6
    "llama_yarn": dict(cls="Llama", gguf="LLAMA", config=dict(
        num_attention_heads=1, num_key_value_heads=1, intermediate_size=24,
        tie_word_embeddings=True, rope_parameters=dict(
            DEFAULT, rope_type="yarn", factor=4.0, original_max_position_embeddings=128))),
    "qwen2_yarn": dict(cls="Qwen2", gguf=None, config=dict(
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=24,
        rope_parameters=dict(
            DEFAULT, rope_type="yarn", factor=2.5, original_max_position_embeddings=64,
            beta_fast=5.0, beta_slow=0.5, truncate=False, mscale=0.7, mscale_all_dim=1.3))),
    "olmo2": dict(cls="Olmo2", gguf="OLMO2", config=dict(
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=24,
        rope_parameters=dict(DEFAULT, rope_theta=500000.0))),
    "granite": dict(cls="Granite", gguf="GRANITE", config=dict(
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=24, attention_bias=True,
        embedding_multiplier=6.0,
        residual_multiplier=0.375, attention_multiplier=0.125, logits_scaling=4.0,
        tie_word_embeddings=True)),
}


def make_model(spec):
    """A random model whose weights are all exact in F16; no norm is one and no bias zero."""
    name = "Gemma3Text" if spec["cls"] == "Gemma3" else spec["cls"]
    config = getattr(transformers, name + "Config")(**{**SIZES, **spec["config"]})
    model = getattr(transformers, spec["cls"] + "ForCausalLM")(config).float().eval()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.ndim == 1:
                p.add_(0.2 * torch.randn(p.shape, generator=generator))
            p.copy_(p.half().float())
    return config, model


# --- GGUF -----------------------------------------------------------------------------------------

def head_dim_of(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def rope_factors(config, half):
    """What llama.cpp's converter divides inverse frequencies by for llama3."""
    rope = config.rope_parameters
    out = []
    for i in range(half):
        freq = rope["rope_theta"] ** (-i / half)
        wave = 2 * np.pi / freq
        old = rope["original_max_position_embeddings"]
        low, high = old / rope["low_freq_factor"], old / rope["high_freq_factor"]
        if wave < high:
            out.append(1.0)
        elif wave > low:
            out.append(rope["factor"])
        else:
            smooth = (old / wave - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"])
            out.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def add_metadata(writer, name, config):
    head_dim = head_dim_of(config)
    rope = config.rope_parameters
    local = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if local is None:
        writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1.0)))
    if head_dim * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if rope["rope_type"] == "longrope":
        original = rope["original_max_position_embeddings"]
        stretch = config.max_position_embeddings / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(stretch) / np.log(original))))
    if getattr(config, "sliding_window", None) and name in ("gemma2", "gemma3", "phi3"):
        writer.add_sliding_window(config.sliding_window)
    if name == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if name == "granite":
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)


def write_gguf(path, name, arch, config, state, vocabulary=False):
    """vocabulary: with the one key that llama.cpp asks of a file without a tokenizer."""
    arch = gguf.MODEL_ARCH[arch]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    add_metadata(writer, name, config)
    if vocabulary:
        writer.add_tokenizer_model("none")
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    if config.rope_parameters.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_factors(config, head_dim_of(config) // 2))
    if config.rope_parameters.get("rope_type") == "longrope":
        for which in ("long", "short"):
            factors_of = np.array(config.rope_parameters[which + "_factor"], dtype=np.float32)
            writer.add_tensor(f"rope_factors_{which}.weight", factors_of)
    for key, tensor in state.items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        data = tensor.numpy().astype(np.float32)
        if name.startswith("gemma") and key.endswith("norm.weight"):
            data = data + np.float32(1.0)
        heads = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads
        if arch.name in ("LLAMA", "SMOLLM3", "GRANITE") and ("q_proj" in key or "k_proj" in key):
            data = permuted(data.reshape(len(data), -1), heads).reshape(data.shape)
        target = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if data.ndim == 2:
            writer.add_tensor(target, data.astype(np.float16))
        else:
            writer.add_tensor(target, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# --- goldens --------------------------------------------------------------------------------------

def add_gradients(golden, model, rows, lora):
    generator = torch.Generator().manual_seed(5)
    model = get_peft_model(model, LoraConfig(
        r=lora["r"], lora_alpha=lora["alpha"], target_modules=lora["targets"], lora_dropout=0.0))
    model.eval()
    with torch.no_grad():
        for key, p in factors(model).items():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.3 / p.shape[1] ** 0.5))
            golden["init." + key] = p.clone()
    golden["loss"] = torch.tensor([backward(model, rows[:2])])
    for key, p in factors(model).items():
        golden["grad." + key] = p.grad.clone()


def wrap(folder, model):
    """The same model as the text part of one with eyes: nested config, prefixed names."""
    os.makedirs(folder, exist_ok=True)
    config = model.config.to_dict()
    keep = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "vocab_size", "rms_norm_eps", "sliding_window",
            "query_pre_attn_scalar", "max_position_embeddings", "model_type")
    rope = config["rope_parameters"]
    text = {k: config[k] for k in keep}
    text["rope_scaling"] = dict(rope_type="linear", factor=rope["full_attention"]["factor"])
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({"model_type": "gemma3", "eos_token_id": [1, 2], "text_config": text}, file,
                  indent=1)
    state = {"language_model." + k: v.half().contiguous() for k, v in model.state_dict().items()
             if k != "lm_head.weight"}
    state["vision_tower.embeddings.weight"] = torch.zeros((2, 2), dtype=torch.float16)
    save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


def affine(folder, model):
    """Matrices of 32 columns in MLX's affine type: words of four 8-bit values, low bits first."""
    os.makedirs(folder, exist_ok=True)
    config = {k: v for k, v in model.config.to_dict().items() if k != "dtype"}
    config["quantization"] = dict(group_size=32, bits=8)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    state = {}
    for key, tensor in model.state_dict().items():
        if tensor.ndim != 2 or tensor.shape[1] != 32:
            state[key] = tensor.half().contiguous()
            continue
        low, high = tensor.amin(1, keepdim=True), tensor.amax(1, keepdim=True)
        scale = (high - low) / 255
        words = torch.round((tensor - low) / scale).clamp(0, 255).to(torch.int64).reshape(-1, 8, 4)
        words = (words * torch.tensor([1, 1 << 8, 1 << 16, 1 << 24])).sum(-1)
        stem = key[:-len("weight")]
        state[key] = torch.from_numpy(words.numpy().astype(np.uint32))
        state[stem + "scales"], state[stem + "biases"] = scale.contiguous(), low.contiguous()
    save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


def make(name, spec, out):
    torch.manual_seed(7)
    config, model = make_model(spec)
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    copy.deepcopy(model).half().save_pretrained(folder)  # half() would round the rope of model too
    if os.path.exists(os.path.join(folder, "generation_config.json")):
        os.remove(os.path.join(folder, "generation_config.json"))
    if name == "gemma3":
        wrap(os.path.join(folder, "wrapped"), model)
    if name == "phi3":
        affine(os.path.join(folder, "affine"), model)
    if spec["gguf"]:
        write_gguf(os.path.join(folder, name + ".gguf"), name, spec["gguf"], config, state)

    rows = make_rows(ROWS, config.vocab_size, torch.Generator().manual_seed(3))
    golden = {"rows.tokens": torch.full((len(rows), max(ROWS)), -1, dtype=torch.int32),
              "rows.targets": torch.zeros((len(rows), max(ROWS)), dtype=torch.int32)}
    for i, (tokens, targets) in enumerate(rows):
        golden["rows.tokens"][i, :len(tokens)] = tokens.int()
        golden["rows.targets"][i, :len(tokens)] = targets.int()
    with torch.no_grad():
        golden["logits"] = model(input_ids=rows[0][0][None]).logits[0].float()
    lora = dict(r=2, alpha=4, targets=spec.get("targets", ALL))
    add_gradients(golden, model, rows, lora)
    save_file({k: v.contiguous() for k, v in golden.items()},
              os.path.join(folder, "golden.safetensors"),
              metadata={"torch": torch.__version__.split("+")[0], "lora": json.dumps(lora)})
    files = [os.path.join(at, f) for at, _, found in os.walk(folder) for f in found]
    for file in files:
        os.chmod(file, 0o644)
    print(name, sum(os.path.getsize(f) for f in files), "bytes")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "fixtures", "engine",
        "families")
    for name, spec in FAMILIES.items():
        make(name, spec, out)


if __name__ == "__main__":
    main()
