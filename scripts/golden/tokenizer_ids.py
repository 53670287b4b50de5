#!/usr/bin/env python3
"""Writes the golden token ids of tests/fixtures/text/ with the `tokenizers` package itself.

corpus.jsonl        one text a line (a string, or [string, repeats])
<model>.jsonl       for each text: "i" ids with special tokens parsed, "p" with them as plain text where
                    that differs, "d" the decoded text of "i" where it is not the text itself;
                    long rows as {"n": count, "h": FNV-1a of the ids as little-endian int32};
                    the last line is what goes around a text: [before, after]
tiny.jsonl          small tokenizers, whole, one a line, each with its own cases

Needs: tokenizers==0.23.3 gguf==0.19.0; the files of scripts/fetch-tokenizers and scripts/fetch-model.
Usage: tokenizer_ids.py [TOKENIZERS_FOLDER SMOLLM2_GGUF]
"""
import json
import pathlib
import random
import struct
import subprocess
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

assert tokenizers.__version__ == "0.23.3"
ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/fixtures/text"
LONG = 400

HAND = [
    "", " ", "  ", "\n", "\r", "\r\n", "\t", "\0", "a", "Hello, world!", "hello  world   again",
    "The quick brown fox jumps over the lazy dog.", " leading", "trailing ", "  both  ", "\n\nnew\n\n\nlines\n",
    "don't I'm you're we've they'll he'd it's DON'T I'M YOU'RE WE'VE THEY'LL HE'D IT'S", "'s 't 're 've 'm 'll 'd",
    "'\u017f x'\u017fe '\u212a", "l'\u00e9t\u00e9 aujourd'hui \u2019s don\u2019t", "1234567890", "3.14159 1,000,000 1e-05 0xDEADBEEF",
    "12 345 6789 a1b2c3", "\u0661\u0662\u0663 \u06f4\u06f5 \u0967\u0968\u0969 \u216b \u00bd \u00b2 \u2460 \uff11\uff12\uff13 \U0001d7d8\U0001d7d9",
    "\U00011de0\U00011de5 \U00016ff4 \U00010d40", "def f(x):\n    return x ** 2  # square\n\n\nclass A:\n\tpass\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * c; }\n", "SELECT * FROM t WHERE x='y' AND z>=10;",
    "<html><body class=\"a b\">&nbsp;</body></html>", "https://example.org/a/b?c=d&e=f#g user@example.org",
    "{\"a\": [1, 2.5, null, true], \"b\": {\"c\": \"d\\n\"}}", "$\\frac{a}{b}$ \\sum_{i=0}^n x_i", "!!!???...---___===", "#!/bin/sh\r\necho hi\r\n",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u4eca\u65e5\u306f\u826f\u3044\u5929\u6c17\u3067\u3059\u306d\u3002", "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5", "\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0",
    "\u1780\u1798\u17d2\u1796\u17bb\u1787\u17b6 \u1019\u103c\u1014\u103a\u1019\u102c", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u0c24\u0c46\u0c32\u0c41\u0c17\u0c41", "Gr\u00fc\u00dfe aus M\u00fcnchen, \u00c5ngstr\u00f6m, na\u00efve caf\u00e9", "cafe\u0301 A\u030a o\u0308\u0304 \u212b \u2126 \ufb01 \uac00\u11a8 \u1100\u1161\u11a8",
    "a\u0301\u0323\u0300 a\u0323\u0301 \u0301\u0302 \u0345\u0334 x\u0334\u0345", "\u0a3c\u0a5b \u0958 \u0f73 \U0001d15e \ufb2c \U00011938 \U00011935\U00011930",
    "\u0898\u0345 a\u0898\u0334 \u1ac1\u0301", "z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324a\u0320\u0349l\u035a\u0320g\u035c\u0328o\u0321",
    "\U0001f600\U0001f601\U0001f923", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd 1\ufe0f\u20e3", "\u2764\ufe0f\u2665 \u263a",
    "\u00a0nbsp\u2003em\u3000ideographic\u200bzero\u2028line\u2029par\u0085nel\u180emvs\ufeffbom", "\u180e", "\u180e\u180ex y\u180e z", "a\u0085b\u0085 \u0085c", "\u2028\n\u2029 \r\n\u2003x",
    "\x01\x02\x03 \x07\x08\x0b\x0c\x0e\x1b[0m \x1c\x1d\x1e\x1f\x7f", "a\0b\0\0c", "\x0b\x0c x \x0b\n", "\r\r\n\n\r", "a\rb\rc\r", " \r \r\n \n ", "x \n y", "x  \n  y", "\t\tx\t y\t\n", "   \n   \n   ",
    "\ufffd\ufffe\uffff\ue000\U0010ffff\U000e0001\U000f0000", "\ud7ff\ue000", "\u0378\u0379 unassigned \U0003ffff", "\U00020000\U0002a6d6\U00031350 \u3400\u9fff", "\U00010330\U00010331 \U0001e900\U0001e922",
    "\u02b0\u02bc\u1d2c letters \u2c7c \u01c5 \u01c8", "\u20ac\u00a3\u00a5\u20bf \u00b1\u00d7\u00f7\u221e\u2211 \u00ab\u00bb\u201c\u201d\u2014\u2026", "_under_score __init__ a_b", "CamelCaseWord HTTPServer iPhone eBay \u01c5ungla", "A\u0300B\u0301 \u1e9e\u00df \u0130\u0131",
    "<|endoftext|>", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are.<|eot_id|>",
    "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "x<|im_end|>y <|im_end|> z<|im_end", "<|im_start|><|im_start|>", "<think>\nok\n</think>\n\n<tool_call>{}</tool_call>", "<eos><unk><pad><mask>[multimodal]<unused0><unused99>",
    "<0x0A><0x41> <0xFF>", "\u2581\u2581x\u2581 \u2581", "\n\n\n\n\t\t\t\t", "a\n\nb\n\n\nc\n\n\n\nd", "<|endoftext|", "|endoftext|>", "<|reserved_special_token_0|><|finetune_right_pad_id|>", "<h1>Title</h1><p>x</p><table><tr><td>", "  <|im_end|>  ",
    "\u0120hello \u010a \u0122", "\u00e9\u00c3\u00a9 \u00c4\u0120", "supercalifragilisticexpialidocious antidisestablishmentarianism", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ababababababababababababab", "\u4e00" * 40, "\U0001f600" * 30, "x" + " " * 60 + "y",
    " " * 33, "\n" * 40, "\t" * 35, "\r\n" * 20, "0" * 50, "-" * 80, "=" * 81, "!?" * 30, "\u0e01" * 50, "\u0301" * 20, "a\u0301" * 20, "' ' '' ''' 'x'", "\"quoted\" 'single' `tick`",
]
REPEATED = [[" ", 5000], ["a", 5000], ["ab ", 3000], ["\n", 3000], ["\u4e00\u4e8c", 1500], ["hello world", 700], ["\U0001f468\u200d\U0001f469", 300], ["1", 4000], [" \n", 1500], ["\u0e01\u0e32", 1000], ["the quick brown fox ", 400], ["'s", 900], ["\0", 500]]


def random_texts():
    rng = random.Random(20260131)
    pools = [
        [chr(c) for c in range(32, 127)], list(" \t\n\r\x0b\x0c\u00a0\u2003\u3000\u0085\u180e\u200b") + list("ab1.'"),
        [chr(c) for c in range(0xA0, 0x250)], [chr(c) for c in range(0x370, 0x530)], [chr(c) for c in range(0x590, 0x700)],
        [chr(c) for c in range(0x900, 0xE80)], [chr(c) for c in range(0x4E00, 0x4F00)] + list("\u3042\u3044\u30a2\u30a4 \uff0c"),
        [chr(c) for c in range(0x300, 0x370)] + list("aeiou"), [chr(c) for c in range(0x1F300, 0x1F6FF)] + ["\u200d", "\ufe0f"],
        [chr(c) for c in range(0x2000, 0x2C00)], [chr(c) for c in range(0x1100, 0x1200)] + [chr(c) for c in range(0xAC00, 0xAC40)],
        ["the ", "of", " and", "ing", "'s", "'LL", "123", " ", "\n", "\r\n", "  ", "<|im_end|>", "<", ">", "|", "\u00e9", "e\u0301", "\u4f60", "_", "."],
    ]
    for pool in pools:
        for length in (3, 8, 20, 60):
            for _ in range(3):
                yield "".join(rng.choice(pool) for _ in range(length))
    everything = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for length in (1, 5, 20, 60):
        for _ in range(10):
            yield "".join(chr(rng.choice(everything)) for _ in range(length))


def row(ids):
    if len(ids) <= LONG:
        return ids
    h = 0xCBF29CE484222325
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return {"n": len(ids), "h": f"{h:016x}"}


def case(tok, text):
    tok.encode_special_tokens = False
    ids = tok.encode(text, add_special_tokens=False).ids
    tok.encode_special_tokens = True
    plain = tok.encode(text, add_special_tokens=False).ids
    tok.encode_special_tokens = False
    out = {"i": row(ids)}
    if plain != ids:
        out["p"] = row(plain)
    # The package spells an added token back from GPT-2's alphabet though it never was spelled so;
    # ours stays the text it is.
    decoded = tok.decode(ids, skip_special_tokens=False).replace("<N\ufffd>", "<N\u00e9>")
    if decoded != text:
        out["d"] = decoded if len(ids) <= LONG else None
    return out


def around(tok):
    """What the post-processor puts before and after a text."""
    inner = tok.encode("e-e", add_special_tokens=False).ids
    ids = tok.encode("e-e").ids
    at = next(i for i in range(len(ids)) if inner and ids[i:i + len(inner)] == inner)
    return [ids[:at], ids[at + len(inner):]]


def dump(obj):
    return json.dumps(obj, separators=(",", ":")) + "\n"


def smollm2(path):
    """SmolLM2's tokenizer from its GGUF, with the pre-tokenizer of its tokenizer.json."""
    import gguf
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, kind in zip(tokens, types) if kind == 3])
    return tok


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
TRAIN = ["the quick brown fox jumps over the lazy dog", "hello world, hello again; don't stop", "caf\u00e9 na\u00efve \u00fcber \u4f60\u597d \u4e16\u754c", "1234 5678 90", "    indented\n        twice\n", "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440", "\U0001f600\U0001f601", "foo_bar(baz) == 42;"] * 4
TINY_TEXTS = HAND[:60] + ["a-b--c-", "--", "-", "x--", "--x", "a1b22c333", "ab12", "12ab", "<a>  x", "x  <a>  y", "x<w>y", "x <w> y", "<w>", "\u00e9<w>.", "_<w> <w>_", "<N\u00e9>", "<Ne\u0301>x", "q <l>  z", "q\u3000<l>\u180e z", "<r> \n <l>", "<l><r> <l>", "<r>  <a>", "zz\u4e01\u4e02 \U0001f602q", "<aa><a><aaa>", "\u4e01\u4e02\u4e03x\u4e04"]


def bytes_bpe(pre, extra=90, normalizer=None, added=(), post=None, ignore_merges=False):
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence(pre + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pre)])
    tok.decoder = decoders.ByteLevel()
    if normalizer:
        tok.normalizer = normalizer
    tok.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=256 + extra, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=1))
    for token in added:
        (tok.add_special_tokens if token.special else tok.add_tokens)([token])
    if post:
        bos = tok.token_to_id("<b>")
        eos = tok.token_to_id("<e>")
        tok.post_processor = processors.TemplateProcessing(single=post, special_tokens=[("<b>", bos), ("<e>", eos)])
    return tok


def chars_bpe(byte_fallback, unk, fuse_unk, split=True):
    special = ["<pad>", "<b>", "<u>"] + ([f"<0x{b:02X}>" for b in range(256)] if byte_fallback else [])
    tok = Tokenizer(models.BPE(unk_token=unk, fuse_unk=fuse_unk, byte_fallback=byte_fallback))
    tok.normalizer = normalizers.Replace(" ", "\u2581")
    if split:
        tok.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tok.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=len(special) + 160, show_progress=False, special_tokens=special, min_frequency=1))
    state = json.loads(tok.to_str())  # byte tokens are vocabulary, not added tokens
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(state))


def prefixed(legacy, scheme="first", split=False):
    """Llama's kind: a mark before the text, by a normalizer or by Metaspace, taken off in decoding."""
    tok = chars_bpe(True, "<u>", True, split=False)
    state = json.loads(tok.to_str())
    if legacy:
        state["normalizer"] = json.loads(normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]).__getstate__())
    else:
        state["normalizer"] = None
        state["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}
    state["decoder"]["decoders"].append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    tok = Tokenizer.from_str(json.dumps(state))
    tok.add_special_tokens([AddedToken("<e>", special=True, normalized=False), AddedToken("<r>", special=True, rstrip=True, normalized=False)])
    tok.add_tokens([AddedToken("x y", normalized=True), AddedToken("<a>", normalized=False)])
    return tok


def spaced():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=330, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), min_frequency=1))
    tok.add_tokens([AddedToken("<a>", normalized=False)])
    return tok


PREFIX_TEXTS = ["a", " a", "  a", "a b", "", " ", "the fox<a>the fox", "<a>the", "<a> the", "the<a>", "<e>the<r> fox", "<r>  the", " <e>", "x y", "ax yb", " x y x y", "\u2581", "\u2581a", "\u2581 a \u2581", "\n", "\n the", "a\u2581b"]


def tiny():
    flags = [AddedToken("<b>", special=True, normalized=False), AddedToken("<e>", special=True, normalized=False),
             AddedToken("<a>", normalized=False), AddedToken("<aa>", normalized=False), AddedToken("<aaa>", special=True, normalized=False),
             AddedToken("<w>", single_word=True, normalized=False), AddedToken("<l>", lstrip=True, normalized=False),
             AddedToken("<r>", rstrip=True, normalized=False), AddedToken("<N\u00e9>", normalized=True), AddedToken("w_", single_word=True, normalized=True)]
    yield "gpt2", bytes_bpe([], added=flags[:3])
    yield "llama3", bytes_bpe([pre_tokenizers.Split(Regex(LLAMA3), "isolated")], added=flags, post="<b> $A", ignore_merges=True)
    yield "qwen", bytes_bpe([pre_tokenizers.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated")], normalizer=normalizers.NFC(), added=flags, post="<b> $A <e>")
    yield "o200k", bytes_bpe([pre_tokenizers.Split(Regex(O200K), "isolated")], extra=40)
    yield "digits", bytes_bpe([pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.Split(Regex(r"\p{N}{1,2}|\w+"), "isolated")], extra=40)
    for behavior in ("isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous"):
        for invert in (False, True):
            yield f"{behavior}{'_inverted' * invert}", bytes_bpe([pre_tokenizers.Split(Regex(r"-|\d"), behavior, invert=invert)], extra=4)
    yield "literal", bytes_bpe([pre_tokenizers.Split("--", "merged_with_next"), pre_tokenizers.Split(Regex(r"(?i:[k-s]+)|[\u4e00-\u4fff\u00e9]|x*?y|^\s|.$"), "isolated")], extra=20)
    yield "gemma", chars_bpe(True, "<u>", True)
    yield "unk", chars_bpe(False, "<u>", False)
    yield "unk_fused", chars_bpe(False, "<u>", True, split=False)
    yield "dropping", chars_bpe(False, None, False)
    yield "prefix_legacy", prefixed(True)
    for scheme in ("first", "always", "never"):
        for split in (False, True):
            yield f"prefix_{scheme}{'_split' * split}", prefixed(False, scheme, split)
    yield "prefix_space", spaced()


def main():
    folder, model = sys.argv[1:] or [
        subprocess.run([ROOT / "scripts" / name], check=True, capture_output=True, text=True).stdout.strip()
        for name in ("fetch-tokenizers", "fetch-model")]
    corpus = list(dict.fromkeys(HAND + list(random_texts())))
    lines = [dump(t) for t in corpus] + [dump(r) for r in REPEATED]
    (OUT / "corpus.jsonl").write_text("".join(lines))
    texts = corpus + [t * n for t, n in REPEATED]
    loaded = {"smollm2": smollm2(model)}
    for name in ("llama3_2", "qwen3", "gemma3"):
        loaded[name] = Tokenizer.from_file(f"{folder}/{name}.json")
    for name, tok in loaded.items():
        (OUT / f"{name}.jsonl").write_text("".join(dump(case(tok, t)) for t in texts) + dump(around(tok)))
    out = []
    for name, tok in tiny():
        texts = TINY_TEXTS[25:] if "ed" in name or "merged" in name else TINY_TEXTS
        if name.startswith("prefix"):
            texts = PREFIX_TEXTS + TINY_TEXTS[:30]
        cases = [dict(case(tok, t), t=t) for t in dict.fromkeys(texts)]
        out.append(dump({"name": name, "tokenizer": json.loads(tok.to_str()), "around": around(tok), "cases": cases}))
    (OUT / "tiny.jsonl").write_text("".join(out))


main()
