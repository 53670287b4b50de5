"""Golden files of the formats room, from the packages that define the formats.

  dequant.gguf          for every block type <T>: tensor "<T>" of random blocks and "<T>.expected",
                        the same values as gguf.quants.dequantize gives them (F32)
  uniform.safetensors   what the safetensors package writes: one type, one metadata entry
  mixed.safetensors     several types, a scalar, no metadata
  tiny-llama/           a random LlamaForCausalLM as transformers saves it (F16)
  tiny-llama.gguf       the same weights as a GGUF file, with q and k rows in its order

Everything is seeded; running this again gives the same bytes with the pinned packages.
"""

import json
import pathlib
import shutil

import gguf
import numpy as np
import safetensors.numpy
import torch
import transformers

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "formats"

ROWS, COLS = 2, 512

# type -> offsets of its fp16 fields inside a block
BLOCK_TYPES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}


def dequant() -> None:
    rng = np.random.default_rng(7)
    writer = gguf.GGUFWriter(OUT / "dequant.gguf", "none")
    for name, fields in BLOCK_TYPES.items():
        kind = gguf.GGMLQuantizationType[name]
        block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        n_blocks = ROWS * COLS // block_size
        blocks = rng.integers(0, 256, size=(n_blocks, block_bytes), dtype=np.uint8)
        for at in fields:
            scale = rng.normal(0, 0.05, n_blocks).astype(np.float16)
            scale[0] = np.float16(3e-7)  # a subnormal half
            blocks[:, at : at + 2] = scale.view(np.uint8).reshape(n_blocks, 2)
        data = blocks.reshape(ROWS, -1)
        writer.add_tensor(name, data, raw_dtype=kind)
        writer.add_tensor(name + ".expected", gguf.quants.dequantize(data, kind))
    values = rng.normal(0, 1, (ROWS, COLS)).astype(np.float32)
    values[0, :4] = [0.0, -0.0, 65504.0, 6e-8]
    halves = values.astype(np.float16)
    writer.add_tensor("F16", halves)
    writer.add_tensor("F16.expected", halves.astype(np.float32))
    kind = gguf.GGMLQuantizationType.BF16
    brains = gguf.quants.quantize(values, kind)
    writer.add_tensor("BF16", brains, raw_dtype=kind)
    writer.add_tensor("BF16.expected", gguf.quants.dequantize(brains, kind))
    write(writer)


def write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def plain_safetensors() -> None:
    rng = np.random.default_rng(8)
    uniform = {
        "layers.10.lora_b": rng.normal(0, 1, (4, 3)).astype(np.float32),
        "layers.2.lora_a": rng.normal(0, 1, (3, 5)).astype(np.float32),
        'odd "name" \\ ü': rng.normal(0, 1, (1,)).astype(np.float32),
    }
    safetensors.numpy.save_file(uniform, OUT / "uniform.safetensors", {"format": "mlx"})
    mixed = {
        "a.i64": np.arange(3, dtype=np.int64),
        "b.f16": rng.normal(0, 1, (2, 3)).astype(np.float16),
        "c.bool": np.array([True, False, True]),
        "d.scalar": np.array(2.5, dtype=np.float32),
        "e.u8": np.arange(5, dtype=np.uint8),
    }
    safetensors.numpy.save_file(mixed, OUT / "mixed.safetensors")


def permuted(rows: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows of q or k as llama.cpp's converter stores them."""
    split = rows.reshape(n_heads, 2, rows.shape[0] // n_heads // 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


def tiny_llama() -> None:
    torch.manual_seed(9)
    config = transformers.LlamaConfig(
        vocab_size=48,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rope_theta=50000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = transformers.LlamaForCausalLM(config).to(torch.float16)
    model.generation_config.eos_token_id = [2, 5]
    folder = OUT / "tiny-llama"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    text = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(text, indent=2) + "\n")

    writer = gguf.GGUFWriter(OUT / "tiny-llama.gguf", "llama")
    writer.add_block_count(2)
    writer.add_context_length(256)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(50000.0)
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(48)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(48)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(5)
    writer.add_chat_template(template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        data = tensor.numpy()
        if "q_proj" in name:
            data = permuted(data, 4)
        if "k_proj" in name:
            data = permuted(data, 2)
        if data.ndim == 1:
            data = data.astype(np.float32)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), np.ascontiguousarray(data))
    write(writer)


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    dequant()
    plain_safetensors()
    tiny_llama()


if __name__ == "__main__":
    main()
