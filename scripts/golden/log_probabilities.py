#!/usr/bin/env python3
"""Log-probabilities of a fixed text under SmolLM2-135M-Instruct, by llama.cpp and by transformers.

Writes tests/fixtures/engine/llama_cpp/smollm2.safetensors:

    tokens      I32 (n,)      examples/demo/ordinary.txt as llama.cpp cuts it, no token added
    llama_cpp   F32 (n - 1,)  log p of token i + 1 after tokens 0 … i, by llama.cpp on the file
    fp32        F32 (n - 1,)  the same by transformers in fp32 on the de-quantised weights

usage: log_probabilities.py [output folder]
Needs scripts/golden/requirements.txt, and the model that scripts/fetch-model brings.
"""
import os
import pathlib
import subprocess
import sys

import llama_cpp
import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]


def log_probabilities(logits, tokens):
    """log softmax in double precision, picked at the next token."""
    logits = logits.astype(np.float64)
    top = logits.max(axis=1, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return logs[np.arange(len(tokens) - 1), tokens[1:]].astype(np.float32)


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else (
        ROOT / "tests" / "fixtures" / "engine" / "llama_cpp")
    out.mkdir(parents=True, exist_ok=True)
    model = subprocess.check_output([ROOT / "scripts" / "fetch-model"], text=True).strip()
    text = (ROOT / "examples" / "demo" / "ordinary.txt").read_bytes()

    llm = llama_cpp.Llama(model_path=model, n_ctx=1024, n_batch=1024, n_threads=1,
                          n_threads_batch=1, logits_all=True, verbose=False)
    tokens = np.array(llm.tokenize(text, add_bos=False, special=False), dtype=np.int32)
    llm.eval(tokens.tolist())
    theirs = log_probabilities(np.array(llm.scores[:len(tokens) - 1]), tokens)

    torch.set_num_threads(1)
    reference = AutoModelForCausalLM.from_pretrained(
        os.path.dirname(model), gguf_file=os.path.basename(model), dtype=torch.float32).eval()
    with torch.no_grad():
        logits = reference(torch.from_numpy(tokens[None].astype(np.int64))).logits[0, :-1].numpy()
    exact = log_probabilities(logits, tokens)

    save_file({"tokens": tokens, "llama_cpp": theirs, "fp32": exact},
              out / "smollm2.safetensors",
              {"llama_cpp_python": llama_cpp.__version__, "text": "examples/demo/ordinary.txt"})
    distance = np.sqrt(np.mean((theirs - exact).astype(np.float64) ** 2))
    print(f"{len(tokens)} tokens; perplexity {np.exp(-exact.mean()):.4f} in fp32, "
          f"{np.exp(-theirs.mean()):.4f} by llama.cpp; root mean square distance {distance:.5f}")


if __name__ == "__main__":
    main()
