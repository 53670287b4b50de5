#!/usr/bin/env python3
"""Proof that what we merge is what transformers and mlx-lm load: a tiny version is trained and merged
by the test binary, its logits are compared with the base and the factors multiplied out by hand.

Writes tests/fixtures/train/merge.json: checksums of the merged weights, which the test requires, and
the differences that were seen.

Needs scripts/golden/requirements.txt, a Python with mlx-lm (MLX_PYTHON), and the test binary
(TRAIN_MERGE_BINARY, default build/tests/train_test_merge).
usage: train_merge.py
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from train_run import OUT, ROOT, by_hand, sha256

SCALE = 32 / 4  # alpha / rank of the test's config
MLX_SCRIPT = """
import importlib.metadata as m, json, sys
import mlx.core as mx
from mlx_lm import load
model, _ = load(sys.argv[1])
logits = model(mx.array([json.loads(sys.argv[2])]))[0].astype(mx.float32)
print(json.dumps({"logits": logits.tolist(), "mlx_lm": m.version("mlx-lm")}))
"""


def main():
    binary = os.environ.get("TRAIN_MERGE_BINARY",
                            os.path.join(ROOT, "build", "tests", "train_test_merge"))
    mlx_python = os.environ.get("MLX_PYTHON")
    if not mlx_python:
        sys.exit("MLX_PYTHON must name a Python with mlx-lm")
    torch.set_num_threads(1)
    with open(os.path.join(OUT, "golden.json")) as f:
        tokens = json.load(f)["rows"][12]["tokens"]
    record = {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([os.path.abspath(binary), "merge", folder], check=True, cwd=ROOT)
        adapter = os.path.join(folder, "versions", "1.0.0", "adapter.safetensors")
        with torch.no_grad():
            want = by_hand(os.path.join(OUT, "base"), adapter, SCALE)(
                input_ids=torch.tensor([tokens])).logits[0]
            for kind, most in [("f32", 1e-4), ("bf16", 0.5)]:
                path = os.path.join(folder, kind)
                model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32,
                                                             attn_implementation="eager").eval()
                got = model(input_ids=torch.tensor([tokens])).logits[0]
                assert AutoTokenizer.from_pretrained(path).chat_template
                out = subprocess.run([mlx_python, "-c", MLX_SCRIPT, path, json.dumps(tokens)],
                                     check=True, capture_output=True, text=True)
                mlx = json.loads(out.stdout.strip().splitlines()[-1])
                record[kind] = {
                    "model.safetensors": sha256(os.path.join(path, "model.safetensors")),
                    "transformers_logits_differ_by": float((got - want).abs().max()),
                    "mlx_logits_differ_by":
                        float(np.abs(np.array(mlx["logits"]) - want.numpy()).max())}
                assert record[kind]["transformers_logits_differ_by"] < most, record
                assert record[kind]["mlx_logits_differ_by"] < max(most, 1e-3), record
                record["mlx_lm"] = mlx["mlx_lm"]
    with open(os.path.join(OUT, "merge.json"), "w") as f:
        json.dump(record, f, indent=1)
        f.write("\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
