"""A model folder whose only tokenizer is SentencePiece's tokenizer.model: imported, served, asked."""

import json
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


def test_tools_choose_the_template_named_for_them(hub, tmp_path):
    for name, source in SOURCES.items():
        shutil.copy(FIXTURES / source, tmp_path / name)
    named = [{"name": "default", "template": "the fox"}, {"name": "tool_use", "template": "a dog"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    hub.ask("POST", "/base-models/import", 201, json={"path": str(tmp_path), "as": "org/named"})
    talk = {"model": "org/named", "messages": [{"role": "user", "content": "x"}]}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert hub.ask("POST", "/apply-template", 200, json=talk)["prompt"] == "the fox"
    with_tools = hub.ask("POST", "/apply-template", 200, json={**talk, "tools": [tool]})["prompt"]
    assert "a dog" in with_tools and "the fox" not in with_tools


def test_a_damaged_one_is_refused_at_import(hub, tmp_path):
    for name, source in SOURCES.items():
        shutil.copy(FIXTURES / source, tmp_path / name)
    whole = (tmp_path / "tokenizer.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(whole[:-3])
    said = hub.detail("POST", "/base-models/import", 400, json={"path": str(tmp_path), "as": "org/bad"})
    assert "tokenizer.model" in said
