#!/usr/bin/env python3
"""Golden values of MLX's affine quantisation: mx.quantize of a few rows.

Writes tests/fixtures/train/quantize.json. Needs a Python with mlx only.
usage: train_quantize.py
"""
import importlib.metadata
import json
import os

import mlx.core as mx

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "fixtures",
                   "train", "quantize.json")


def main():
    mx.random.seed(4)
    w = mx.random.normal((4, 64)) * 0.05
    w[1] = mx.abs(w[1])
    w[2, 32:] = 0.0
    w[3] = mx.arange(64) / 64.0 - 0.75
    golden = {"mlx": importlib.metadata.version("mlx"), "weights": w.tolist(), "cases": []}
    for bits in (4, 8):
        for group in (32, 64):
            q, scales, biases = mx.quantize(w, group_size=group, bits=bits)
            golden["cases"].append({"bits": bits, "group": group, "words": q.tolist(),
                                    "scales": scales.tolist(), "biases": biases.tolist(),
                                    "back": mx.dequantize(q, scales, biases, group_size=group,
                                                          bits=bits).tolist()})
    with open(OUT, "w") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
