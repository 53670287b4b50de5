#!/usr/bin/env python3
"""Writes tests/fixtures/text/pretok_names.json: how the pre-tokenizer that a name in GGUF stands for
cuts a text, by Hugging Face's tokenizers and the patterns of the models' own tokenizer.json files.

{"texts": […], "names": {NAME: [[piece, …] for each text]}}
"""
import json
import pathlib

import tokenizers
from tokenizers import Regex, pre_tokenizers

assert tokenizers.__version__ == "0.23.3"
OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/text/pretok_names.json"
TEXTS = [
    "Hello WORLD's  1234567 foo_bar();\r\n\n  don'T \u4f60\u597d\uff0c\u4e16\u754c\u3002 \u00f1e\u0301 42.5\u20ac \u0e44\u0e17\u0e22\t end \n",
    "HTTPServer iPhone x=y+1 $100,000 a/b\n// c `d` ~e^f|g \u0661\u0662\u0663 \u0915\u094d\u0937\u093f \uac00\ub098\ub2e4abc \u30ab\u30ca \u1e9e!?...\n\n\n",
]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SUFFIX, REST = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{SUFFIX}|\p{{N}}{{1,3}}|{REST}"
TEKKEN = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}|{REST}"
QWEN35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
DEEPSEEK3 = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^" + "\r\n" + r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[" + "\r\n" + r"]*|\s*[" + "\r\n" + r"]+|\s+(?!\S)|\s+"
DIGITS = object()
NAMES = {
    ("gpt-2", "phi-2", "granite-docling", "mellum", "mpt", "olmo"): [GPT2],
    ("smollm", "starcoder", "refact", "codeshell", "command-r"): [DIGITS, GPT2],
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "lfm2", "smaug-bpe", "glm4", "chatglm-bpe", "dbrx"): [LLAMA3],
    ("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2"): [QWEN2],
    ("qwen35",): [QWEN35],
    ("gpt-4o", "llama4", "kanana2"): [O200K],
    ("tekken",): [TEKKEN],
    ("falcon",): [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    ("deepseek-v3",): [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", DEEPSEEK3],
    ("deepseek-coder",): ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}"],
}


def main():
    out = {}
    for names, steps in NAMES.items():
        chain = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True) if s is DIGITS else pre_tokenizers.Split(Regex(s), "isolated") for s in steps])
        for name in names:
            out[name] = [[piece for piece, _ in chain.pre_tokenize_str(t)] for t in TEXTS]
    lines = [f"{json.dumps(name)}: {json.dumps(pieces)}" for name, pieces in out.items()]
    OUT.write_text('{"texts": ' + json.dumps(TEXTS) + ',\n"names": {\n' + ",\n".join(lines) + "\n}}\n")


main()
