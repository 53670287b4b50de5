#!/usr/bin/env python3
"""Compares logits that two engines made of a file with those of its de-quantised weights in fp32.

usage: quality_reference.py GGUF IDS WINDOW LOGITS…

IDS are token ids separated by spaces, read in windows from scratch. LOGITS are files of fp32 rows, one
for each token. The reference is transformers' own forward on what gguf de-quantises, so it shares no
code with either engine. Prints {"kl": […], "between": …, "perplexity": […, the reference's]}: KL is the
mean over positions of KL(reference ‖ engine) in nats, between that of KL(last engine ‖ first),
perplexity e to the mean loss of each window's later tokens.
"""
import json
import math
import os
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM


def main():
    path, ids_path, window, *logits = sys.argv[1:]
    window = int(window)
    folder, name = os.path.split(os.path.abspath(path))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    ids = [int(word) for word in open(ids_path).read().split()]
    vocab = model.config.vocab_size
    engines = [np.memmap(each, np.float32, "r", shape=(len(ids), vocab)) for each in logits]
    kl = [0.0] * len(engines)
    loss = [0.0] * (len(engines) + 1)
    targets = 0
    between = 0.0
    with torch.no_grad():
        for at in range(0, len(ids), window):
            part = torch.tensor([ids[at:at + window]])
            n = part.shape[1]
            reference = torch.log_softmax(model(part).logits[0].double(), -1)
            rows = [torch.log_softmax(torch.from_numpy(each[at:at + n].copy()).double(), -1)
                    for each in engines]
            p = reference.exp()
            following = part[0, 1:, None]
            for i, row in enumerate(rows):
                kl[i] += float((p * (reference - row)).sum())
                loss[i] -= float(row[:-1].gather(1, following).sum())
            between += float((rows[-1].exp() * (rows[-1] - rows[0])).sum())
            loss[-1] -= float(reference[:-1].gather(1, following).sum())
            targets += n - 1
    print(json.dumps({"kl": [each / len(ids) for each in kl], "between": between / len(ids),
                      "perplexity": [math.exp(each / targets) for each in loss]}))


main()
