#!/usr/bin/env python3
"""Fine-tuning by mlx-lm on the CPU, on the batches of bench_finetune: driven like peft_finetune.py.

usage: mlx_finetune.py FOLDER ROWS CONFIG INIT

FOLDER holds the de-quantised weights (peft_finetune.py weights). mlx-lm's own CPU path takes minutes for
a batch of the usual size: give it short rows.
"""
import json
import resource
import sys
import time

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_unflatten
from mlx_lm import load
from mlx_lm.tuner.utils import linear_to_lora_layers


def batch_of(rows):
    longest = max(len(row["tokens"]) for row in rows)
    pad = [[0] * (longest - len(row["tokens"])) for row in rows]
    return (mx.array([row["tokens"] + p for row, p in zip(rows, pad)]),
            mx.array([row["targets"] + p for row, p in zip(rows, pad)]))


def loss_of(model, ids, targets):
    logits = model(ids[:, :-1]).astype(mx.float32)
    losses = nn.losses.cross_entropy(logits, ids[:, 1:])
    wanted = targets[:, 1:]
    return (losses * wanted).sum() / wanted.sum()


def main():
    folder, rows_path, config, init = sys.argv[1:]
    config = json.loads(config)
    model, _ = load(folder)
    model.set_dtype(mx.float32)
    model.freeze()
    linear_to_lora_layers(model, len(model.layers), {
        "rank": config["lora_rank"], "scale": config["lora_alpha"] / config["lora_rank"], "dropout": 0.0,
        "keys": [f"self_attn.{name}_proj" for name in "qkvo"]})
    model.update(tree_unflatten(list(mx.load(init).items())))
    optimizer = optim.AdamW(config["learning_rate"], weight_decay=config["weight_decay"],
                            bias_correction=True)
    both = nn.value_and_grad(model, loss_of)
    steps = [json.loads(line) for line in open(rows_path)]
    print(json.dumps({"mlx": mx.__version__}), flush=True)
    for rows, _ in zip(steps, sys.stdin):
        begin = time.perf_counter()
        loss, gradients = both(model, *batch_of(rows))
        gradients, norm = optim.clip_grad_norm(gradients, config["max_grad_norm"])
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state, loss, norm)
        print(json.dumps({"loss": loss.item(), "grad_norm": norm.item(),
                          "seconds": time.perf_counter() - begin,
                          "rss_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3}),
              flush=True)


main()
