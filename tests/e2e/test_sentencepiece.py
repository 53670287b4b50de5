"""A model folder whose only tokenizer is SentencePiece's tokenizer.model: imported, served, asked."""

import pathlib
import shutil

import pytest

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
SOURCES = {
    "config.json": "engine/families/llama/config.json",
    "model.safetensors": "engine/families/llama/model.safetensors",
    "tokenizer.model": "text/sentencepiece/tiny.model",
}


@pytest.fixture(scope="module")
def tiny(hub, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tiny")
    for name, source in SOURCES.items():
        shutil.copy(FIXTURES / source, folder / name)
    hub.ask("POST", "/base-models/import", 201, json={"path": str(folder), "as": "org/tiny"})
    return "org/tiny"


def test_it_tokenizes_and_answers(hub, tiny):
    tokens = hub.ask("POST", "/tokenize", 200, json={"model": tiny, "content": "the fox"})["tokens"]
    assert 0 < len(tokens) < 7
    text = hub.ask("POST", "/detokenize", 200, json={"model": tiny, "tokens": tokens})["content"]
    assert text == "the fox"
    asked = {"model": tiny, "prompt": "the fox", "max_tokens": 4, "temperature": 0, "seed": 1}
    first, second = (hub.ask("POST", "/v1/completions", 200, json=asked) for _ in range(2))
    assert first["choices"][0]["text"] == second["choices"][0]["text"]
    assert first["usage"]["prompt_tokens"] == len(tokens) + 1  # <s> goes in front


def test_a_damaged_one_is_refused_at_import(hub, tmp_path):
    for name, source in SOURCES.items():
        shutil.copy(FIXTURES / source, tmp_path / name)
    whole = (tmp_path / "tokenizer.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(whole[:-3])
    said = hub.detail("POST", "/base-models/import", 400, json={"path": str(tmp_path), "as": "org/bad"})
    assert "tokenizer.model" in said
