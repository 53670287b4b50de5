#!/usr/bin/env python3
"""The logits that mlx-lm makes of a text's tokens on the CPU, as fp32 rows.

usage: mlx_logits.py FOLDER IDS OUT          IDS are separated by spaces
"""
import pathlib
import sys

import mlx.core as mx
import mlx_lm.utils
import numpy as np

folder, ids_path, out = sys.argv[1:]
mx.set_default_device(mx.cpu)
model = mlx_lm.utils.load_model(pathlib.Path(folder))[0]
ids = [int(word) for word in pathlib.Path(ids_path).read_text().split()]
np.array(model(mx.array([ids]))[0].astype(mx.float32)).tofile(out)
