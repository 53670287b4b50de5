"""Vectors of texts, by both protocols' own clients."""

import base64
import math
import struct

import httpx
import ollama
import openai
import pytest

from conftest import ROOT, wait_for

TINY = ROOT / "tests" / "fixtures" / "train" / "base"
MODEL = "smol"
TEXTS = ["a cat on a mat", "a kitten on a rug", "interest rates rose by a quarter point"]


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a, b))


@pytest.fixture(scope="module")
def client(hub, smollm) -> openai.OpenAI:
    return openai.OpenAI(base_url=hub.url + "/v1", api_key="none", max_retries=0)


def test_vectors_have_length_one_and_mean_something(client):
    answer = client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
    vectors = [entry.embedding for entry in answer.data]
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert all(len(vector) == 576 for vector in vectors)
    assert all(math.isclose(dot(v, v), 1.0, rel_tol=1e-4) for v in vectors)
    assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2])
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    alone = client.embeddings.create(model=MODEL, input=TEXTS[1], encoding_format="float")
    assert alone.data[0].embedding == vectors[1]


def test_tokens_and_base64_give_the_same(hub, client):
    ids = hub.ask("POST", "/tokenize", 200, json={"model": MODEL, "content": TEXTS[0]})["tokens"]
    as_text = client.embeddings.create(model=MODEL, input=TEXTS[0], encoding_format="float")
    as_ids = client.embeddings.create(model=MODEL, input=[ids, ids], encoding_format="float")
    assert as_ids.data[1].embedding == as_text.data[0].embedding
    raw = hub.ask(
        "POST",
        "/v1/embeddings",
        200,
        json={"model": MODEL, "input": ids, "encoding_format": "base64"},
    )["data"][0]["embedding"]
    floats = struct.unpack("<576f", base64.b64decode(raw))
    assert [struct.unpack("<f", struct.pack("<f", x))[0] for x in as_text.data[0].embedding] == list(
        floats
    )


def test_ollama_says_the_same(hub, client):
    theirs = ollama.Client(host=hub.url)
    answer = theirs.embed(MODEL, TEXTS[:2])
    assert answer.prompt_eval_count > 0 and answer.total_duration > 0
    ours = client.embeddings.create(model=MODEL, input=TEXTS[:2], encoding_format="float")
    assert [list(v) for v in answer.embeddings] == [entry.embedding for entry in ours.data]
    assert list(theirs.embeddings(MODEL, TEXTS[0]).embedding) == ours.data[0].embedding


def test_nothing_to_embed_loads_the_model(hub, smollm):
    """As Ollama's server has it, whose clients take the empty list."""
    theirs = ollama.Client(host=hub.url)
    hub.http.delete("/inference/cache")
    wait_for(lambda: hub.runners() == [])
    assert theirs.embed(MODEL, []).embeddings == []
    assert len(hub.runners()) == 1
    assert theirs.embed(MODEL, "").embeddings == []
    assert theirs.embeddings(MODEL, "").embedding == []
    for asked in ({}, {"input": None}):
        assert hub.ask("POST", "/api/embed", 200, json={"model": MODEL, **asked})["embeddings"] == []
    for bad in ([""], [1, "x"], 7, {}, True):
        asked = {"model": MODEL, "input": bad}
        assert "input" in hub.ask("POST", "/api/embed", 400, json=asked)["error"]
    hub.ask("POST", "/api/embed", 404, json={"model": "nobody", "input": []})


def test_bad_inputs_are_refused(client):
    for asked in [
        {"input": ""},
        {"input": []},
        {"input": ["x", ""]},
        {"input": "x", "dimensions": 5000},
            {"input": "x", "dimensions": -1},
        {"input": "word " * 9000},
        {"input": "x", "encoding_format": "int8"},
    ]:
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model=MODEL, **asked)


def test_as_many_as_openai_takes_come_back_in_order(hub):
    base = {"path": str(TINY), "as": "many/base"}
    hub.ask("POST", "/base-models/import", 201, json=base)
    asked = {
        "model": "many/base",
        "input": [f"{i}" for i in range(2048)],
        "encoding_format": "base64",
    }
    data = hub.ask("POST", "/v1/embeddings", 200, json=asked)["data"]
    assert [d["index"] for d in data] == list(range(2048))
    alone = hub.ask("POST", "/v1/embeddings", 200, json={**asked, "input": "2047"})["data"][0]
    assert data[2047]["embedding"] == alone["embedding"] != data[2046]["embedding"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed"])
def test_whoever_leaves_stops_the_work(hub, smollm, path):
    """More texts than are embedded together: the first of them are stopped, the rest never begin."""
    body = {"model": MODEL, "input": [f"{i} " + "word " * 6000 for i in range(12)]}
    with httpx.Client(base_url=hub.url) as leaving, pytest.raises(httpx.TimeoutException):
        leaving.post(path, json=body, timeout=0.5)
    wait_for(lambda: all(m["active_requests"] == 0 for m in hub.runners()), seconds=20)
    assert hub.http.post(path, json={"model": MODEL, "input": "x"}).status_code == 200
