"""What no model can answer: each is told by a clear 4xx before anything streams, and the hub serves on."""

import json

import pytest

from conftest import ROOT, wait_for

TINY = ROOT / "tests" / "fixtures" / "train" / "base"
MODEL = "bad/base"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
TEXT = {"model": MODEL, "prompt": "hi", "max_tokens": 4}
FOR_EVER = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)
ITSELF = {"anyOf": [{"type": "null"}, {"$ref": "#"}]}


def schema(value) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": value}}


@pytest.fixture(scope="module")
def tiny(hub):
    hub.ask("POST", "/base-models/import", 201, json={"path": str(TINY), "as": MODEL})
    hub.ask("POST", "/models", 201, json={"name": "bad", "base_model": MODEL})
    return hub


ROWS = [
    ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": "a b " * 40000}]},
     "the context holds"),
    ("/v1/completions", {**TEXT, "prompt": [1] * 300000}, "the context holds"),
    ("/v1/completions", {**TEXT, "prompt": ["fits", "too long " * 40000], "stream": True},
     "the context holds"),
    ("/v1/completions", {**TEXT, "prompt": [-1]}, "prompt"),
    ("/v1/completions", {**TEXT, "prompt": [1 << 30]}, "1073741824"),
    ("/v1/completions", {**TEXT, "prompt": []}, "prompt"),
    ("/v1/completions", {**TEXT, "prompt": ["x"] * 65}, "65 prompts"),
    ("/v1/completions", {**TEXT, "suffix": "y"}, "suffix"),
    ("/v1/completions", {**TEXT, "best_of": 3}, "best_of"),
    ("/v1/completions", {**TEXT, "response_format": schema({"type": "thing"})}, "thing"),
    ("/v1/completions", {**TEXT, "json_schema": ITSELF}, "refers to itself"),
    ("/v1/completions", {**TEXT, "tools": [{"type": "function", "function": {"name": "f"}}]},
     "tools"),
    ("/v1/completions", {**TEXT, "logit_bias": {"1000000": 1}}, "1000000"),
    ("/v1/chat/completions", {**CHAT, "logit_bias": {"1000000": 1}}, "1000000"),
    ("/v1/chat/completions", {**CHAT, "echo": True}, "echo"),
    ("/v1/chat/completions", {**CHAT, "stop_token_ids": [2]}, "stop_token_ids"),
    ("/v1/chat/completions", {**CHAT, "dynatemp_range": 0.5}, "dynatemp_range"),
    ("/v1/chat/completions", {**CHAT, "response_format": schema({"type": "thing"})}, "thing"),
    ("/v1/chat/completions", {**CHAT, "response_format": schema(ITSELF)}, "refers to itself"),
    ("/v1/chat/completions", {**CHAT, "response_format": schema({"not": {}})}, "'not'"),
    ("/v1/chat/completions", {**CHAT, "response_format": schema({"pattern": "(?=a)b"})},
     "look-around"),
    ("/v1/chat/completions", {**CHAT, "response_format": schema({"minimum": 3, "maximum": 2})},
     "leave nothing"),
    ("/v1/chat/completions",
     {**CHAT, "tools": [{"type": "function", "function": {
         "name": "f", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}}}],
      "tool_choice": "required"}, "'not'"),
    ("/v1/chat/completions", {**CHAT, "n": 1_000_000_000}, "'n'"),
    ("/v1/chat/completions", {**CHAT, "n": -1}, "'n'"),
    ("/v1/chat/completions", {**CHAT, "n": 1 << 70}, ""),
    ("/v1/chat/completions", {**CHAT, "max_tokens": -5}, "max_tokens"),
    ("/v1/chat/completions", {**CHAT, "temperature": -0.1}, "temperature"),
    ("/v1/chat/completions", {**CHAT, "top_p": -1}, "top_p"),
    ("/v1/chat/completions", {**CHAT, "top_k": -5}, "top_k"),
    ("/v1/chat/completions", {**CHAT, "frequency_penalty": -1000}, "frequency_penalty"),
    ("/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ("/v1/completions", {**TEXT, "logprobs": -1}, "logprobs"),
    ("/v1/chat/completions", {**CHAT, "logit_bias": {"-1": 1}}, "logit_bias"),
    ("/v1/chat/completions", {**CHAT, "stop": ["x"] * 1_000_000}, "stop"),
    ("/v1/chat/completions", {**CHAT, "stop": ["x" * 100_000]}, "stop"),
    ("/v1/chat/completions", {**CHAT, "stop": 7}, "stop"),
    ("/v1/chat/completions", {**CHAT, "stop": "a\0b"}, "NUL"),
    ("/v1/chat/completions", {**CHAT, "seed": "x"}, "seed"),
    ("/v1/chat/completions", {**CHAT, "chat_template": "{{ 1 }}"}, "chat_template"),
    ("/v1/chat/completions", {**CHAT, "continue_final_message": True}, "continue_final_message"),
    ("/v1/chat/completions", {**CHAT, "add_generation_prompt": False}, "add_generation_prompt"),
    ("/v1/chat/completions", {**CHAT, "sse_ping_interval": 5}, "sse_ping_interval"),
    ("/v1/chat/completions",
     {**CHAT, "response_format": {"type": "json_object", "schema": 5}}, "must be an object"),
    ("/v1/completions", {**TEXT, "top_logprobs": 3}, "top_logprobs"),
    ("/v1/chat/completions", {**CHAT, "reasoning_format": "loud"}, "reasoning_format"),
    ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user"}] * 0}, "messages"),
    ("/v1/chat/completions", {**CHAT, "messages": [{"content": "x"}]}, "role"),
    ("/v1/embeddings", {"model": MODEL, "input": "a b " * 40000}, "the context holds"),
    ("/v1/embeddings", {"model": MODEL, "input": []}, "input"),
    ("/v1/embeddings", {"model": MODEL, "input": ["x", ""]}, "input"),
    ("/v1/embeddings", {"model": MODEL, "input": ["x"] * 100_000}, "100000"),
    ("/v1/embeddings", {"model": MODEL, "input": "x", "dimensions": 5000}, "dimensions"),
    ("/v1/embeddings", {"model": MODEL, "input": "x", "encoding_format": "hex"},
     "encoding_format"),
    ("/api/generate", {"model": MODEL, "prompt": "x", "template": FOR_EVER}, "template"),
    ("/api/generate", {"model": MODEL, "prompt": "x", "template": "{{ x"}, "template"),
    ("/api/chat", {**CHAT, "format": ITSELF}, "refers to itself"),
    ("/api/chat", {**CHAT, "options": {"stop": ["x"] * 1_000_000}}, "stop"),
    ("/api/embed", {"model": MODEL, "input": "a b " * 40000}, "the context holds"),
    ("/api/embed", {"model": MODEL, "input": "x", "options": {"num_ctx": -5}}, "num_ctx"),
    ("/api/embed", {"model": MODEL, "input": "x", "options": {"num_ctx": 1 << 20}}, "num_ctx"),
]


@pytest.mark.parametrize("path, body, word", ROWS)
def test_it_is_said_before_anything_streams(tiny, path, body, word):
    for stream in (False, True):
        answer = tiny.http.post(path, json={**body, "stream": stream})
        assert 400 <= answer.status_code < 500, answer.text[:500]
        assert answer.headers["content-type"].startswith("application/json")
        assert word in json.dumps(answer.json()["error"])
    assert tiny.http.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_an_unknown_model_is_404_everywhere(tiny):
    for path, body in [
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", TEXT),
        ("/v1/embeddings", {"input": "x"}),
        ("/api/generate", {"prompt": "x"}),
        ("/api/chat", CHAT),
        ("/api/embed", {"input": "x"}),
        ("/tokenize", {"content": "x"}),
    ]:
        for name in ("nobody", "bad@9.9.9", "bad:nobody", MODEL + "@1.0.0"):
            answer = tiny.http.post(path, json={**body, "model": name})
            assert answer.status_code == 404, (path, name, answer.text)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/inference"])
@pytest.mark.parametrize("raw", [b'{"model":"\xff"}', b"\xc3\x28", b"{", b"[]" * 3, b"[" * 5000])
def test_what_is_no_json_is_4xx(tiny, path, raw):
    answer = tiny.http.post(path, content=raw, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    assert tiny.http.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_more_answers_than_there_is_room_for_fail_before_the_stream(model_file, tmp_path):
    """An answer of thousands of tokens of the real model holds a place."""
    from conftest import Hub

    small = Hub(tmp_path / "small", "--max-sessions", "2", "--max-queue", "2").start()
    try:
        small.ask("POST", "/base-models/import", 201, json={"path": model_file, "as": MODEL})
        body = {**CHAT, "stream": True}
        assert small.http.post("/v1/chat/completions", json={**body, "n": 4}).status_code == 200
        never = small.http.post("/v1/chat/completions", json={**body, "n": 5})
        assert never.status_code == 400
        assert "5 answers" in never.json()["error"]["message"]
        long = {**body, "max_tokens": 7000, "ignore_eos": True}
        with small.http.stream("POST", "/v1/chat/completions", json=long) as running:
            lines = running.iter_lines()  # held: a generator that is thrown away hangs up
            next(lines)
            full = small.http.post("/v1/chat/completions", json={**body, "n": 4})
            assert full.status_code == 429
            assert int(full.headers["retry-after"]) >= 1
            part = small.http.post("/v1/chat/completions", json={**body, "n": 2})
            assert part.status_code == 200
        wait_for(lambda: small.runners()[0]["active_requests"] == 0, seconds=20)
        assert small.http.post("/v1/chat/completions", json={**body, "n": 4}).status_code == 200
    finally:
        small.stop()


def test_a_failed_load_leaves_other_models_serving(tiny, tmp_path):
    """Weights that are damaged on the disk after their import."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in TINY.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = copy / "config.json"
    config.write_text(config.read_text() + "\n")
    tiny.ask("POST", "/base-models/import", 201, json={"path": str(copy), "as": "bad/broken"})
    sha256 = tiny.ask("GET", "/base-models/bad/broken", 200)["sha256"]
    weights = tiny.folder / "storage" / "blobs" / "sha256" / sha256 / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:1000])
    for path in ("/v1/chat/completions", "/api/chat"):
        for stream in (False, True):
            answer = tiny.http.post(path, json={**CHAT, "model": "bad/broken", "stream": stream})
            assert answer.status_code >= 400, answer.text
            assert answer.json()["error"]
    assert tiny.http.post("/v1/chat/completions", json=CHAT).status_code == 200
    config.write_text("{}\n")
    answer = tiny.http.post("/base-models/import", json={"path": str(copy), "as": "bad/other"})
    assert answer.status_code == 400, answer.text
    assert tiny.http.post("/v1/chat/completions", json=CHAT).status_code == 200
