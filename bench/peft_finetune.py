#!/usr/bin/env python3
"""Fine-tuning by PyTorch + PEFT in fp32 on the CPU, on the batches of bench_finetune: its peer.

usage: peft_finetune.py GGUF ROWS CONFIG INIT THREADS     train, a step for each line read
       peft_finetune.py init GGUF CONFIG INIT             make the factors before the first step
       peft_finetune.py weights GGUF FOLDER               the de-quantised weights as a folder, for mlx-lm

The base is the GGUF file de-quantised by transformers. Rows of a batch are padded to its longest, as
PEFT's users have it; the loss is the mean over the step's targets, gradients are clipped, the rate is
constant. INIT has mlx-lm's names and shapes, which our hub reads, too.
"""
import json
import os
import resource
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def base_model(path):
    folder, name = os.path.split(os.path.abspath(path))
    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)


def adapted(path, config):
    return get_peft_model(base_model(path), LoraConfig(
        r=config["lora_rank"], lora_alpha=config["lora_alpha"], lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]))


def factors(model):
    """mlx-lm's name → parameter."""
    found = {}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            name = name.removeprefix("base_model.model.").removesuffix(".default.weight")
            found[name.replace("lora_A", "lora_a").replace("lora_B", "lora_b")] = parameter
    return found


def make_init(path, config, out):
    generator = torch.Generator().manual_seed(1)
    init = {}
    for name, parameter in factors(adapted(path, config)).items():
        rows, cols = parameter.shape
        values = torch.zeros(rows, cols)
        if name.endswith("lora_a"):
            values = (2 * torch.rand(rows, cols, generator=generator) - 1) * cols ** -0.5
        init[name] = values.T.contiguous()
    save_file(init, out, metadata={"format": "mlx"})


def batch_of(rows, pad):
    longest = max(len(row["tokens"]) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), -100)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        n = len(row["tokens"])
        ids[i, :n] = torch.tensor(row["tokens"])
        mask[i, :n] = 1
        labels[i, :n] = torch.where(torch.tensor(row["targets"]) != 0, ids[i, :n], -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def train(path, rows_path, config, init, threads):
    torch.set_num_threads(threads)
    model = adapted(path, config)
    model.train()
    values = load_file(init)
    with torch.no_grad():
        for name, parameter in factors(model).items():
            parameter.copy_(values[name].T)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config["learning_rate"],
                                  weight_decay=config["weight_decay"])
    steps = [json.loads(line) for line in open(rows_path)]
    print(json.dumps({"torch": torch.__version__.split("+")[0],
                      "isa": torch.backends.cpu.get_cpu_capability()}), flush=True)
    for rows, _ in zip(steps, sys.stdin):
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = model(**batch_of(rows, 0)).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, config["max_grad_norm"])
        optimizer.step()
        print(json.dumps({"loss": float(loss.detach()), "grad_norm": float(norm),
                          "seconds": time.perf_counter() - begin,
                          "rss_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1.024e-3}),
              flush=True)


def write_weights(path, out):
    model = base_model(path)
    config = model.config
    if hasattr(config, "quantization_config"):  # transformers writes none that came from GGUF
        del config.quantization_config
    # Where mlx-lm looks for it; without, it would take the usual one.
    config.rope_theta = config.rope_parameters["rope_theta"]
    config.save_pretrained(out)
    tied = config.tie_word_embeddings
    save_file({name: value.contiguous() for name, value in model.state_dict().items()
               if not (tied and name == "lm_head.weight")},
              os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    folder, name = os.path.split(os.path.abspath(path))
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(out)


def main():
    if sys.argv[1] == "init":
        make_init(sys.argv[2], json.loads(sys.argv[3]), sys.argv[4])
    elif sys.argv[1] == "weights":
        write_weights(sys.argv[2], sys.argv[3])
    else:
        path, rows, config, init, threads = sys.argv[1:]
        train(path, rows, json.loads(config), init, int(threads))


main()
