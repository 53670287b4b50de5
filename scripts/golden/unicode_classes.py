#!/usr/bin/env python3
"""Writes src/text/unicode_table.c and tests/fixtures/text/nfc_hashes.txt.

What a character is (letter, number, space …) is asked of the `tokenizers` package itself, for every
code point: its regular expressions, its Digits splitter, its added-token rules and its NFC each
carry tables of a different Unicode version, and ids are only equal when ours agree with all four.
Where its NFC is older than the Unicode known to unicodedata2, the code points it does not know are
listed as inert, so that the linked utf8proc, whatever its version, cannot touch them.

Needs: tokenizers==0.23.3 unicodedata2==18.0.0
"""
import pathlib
import sys

import unicodedata2 as ucd
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers
import tokenizers

assert tokenizers.__version__ == "0.23.3" and ucd.unidata_version == "18.0.0"
ROOT = pathlib.Path(__file__).resolve().parents[2]
ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
BLOCKS = [[c for c in range(b, b + 4096) if not 0xD800 <= c < 0xE000] for b in range(0, 0x110000, 4096)]
BLOCKS = [b for b in BLOCKS if b]
CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cs "
              "Cn").split()


def matched(pattern):
    """Code points that the package's regular expressions match as `pattern`."""
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    left = set()
    for block in BLOCKS:
        for text, _ in split.pre_tokenize_str("".join(map(chr, block))):
            left.update(map(ord, text))
    return set(ALL) - left


def numeric():
    digits = pre_tokenizers.Digits(individual_digits=True)
    found = set()
    for block in BLOCKS:
        text = "x" + "x".join(map(chr, block)) + "x"
        found.update(ord(t) for t, _ in digits.pre_tokenize_str(text) if len(t) == 1 and t != "x")
    return found


def by_added(flag):
    """Code points that an added token's lstrip takes along, or that single_word minds."""
    tok = Tokenizer(models.BPE(vocab={"?": 0}, merges=[], unk_token="?"))
    tok.add_tokens([AddedToken("\x01T\x01", normalized=False, **{flag: True})])
    found = set()
    for c in ALL:
        if c == 1:
            continue
        ids = tok.encode(chr(c) + "\x01T\x01").ids
        if (ids == [1]) if flag == "lstrip" else (ids != [0, 1]):
            found.add(c)
    return found


def classes():
    value = {}
    for i, name in enumerate(CATEGORIES):
        if name != "Cs":
            for c in matched(r"\p{%s}" % name):
                value[c] = i
    assert len(value) == len(ALL)
    for c in range(0xD800, 0xE000):
        value[c] = CATEGORIES.index("Cs")
    space = matched(r"\s")
    assert space == by_added("lstrip")
    for bit, members in ((5, space), (6, numeric()), (7, matched(r"\w")), (8, by_added("single_word"))):
        for c in members:
            value[c] |= 1 << bit
    return value


def inert():
    """Code points that newer Unicode composes, decomposes or reorders and the package does not."""
    nfc, nfd = normalizers.NFC().normalize_str, normalizers.NFD().normalize_str
    found, firsts, seconds = set(), {}, {}
    for c in ALL:
        s = chr(c)
        if ucd.combining(s) and nfd("\u0345" + s) == "\u0345" + s and nfd(s + "\u0334") == s + "\u0334":
            if ucd.normalize("NFD", "\u0345" + s) != "\u0345" + s or ucd.normalize("NFD", s + "\u0334") != s + "\u0334":
                found.add(c)
        if ucd.normalize("NFD", s) != s and nfd(s) == s:
            found.add(c)
        parts = ucd.decomposition(s).split()
        if len(parts) == 2 and "<" not in parts[0]:
            a, b = (int(p, 16) for p in parts)
            if ucd.normalize("NFC", s) == s:
                known = nfc(chr(a) + chr(b)) == s
                firsts.setdefault(a, []).append(known)
                seconds.setdefault(b, []).append(known)
    for members in (firsts, seconds):
        found.update(c for c, known in members.items() if not any(known))
    return found


def ranges(members):
    out = []
    for c in sorted(members):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def rows(words, per_line):
    return "".join("    " + ", ".join(words[i:i + per_line]) + ",\n" for i in range(0, len(words), per_line))


def fnv(data, h):
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def nfc_hashes():
    """One FNV-1a hash a block of 4096 code points, over each in four surroundings, normalised."""
    nfc = normalizers.NFC().normalize_str
    lines = []
    for block in BLOCKS:
        h = 0xCBF29CE484222325
        for c in block:
            for text in (chr(c), "a\u0345" + chr(c), chr(c) + "\u0334\u0307", "A" + chr(c) + "\u0301"):
                h = fnv(nfc(text).encode() + b"\0", h)
        lines.append(f"{block[0]:06x} {h:016x}\n")
    return "".join(lines)


def main():
    value = classes()
    words, last = [], None
    for c in range(0x110000):
        if value[c] != last:
            words.append(f"0x{c | value[c] << 21:08x}")
            last = value[c]
    quiet = ranges(inert())
    pairs = ["{0x%05x, 0x%05x}" % tuple(r) for r in quiet]
    out = f"""/* Made by scripts/golden/unicode_classes.py from the tokenizers package {tokenizers.__version__}: do not edit.
 *
 * unicode_ranges: where the class of a code point changes; code point in bits 0-20, class above
 * (unicode_class.h). unicode_nfc_inert: code points that NFC leaves alone, first and last.
 */
#include "text/unicode_class.h"

/* clang-format off */
const uint32_t unicode_ranges[] = {{
{rows(words, 9)}}};
const size_t unicode_n_ranges = sizeof(unicode_ranges) / sizeof(unicode_ranges[0]);

const uint32_t unicode_nfc_inert[][2] = {{
{rows(pairs, 5)}}};
const size_t unicode_n_nfc_inert = sizeof(unicode_nfc_inert) / sizeof(unicode_nfc_inert[0]);
/* clang-format on */
"""
    (ROOT / "src/text/unicode_table.c").write_text(out)
    (ROOT / "tests/fixtures/text/nfc_hashes.txt").write_text(nfc_hashes())
    print(f"{len(words)} ranges, {len(quiet)} inert ranges", file=sys.stderr)


main()
