#!/usr/bin/env python3
"""Golden runs of every method that a job's config can ask for, by PyTorch and PEFT, on the tiny base
and dataset that train_run.py made.

Writes tests/fixtures/train/:
    methods.json                  per method: its keys, and loss, gradient norm and learning rate of
                                  ten optimizer steps
    init_all_linear.safetensors   factors of every linear layer of the last block before the first
                                  step; the other methods begin with init.safetensors

Dropout is compared, too: PEFT's dropout modules are replaced by ones that keep what our Philox draws
of (seed, step, tensor, row in the step, position, feature) keep.

usage: train_methods.py
Needs scripts/golden/requirements.txt.
"""
import json
import math
import os

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import train_run
from train_run import MASK, OUT, factor_name, make_rows, philox, row_loss, shuffle, tokens_of

STEPS = 10
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
QKVO = ALL[:4]
BASE = dict(lora_rank=4, lora_alpha=8, learning_rate=5e-3, weight_decay=0.05, warmup_steps=3,
            max_grad_norm=0.5, max_steps=STEPS, batch_size=2, gradient_accumulation_steps=2,
            max_seq_length=96, seed=7, val_fraction=0)
METHODS = [
    ("rank-stabilised, constant rate", dict(use_rslora=True, lr_schedule="constant")),
    ("every layer of the last block, cosine",
     dict(lora_targets="all-linear", num_layers=1, lr_schedule="cosine",
          gradient_accumulation_steps=1)),
    ("dropout", dict(lora_dropout=0.25)),
    ("no mask, no clipping, no decay", dict(mask_prompt=False, max_grad_norm=0, weight_decay=0)),
]


class Dropped(torch.nn.Module):
    """Keeps a feature where our draw is at least p."""

    def __init__(self, tensor, p, seed, at):
        super().__init__()
        self.tensor, self.p, self.seed, self.at = tensor, p, seed, at

    def forward(self, x):
        n, width = x.shape[-2:]
        key = [self.seed & MASK, ((self.seed >> 32) ^ (3 * 0x9E3779B9)) & MASK]
        kept = torch.zeros(n, width)
        for position in range(n):
            high = (self.tensor << 48) | (position << 24)
            for i in range(0, width, 4):
                low = high | (i // 4)
                out = philox([self.at["row"], self.at["step"], low & MASK, low >> 32], key)
                for j in range(4):
                    kept[position, i + j] = float((out[j] >> 8) * 2.0**-24 >= self.p)
        return x * kept / (1 - self.p)


def rate(config, step):
    warmup = min(config["warmup_steps"], STEPS // 10)
    if step <= warmup:
        return config["learning_rate"] * step / warmup
    past, whole = step - 1 - warmup, STEPS - warmup
    schedule = config.get("lr_schedule", "linear")
    if schedule == "constant":
        return config["learning_rate"]
    if schedule == "cosine":
        return config["learning_rate"] * (1 + math.cos(math.pi * past / whole)) / 2
    return config["learning_rate"] * (whole - past) / whole


def make_model(config, at):
    base = AutoModelForCausalLM.from_pretrained(os.path.join(OUT, "base"), dtype=torch.float32,
                                                attn_implementation="eager").eval()
    every = config.get("lora_targets") == "all-linear"
    layers = base.config.num_hidden_layers
    only = {"layers_to_transform": [layers - 1]} if config.get("num_layers") == 1 else {}
    model = get_peft_model(base, LoraConfig(
        r=config["lora_rank"], lora_alpha=config["lora_alpha"],
        target_modules=ALL if every else QKVO, lora_dropout=0.0,
        use_rslora=config.get("use_rslora", False), **only))
    model.eval()
    if config.get("lora_dropout"):
        for name, module in model.named_modules():
            if name.endswith("_proj") and hasattr(module, "lora_dropout"):
                layer = int(name.split("layers.")[1].split(".")[0])
                tensor = layer * len(ALL) + ALL.index(name.split(".")[-1])
                module.lora_dropout["default"] = Dropped(tensor, config["lora_dropout"],
                                                         config["seed"], at)
    params = {factor_name(k): p for k, p in model.named_parameters() if "lora_" in k}
    return model, params


def first_factors(config, params):
    if config.get("lora_targets") != "all-linear":
        return load_file(os.path.join(OUT, "init.safetensors"))
    generator = torch.Generator().manual_seed(17)
    init = {}
    for key, p in params.items():
        init[key] = torch.zeros(p.shape).T.contiguous()
        if key.endswith("lora_a"):
            bound = p.shape[1] ** -0.5
            init[key] = ((2 * torch.rand(p.shape, generator=generator) - 1) * bound).T.contiguous()
    save_file(init, os.path.join(OUT, "init_all_linear.safetensors"), metadata={"format": "mlx"})
    return init


def run(config, samples):
    at = {"step": 0, "row": 0}
    model, params = make_model(config, at)
    with torch.no_grad():
        for key, value in first_factors(config, params).items():
            params[key].copy_(value.T)
    optimizer = torch.optim.AdamW(list(params.values()), lr=1.0, betas=(0.9, 0.999), eps=1e-8,
                                  weight_decay=config["weight_decay"])
    if not config.get("mask_prompt", True):
        samples = [(t, [0] + [1] * (len(t) - 1)) for t in samples["whole"]]
    else:
        samples = samples["masked"]
    per_step = config["batch_size"] * config["gradient_accumulation_steps"]
    steps_per_epoch = -(-len(samples) // per_step)
    out = {"loss": [], "grad_norm": [], "learning_rate": []}
    for step in range(STEPS):
        order = shuffle(config["seed"], step // steps_per_epoch, len(samples))
        begin = step % steps_per_epoch * per_step
        chosen = [samples[i] for i in order[begin:begin + per_step]]
        n = sum(sum(m) for _, m in chosen)
        optimizer.zero_grad()
        total = 0.0
        at["step"] = step + 1
        for row, sample in enumerate(chosen):
            at["row"] = row
            loss = row_loss(model, sample) / n
            loss.backward()
            total += float(loss.detach().double())
        most = config["max_grad_norm"] or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(list(params.values()), most)
        for group in optimizer.param_groups:
            group["lr"] = rate(config, step + 1)
        optimizer.step()
        out["loss"].append(total)
        out["grad_norm"].append(float(norm))
        out["learning_rate"].append(rate(config, step + 1))
    return out


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(os.path.join(OUT, "base"))
    tokenizer.chat_template = train_run.TEMPLATE
    rows = make_rows()
    masked = [tokens_of(tokenizer, r) for r in rows]
    # Without a mask everything that the row holds is learnt, also the line break behind the last
    # answer's end token; messages behind the last answer are not rendered.
    whole = []
    for row, (tokens, _) in zip(rows, masked):
        whole.append(tokens + (tokenizer("\n").input_ids if "messages" in row else []))
    golden = {"torch": torch.__version__.split("+")[0], "methods": []}
    for name, keys in METHODS:
        config = {**BASE, **keys}
        golden["methods"].append({"name": name, "config": config,
                                  **run(config, {"masked": masked, "whole": whole})})
        print(name, golden["methods"][-1]["loss"])
    with open(os.path.join(OUT, "methods.json"), "w") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
