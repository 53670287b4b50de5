#!/usr/bin/env python3
"""Writes tests/fixtures/text/large.jsonl: what real tokenizers make of the large corpus.

One line a tokenizer, {"name", "file", "all", "chunks"}. A chunk is "COUNT:DIGEST" of the ids with
special tokens parsed, then "|COUNT:DIGEST" of the ids with them as plain text where those differ,
then ">DIGEST" of the decoded text where it is not the chunk. Digests are the first digits of the
SHA-256 of the ids (little-endian int32) or of the text; "all" is the whole SHA-256 of all ids, parsed and plain
chunk after chunk. For tokenizer.model there is only the plain kind, by SentencePiece itself, which
parses no control tokens.

Needs: tokenizers==0.23.3 sentencepiece==0.2.3, and the files of scripts/fetch-tokenizers.
"""
import hashlib
import json
import pathlib
import struct
import subprocess

import sentencepiece
import tokenizers

assert tokenizers.__version__ == "0.23.3" and sentencepiece.__version__ == "0.2.3"
ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGITS = 8


def chunks(path):
    data = path.read_bytes()
    at = 0
    while at < len(data):
        (n,) = struct.unpack_from("<I", data, at)
        yield data[at + 4:at + 4 + n].decode()
        at += 4 + n


def digest(data):
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def packed(ids):
    return struct.pack(f"<{len(ids)}i", *ids)


class Json:
    def __init__(self, path):
        self.tok = tokenizers.Tokenizer.from_file(str(path))

    def both(self, text):
        self.tok.encode_special_tokens = False
        parsed = self.tok.encode(text, add_special_tokens=False).ids
        self.tok.encode_special_tokens = True
        return parsed, self.tok.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self.tok.decode(ids, skip_special_tokens=False)


class Model:
    def __init__(self, path):
        self.tok = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def both(self, text):
        ids = self.tok.encode(text)
        return ids, ids

    def decode(self, ids):
        return self.tok.decode(ids)


def line(path, texts):
    tok = Model(path) if path.suffix == ".model" else Json(path)
    every = hashlib.sha256()
    out = []
    for text in texts:
        parsed, plain = tok.both(text)
        every.update(packed(parsed) + packed(plain))
        entry = f"{len(parsed)}:{digest(packed(parsed))}"
        if plain != parsed:
            entry += f"|{len(plain)}:{digest(packed(plain))}"
        decoded = tok.decode(parsed)
        if decoded != text:
            entry += f">{digest(decoded.encode())}"
        out.append(entry)
    return {"name": path.stem, "file": path.name, "all": every.hexdigest(), "chunks": out}


def main():
    folder = pathlib.Path(subprocess.run([ROOT / "scripts/fetch-tokenizers"], check=True, capture_output=True, text=True).stdout.strip())
    texts = list(chunks(folder / "corpus.bin"))
    lines = [line(path, texts) for path in sorted(folder.iterdir()) if path.suffix in (".json", ".model")]
    (ROOT / "tests/fixtures/text/large.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))


main()
