#!/usr/bin/env python3
"""Writes tests/fixtures/text/sentencepiece/: small tokenizer.model files and what SentencePiece makes
of texts with them.

NAME.model    trained on a handful of sentences
llama.gguf    the vocabulary of llama.model as GGUF keeps it, without tensors
phi3.gguf     the same under another architecture
cases.jsonl   one line a model: {"name", "cases": [[text, ids, decoded]…]}; no cases where the model
              is of a kind that is not served
"""
import io
import json
import pathlib

import gguf
import sentencepiece as spm

assert spm.__version__ == "0.2.3"
OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/text/sentencepiece"
TRAIN = ["the quick brown fox jumps over the lazy dog", "hello world, hello again; don't stop", "caf\u00e9 na\u00efve \u00fcber \u4f60\u597d \u4e16\u754c", "1234 5678 90", "foo_bar(baz) == 42; return x", "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440", "aaaa aaa aa a abab ababab", "    indented    twice"] * 3
TEXTS = ["", " ", "   ", "a", " a", "a ", "  a  b  ", "the quick brown fox", "hello  world", "aaaaaaa", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababa", "caf\u00e9 \u4f60\u597d\u4e16\u754c", "\U0001f600\U0001f601", "\u0416\u0416 x \u0416", "1234567890", "\u2581", "\u2581\u2581a\u2581", "a\u2581 \u2581b", "\n\n the\tfox\n", "<s> the </s>", "<u>the<u>", " <u> <u>", "[x][x] y", "the[x", "<0x41> <0xFF>", "\0a\0", "foo_bar(baz)", "zzzzqqqq", "e\u0301", "\ufb01", "\u3000a\u00a0b", "don't stop, don't"]
COMMON = {"model_type": "bpe", "normalization_rule_name": "identity", "minloglevel": 2, "num_threads": 1, "hard_vocab_limit": False, "max_sentence_length": 4096}
MODELS = {
    "llama": {"byte_fallback": True, "remove_extra_whitespaces": False, "vocab_size": 420, "control_symbols": ["[x]"], "user_defined_symbols": ["<u>", "\u2581\u2581", "don't"]},
    "gemma": {"byte_fallback": True, "remove_extra_whitespaces": False, "add_dummy_prefix": False, "vocab_size": 400, "bos_id": 2, "eos_id": 1, "unk_id": 3, "pad_id": 0, "split_by_whitespace": False, "allow_whitespace_only_pieces": True},
    "plain": {"vocab_size": 150},
    "tiny": {"vocab_size": 64, "remove_extra_whitespaces": False},
    "unigram": {"model_type": "unigram", "vocab_size": 90},
}


def write_gguf(tok, path, architecture):
    """As llama.cpp's converters write SentencePiece's vocabularies."""
    kinds = ((tok.is_unknown, 2), (tok.is_control, 3), (tok.is_unused, 5), (tok.is_byte, 6))
    ids = range(tok.vocab_size())
    pieces = [tok.id_to_piece(i) for i in ids]
    types = [next((kind for test, kind in kinds if test(i)), 4 if pieces[i] in MODELS["llama"]["user_defined_symbols"] else 1) for i in ids]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores([tok.get_score(i) for i in ids])
    writer.add_token_types(types)
    writer.add_bos_token_id(tok.bos_id())
    writer.add_eos_token_id(tok.eos_id())
    writer.add_unk_token_id(tok.unk_id())
    writer.add_add_space_prefix(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, options in MODELS.items():
        model = io.BytesIO()
        spm.SentencePieceTrainer.train(sentence_iterator=iter(TRAIN[:2] * 3 if name == "tiny" else TRAIN), model_writer=model, **{**COMMON, **options})
        (OUT / f"{name}.model").write_bytes(model.getvalue())
        tok = spm.SentencePieceProcessor(model_proto=model.getvalue())
        if name == "llama":
            for architecture in ("llama", "phi3"):
                write_gguf(tok, OUT / f"{architecture}.gguf", architecture)
        texts = [] if name == "unigram" else TEXTS
        lines.append({"name": name, "bos": tok.bos_id(), "eos": tok.eos_id(), "unk": tok.unk_id(), "pad": tok.pad_id(), "size": tok.vocab_size(), "cases": [[t, tok.encode(t), tok.decode(tok.encode(t))] for t in texts]})
    (OUT / "cases.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))


main()
