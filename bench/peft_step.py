#!/usr/bin/env python3
"""Times LoRA steps of PyTorch + PEFT in fp32 on the CPU: the peer of bench_train, and driven like it.

usage: peft_step.py [--gguf FILE] [--rows 4] [--length 512] [--rank 16] [--threads 2] [--accumulate]

The base is the GGUF file de-quantised by transformers, or without --gguf random weights of
SmolLM2-135M's shape (same work: the weights are fp32 either way). Adapters on q, k, v, o; every
token but a row's first is a target. One batch of all rows per step as PEFT users have it, or with
--accumulate one row at a time (less memory). A first step is not counted; then each line read is one,
answered with a JSON object.
"""
import argparse
import json
import os
import resource
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--gguf")
parser.add_argument("--rows", type=int, default=4)
parser.add_argument("--length", type=int, default=512)
parser.add_argument("--rank", type=int, default=16)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--accumulate", action="store_true")
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

torch.set_num_threads(args.threads)
torch.manual_seed(1)


def base_model():
    if args.gguf:
        folder, name = os.path.split(os.path.abspath(args.gguf))
        return AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    return LlamaForCausalLM(LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, vocab_size=49152, max_position_embeddings=8192,
        rope_theta=100000.0, rms_norm_eps=1e-5, tie_word_embeddings=True)).float()


def step(model, optimizer):
    optimizer.zero_grad()
    tokens = torch.randint(0, model.config.vocab_size, (args.rows, args.length))
    each = 1 if args.accumulate else args.rows
    for i in range(0, args.rows, each):
        part = tokens[i:i + each]
        loss = model(input_ids=part, labels=part).loss / (args.rows // each)
        loss.backward()
    optimizer.step()


def main():
    model = get_peft_model(base_model(), LoraConfig(
        r=args.rank, lora_alpha=2 * args.rank, lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    step(model, optimizer)
    print(json.dumps({"torch": torch.__version__.split("+")[0],
                      "isa": torch.backends.cpu.get_cpu_capability()}), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        step(model, optimizer)
        print(json.dumps({"seconds": time.perf_counter() - begin, "tokens": args.rows * args.length,
                          "rss_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3}),
              flush=True)


main()
