#!/usr/bin/env python3
"""Golden file of MLX's affine quantisation: tests/fixtures/formats/affine.safetensors.

For 4 and 8 bits, groups of 32, 64 and 128 and 16-bit scales of either kind, under a prefix such as
"4.64.bf16.": weight, scales and biases as mx.quantize writes them, and expected, what mx.dequantize
makes of them with the scales widened to fp32 (where a product is exact, so the sum rounds once).

usage: affine.py [output file]
Needs scripts/golden/requirements.txt.
"""
import os
import sys

import mlx.core as mx

ROWS, COLS = 3, 256


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        here, "..", "..", "tests", "fixtures", "formats", "affine.safetensors")
    mx.set_default_device(mx.cpu)
    mx.random.seed(12)
    arrays = {}
    for bits in (4, 8):
        for group in (32, 64, 128):
            for name, dtype in (("f16", mx.float16), ("bf16", mx.bfloat16)):
                weights = (mx.random.normal((ROWS, COLS)) * 0.1).astype(dtype)
                q, scales, biases = mx.quantize(weights, group_size=group, bits=bits)
                prefix = f"{bits}.{group}.{name}."
                arrays[prefix + "weight"] = q
                arrays[prefix + "scales"] = scales
                arrays[prefix + "biases"] = biases
                arrays[prefix + "expected"] = mx.dequantize(
                    q, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group,
                    bits=bits)
    mx.save_safetensors(out, arrays)


if __name__ == "__main__":
    main()
