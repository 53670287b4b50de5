#!/usr/bin/env python3
"""Golden LoRA training runs on tiny random llama models, by PyTorch and PEFT.

Writes tests/fixtures/engine/train_<name>/: config.json and model.safetensors of the base (fp32, made
by transformers), and golden.safetensors with

    rows.tokens        I32 (n, length)  padded with -1
    rows.targets       I32 (n, length)  1 where a token is to be predicted
    logits             F32 (length, vocab) of the first row, adapter off
    init.<factor>      F32 adapter values before the first step; B is not zero, so A has a gradient
    grad.<factor>      F32 gradients of sum(-log p) / targets over the first two rows
    loss               F32 mean loss of those two rows
    <run>.loss         F32 (10,) mean loss of every optimizer step
    <run>.final.<factor>  F32 o_proj.lora_b of the last layer after ten steps

Runs: plain (constant rate), warm (three steps of warm-up, then linear to zero), clip (norm clipped
at a tenth of the first gradient's), accumulate (two micro-batches a step). AdamW with weight decay.
Factor names are the engine's; shapes are PEFT's (A (rank, in), B (out, rank)).

usage: train.py [output folder]
Needs scripts/golden/requirements.txt.
"""
import json
import os
import sys

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS = 10

MODELS = {
    # grouped heads, tied, width no multiple of 16, odd feed-forward width
    "gqa": dict(
        config=dict(hidden_size=40, intermediate_size=24, num_hidden_layers=2,
                    num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=67,
                    tie_word_embeddings=True),
        lora=dict(r=4, alpha=8, targets=ALL, first=0), rows=[21, 40, 7, 33]),
    # every head its own keys, untied; adapters on the upper layer only, on q,k,v,o
    "mha": dict(
        config=dict(hidden_size=32, intermediate_size=40, num_hidden_layers=2,
                    num_attention_heads=2, num_key_value_heads=2, vocab_size=80,
                    tie_word_embeddings=False),
        lora=dict(r=16, alpha=8, targets=ALL[:4], first=1), rows=[35, 18, 50, 5]),
}


def factor_name(key):
    """base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight → the engine's name"""
    key = key[key.index("model.layers."):]
    return key.replace(".lora_A.default.weight", ".lora_a").replace(".lora_B.default.weight",
                                                                     ".lora_b")


def factors(model):
    return {factor_name(k): p for k, p in model.named_parameters() if "lora_" in k}


def make_rows(lengths, vocab, generator):
    rows = []
    for length in lengths:
        tokens = torch.randint(0, vocab, (length,), generator=generator)
        targets = torch.rand(length, generator=generator) < 0.7
        targets[0] = False
        targets[-1] = True
        rows.append((tokens, targets))
    return rows


def row_loss(model, row):
    """Σ −log p of the row's targets."""
    tokens, targets = row
    logits = model(input_ids=tokens[None]).logits[0]
    log_p = torch.log_softmax(logits[:-1].float(), -1)
    picked = log_p[torch.arange(len(tokens) - 1), tokens[1:]]
    return -(picked * targets[1:]).sum()


def backward(model, rows):
    """Adds the gradient of the mean loss over all targets of the rows; returns that mean."""
    n = sum(int(t.sum()) for _, t in rows)
    total = 0.0
    for row in rows:
        loss = row_loss(model, row) / n
        loss.backward()
        total += float(loss.detach().double())
    return total


def rate(run, step):
    if run != "warm":
        return 5e-3
    return 5e-3 * ((step + 1) / 3 if step < 3 else (STEPS - step) / (STEPS - 3))


def train(model, init, rows, run, clip):
    """Ten steps from `init`; losses of every step."""
    params = factors(model)
    with torch.no_grad():
        for name, p in params.items():
            p.copy_(init[name])
    optimizer = torch.optim.AdamW(list(params.values()), lr=1.0, betas=(0.9, 0.999), eps=1e-8,
                                  weight_decay=0.01)
    losses = []
    for step in range(STEPS):
        per_step = 4 if run == "accumulate" else 2
        chosen = [rows[(step * per_step + i) % len(rows)] for i in range(per_step)]
        optimizer.zero_grad()
        losses.append(backward(model, chosen))
        if run == "clip":
            torch.nn.utils.clip_grad_norm_(list(params.values()), clip)
        for group in optimizer.param_groups:
            group["lr"] = rate(run, step)
        optimizer.step()
    return losses, {n: p.detach().clone() for n, p in params.items()}


def make(name, spec, out):
    torch.manual_seed(7)
    generator = torch.Generator().manual_seed(11)
    config = LlamaConfig(max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=10000.0,
                         initializer_range=0.15, bos_token_id=1, eos_token_id=2,
                         attn_implementation="eager", **spec["config"])
    base = LlamaForCausalLM(config).float().eval()
    with torch.no_grad():  # norms of one would hide a forgotten weight
        for key, p in base.named_parameters():
            if "norm" in key:
                p.add_(0.2 * torch.randn(p.shape, generator=generator))
    folder = os.path.join(out, "train_" + name)
    base.save_pretrained(folder)
    os.remove(os.path.join(folder, "generation_config.json"))

    rows = make_rows(spec["rows"], config.vocab_size, generator)
    length = max(spec["rows"])
    golden = {
        "rows.tokens": torch.full((len(rows), length), -1, dtype=torch.int32),
        "rows.targets": torch.zeros((len(rows), length), dtype=torch.int32),
    }
    for i, (tokens, targets) in enumerate(rows):
        golden["rows.tokens"][i, :len(tokens)] = tokens.int()
        golden["rows.targets"][i, :len(tokens)] = targets.int()
    with torch.no_grad():
        golden["logits"] = base(input_ids=rows[0][0][None]).logits[0].float()

    lora = spec["lora"]
    model = get_peft_model(base, LoraConfig(
        r=lora["r"], lora_alpha=lora["alpha"], target_modules=lora["targets"], lora_dropout=0.0,
        layers_to_transform=list(range(lora["first"], config.num_hidden_layers))))
    model.eval()
    init = {}
    with torch.no_grad():
        for key, p in factors(model).items():
            init[key] = torch.randn(p.shape, generator=generator) * (0.3 / p.shape[1] ** 0.5)
            p.copy_(init[key])
            golden["init." + key] = init[key]
    golden["loss"] = torch.tensor([backward(model, rows[:2])])
    for key, p in factors(model).items():
        golden["grad." + key] = p.grad.clone()
    norm = torch.sqrt(sum((p.grad.double() ** 2).sum() for p in factors(model).values()))
    golden["clip"] = torch.tensor([float(norm) / 10])

    for run in ["plain", "warm", "clip", "accumulate"]:
        losses, final = train(model, init, rows, run, float(norm) / 10)
        golden[run + ".loss"] = torch.tensor(losses, dtype=torch.float32)
        last = f"layers.{config.num_hidden_layers - 1}."
        for key, value in final.items():
            if last in key and key.endswith("o_proj.lora_b"):
                golden[f"{run}.final.{key}"] = value
    save_file({k: v.contiguous() for k, v in golden.items()},
              os.path.join(folder, "golden.safetensors"),
              metadata={"torch": torch.__version__.split("+")[0], "lora": json.dumps(lora)})
    print(folder, sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder)), "bytes")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    np.random.seed(0)
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        os.path.dirname(__file__), "..", "..", "tests", "fixtures", "engine")
    for name, spec in MODELS.items():
        make(name, spec, out)


if __name__ == "__main__":
    main()
