"""Ollama's own client against the hub, and the wire where the client hides it."""

import json
import pathlib
import shutil

import ollama
import pytest

from conftest import wait_for

MODEL = "smol"
TINY = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "train" / "base"
PROMPT = "Tell me about lighthouses."
MESSAGES = [{"role": "user", "content": PROMPT}]
GREEDY = {"temperature": 0, "num_predict": 12, "repeat_penalty": 1.0}


@pytest.fixture(scope="module")
def client(hub, smollm) -> ollama.Client:
    return ollama.Client(host=hub.url)


def test_the_root_and_the_version(hub, client):
    assert hub.http.get("/").text == "Ollama is running"
    assert hub.http.head("/").status_code == 200
    assert hub.ask("GET", "/api/version", 200)["version"]


def test_models_are_listed_and_shown(client):
    models = {model.model: model for model in client.list().models}
    assert {"smol:latest", "org/smollm2:latest"} <= set(models)
    listed = models["smol:latest"]
    assert listed.size > 0 and listed.digest and listed.modified_at
    assert listed.details.quantization_level == "Q4_1"
    assert listed.details.family == "llama"
    for name in (MODEL, "smol:latest", "org/smollm2"):
        shown = client.show(name)
        assert shown.details.parameter_size == "135M"
        assert shown.modelinfo["llama.context_length"] == 8192
        assert shown.capabilities == ["completion"]
    with pytest.raises(ollama.ResponseError) as raised:
        client.show("nobody")
    assert raised.value.status_code == 404


def test_generate_plain_and_in_lines(client):
    plain = client.generate(MODEL, PROMPT, options=GREEDY)
    assert plain.done and plain.done_reason in ("stop", "length")
    assert plain.response and plain.created_at and plain.model == MODEL
    assert 0 < plain.eval_count <= 12
    assert plain.prompt_eval_count > 0
    assert plain.total_duration >= plain.prompt_eval_duration + plain.eval_duration
    assert plain.eval_duration > 0
    lines = list(client.generate(MODEL, PROMPT, stream=True, options=GREEDY))
    assert "".join(line.response for line in lines) == plain.response
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1].eval_count == plain.eval_count


def test_chat_is_what_generate_says(client):
    plain = client.chat(MODEL, MESSAGES, options=GREEDY)
    assert plain.message.role == "assistant"
    assert plain.message.content == client.generate(MODEL, PROMPT, options=GREEDY).response
    lines = list(client.chat(MODEL, MESSAGES, stream=True, options=GREEDY))
    assert "".join(line.message.content for line in lines) == plain.message.content
    system = client.generate(MODEL, PROMPT, system="Answer in French.", options=GREEDY)
    assert system.prompt_eval_count != plain.prompt_eval_count


def test_raw_takes_the_prompt_as_it_is(client):
    raw = client.generate(MODEL, "The capital of France is", raw=True, options=GREEDY)
    assert "Paris" in raw.response
    assert raw.prompt_eval_count == 5


def test_the_wire_is_lines_of_json(hub, client):
    body = {"model": MODEL, "messages": MESSAGES, "options": GREEDY}
    with hub.http.stream("POST", "/api/chat", json=body) as answer:  # streams by default
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert all(line["done"] is False for line in lines[:-1])
    assert lines[-1]["done"] is True
    assert "total_duration" in lines[-1] and "total_duration" not in lines[0]


def test_the_same_seed_says_the_same(client):
    options = {"temperature": 1.2, "seed": 7, "num_predict": 12}
    first = client.generate(MODEL, PROMPT, options=options).response
    assert client.generate(MODEL, PROMPT, options=options).response == first
    assert client.generate(MODEL, PROMPT, options={**options, "seed": 8}).response != first


def test_stop_ends_the_text(client):
    whole = client.generate(MODEL, PROMPT, options=GREEDY).response
    stop = whole[6:9]
    cut = client.generate(MODEL, PROMPT, options={**GREEDY, "stop": [stop]})
    assert cut.response == whole[: whole.index(stop)]
    assert cut.done_reason == "stop"


def test_loading_and_unloading(hub, client):
    loaded = client.generate(MODEL)
    assert loaded.done_reason == "load" and loaded.response == ""
    running = client.ps().models
    assert {model.model for model in running} == {"org/smollm2:latest", "smol:latest"}
    assert running[0].size > 0 and running[0].expires_at and running[0].digest
    assert len({model.digest for model in running}) == 1
    assert client.chat(MODEL, []).done_reason == "load"
    assert client.generate(MODEL, keep_alive=0).done_reason == "unload"
    wait_for(lambda: client.ps().models == [], seconds=20)
    client.generate(MODEL, PROMPT, options=GREEDY, keep_alive=0)
    wait_for(lambda: client.ps().models == [], seconds=20)
    client.generate(MODEL, keep_alive="10m")
    assert len(client.ps().models) == 2


def test_bad_requests_are_errors_before_the_lines(hub, client):
    for body, status, word in [
        ({"model": "nobody", "prompt": "x"}, 404, "nobody"),
        ({"prompt": "x"}, 400, "model is required"),
        ({"model": MODEL, "prompt": "x", "images": ["aGk="]}, 400, "images"),
        ({"model": MODEL, "prompt": "x", "suffix": "y"}, 400, "suffix"),
        ({"model": MODEL, "prompt": "x", "options": {"mirostat": 2}}, 400, "mirostat"),
        ({"model": MODEL, "prompt": "x", "options": {"top_p": 9}}, 400, "top_p"),
        ({"model": MODEL, "prompt": "word " * 9000}, 400, "the context holds 8192"),
    ]:
        error = hub.ask("POST", "/api/generate", status, json=body)["error"]
        assert word in error
    with pytest.raises(ollama.ResponseError, match="images"):
        client.chat(MODEL, [{"role": "user", "content": "what is it?", "images": [b"png"]}])
    with pytest.raises(ollama.ResponseError) as raised:
        client.pull("llama3")
    assert raised.value.status_code == 400 and "hf.co/" in str(raised.value)


def test_copy_and_delete(client):
    client.copy(MODEL, "twin")
    assert client.generate("twin", PROMPT, options=GREEDY).response
    client.delete("twin:latest")
    with pytest.raises(ollama.ResponseError):
        client.show("twin")
    with pytest.raises(ollama.ResponseError):
        client.delete("twin")
    with pytest.raises(ollama.ResponseError) as raised:
        client.delete("org/smollm2")
    assert raised.value.status_code == 409


def test_tools_are_told(client):
    def get_weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: its name
        """
        return city

    told = client.chat(MODEL, MESSAGES, tools=[get_weather], options=GREEDY)
    assert told.prompt_eval_count > client.chat(MODEL, MESSAGES, options=GREEDY).prompt_eval_count


# As Llama 3 has it: what marks the family, and calls as bare objects.
BARE_CALLS = """{# <|start_header_id|> #}{% if tools %}{{ tools | tojson }}
{% endif %}{% for message in messages %}{{ message.role }}: {{ message.content }}
{{ message.tool_calls }}{% endfor %}assistant:"""


def test_a_stream_tells_whole_calls(client):
    """The format is what makes a model without tools write a call."""
    client.create("caller", from_=MODEL, template=BARE_CALLS)
    word = {"type": "string", "maxLength": 12}
    arguments = {"type": "object", "properties": {"city": word}, "required": ["city"]}
    call = {
        "type": "object",
        "properties": {"name": {"const": "weather"}, "parameters": arguments},
        "required": ["name", "parameters"],
    }
    tool = {"type": "function", "function": {"name": "weather", "parameters": arguments}}
    asked = {"tools": [tool], "format": call}
    options = {"temperature": 1.2, "seed": 3, "num_predict": 60}
    try:
        plain = client.chat("caller", MESSAGES, options=options, **asked).message
        lines = list(client.chat("caller", MESSAGES, options=options, stream=True, **asked))
        calls = [call for line in lines for call in line.message.tool_calls or []]
        assert [call.function.name for call in calls] == ["weather"]
        assert set(calls[0].function.arguments) == {"city"}
        assert plain.tool_calls[0].function == calls[0].function
        assert plain.content == "" and not any(line.message.content for line in lines)
        cut = {**options, "num_predict": 18}
        plain = client.chat("caller", MESSAGES, options=cut, **asked).message
        lines = list(client.chat("caller", MESSAGES, options=cut, stream=True, **asked))
        assert not plain.tool_calls and plain.content.startswith('{"name": "weather", "arguments": {')
        assert "".join(line.message.content for line in lines) == plain.content
    finally:
        client.delete("caller")


def capabilities(hub, client, name):
    """As shown, which is as listed."""
    shown = client.show(name).capabilities
    listed = hub.ask("GET", "/api/tags", 200)["models"]
    assert {model["name"]: model["capabilities"] for model in listed}[f"{name}:latest"] == shown
    return shown


def test_a_template_says_what_its_model_can(hub, client, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(TINY, own)
    (own / "chat_template.jinja").write_text("{{ tools }}" + THINKING)
    for path, name in ((TINY, "tiny"), (own, "own")):
        hub.ask("POST", "/base-models/import", 201, json={"path": str(path), "as": name})
    for name, from_, template in (("caller", MODEL, BARE_CALLS), ("thinker", "own", THINKING)):
        client.create(name, from_=from_, template=template)
    client.create("heir", from_="own", system="Be brief.")
    assert capabilities(hub, client, "tiny") == ["completion"]
    assert capabilities(hub, client, "own") == ["completion", "tools", "thinking"]
    assert capabilities(hub, client, "heir") == ["completion", "tools", "thinking"]
    assert capabilities(hub, client, "caller") == ["completion", "tools"]
    assert capabilities(hub, client, "thinker") == ["completion", "thinking"]
    for name in ("caller", "thinker", "heir", "tiny", "own"):
        client.delete(name)


def test_a_format_is_kept(hub, client):
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer"}},
        "required": ["colour", "count"],
    }
    options = {"temperature": 1.5, "seed": 4, "num_predict": 60}
    said = client.chat(MODEL, MESSAGES, format=schema, options=options)
    answer = json.loads(said.message.content)
    assert set(answer) == {"colour", "count"}
    assert answer["colour"] in ("red", "blue")
    assert said.done_reason == "stop"
    free = client.generate(MODEL, PROMPT, format="json", options=options)
    assert free.response.startswith("{")
    bad = {"model": MODEL, "prompt": PROMPT, "format": "xml"}
    assert "format" in hub.ask("POST", "/api/generate", 400, json=bad)["error"]


THINKING = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}"
    "assistant: <think>\n\n</think>\n\n{% else %}assistant: <think>\n{% endif %}"
)


def test_thoughts_are_told_apart(hub, client):
    """A template that opens a thought; the model, which knows of none, never closes it."""
    asked = {"model": MODEL, "prompt": PROMPT, "template": THINKING, "options": GREEDY}
    plain = hub.ask("POST", "/api/generate", 200, json={**asked, "stream": False})
    assert plain["response"] == "" and plain["thinking"]
    with hub.http.stream("POST", "/api/generate", json=asked) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert "".join(line.get("thinking", "") for line in lines) == plain["thinking"]
    assert all(line["response"] == "" for line in lines)
    quiet = hub.ask(
        "POST", "/api/generate", 200, json={**asked, "stream": False, "think": False}
    )
    assert quiet["response"] and "thinking" not in quiet
    assert quiet["prompt_eval_count"] != plain["prompt_eval_count"]
    said = client.chat(MODEL, MESSAGES, think=True, options=GREEDY)
    assert said.message.content and not said.message.thinking
    for bad in ("deeply", 7):
        body = {"model": MODEL, "prompt": PROMPT, "think": bad}
        assert "think" in hub.ask("POST", "/api/generate", 400, json=body)["error"]


def test_a_context_goes_on(hub, client):
    first = client.generate(MODEL, "My name is Otto.", options=GREEDY)
    assert len(first.context) == first.prompt_eval_count + first.eval_count
    second = client.generate(
        MODEL, "What is my name?", context=first.context, options={**GREEDY, "num_predict": 24}
    )
    assert second.prompt_eval_count > len(first.context)
    assert second.context[: len(first.context)] == first.context
    alone = client.generate(MODEL, "What is my name?", options=GREEDY)
    assert second.prompt_eval_count <= len(first.context) + alone.prompt_eval_count
    raw = hub.ask(
        "POST", "/api/generate", 200,
        json={"model": MODEL, "prompt": "x", "raw": True, "stream": False, "options": GREEDY},
    )
    assert "context" not in raw


@pytest.mark.parametrize(
    "more, word",
    [
        ({"raw": True, "template": "x"}, "'raw' does not go with 'template'"),
        ({"raw": True, "system": "x"}, "'raw' does not go with 'system'"),
        ({"raw": True, "context": [1]}, "'raw' does not go with 'context'"),
        ({"template": "{{ .Prompt }}"}, "Jinja"),
        ({"template": "{{- if .System }}{{ .System }}{{ end }}"}, "Jinja"),
        ({"template": "{{ 1 + }}"}, "template line 1"),
        ({"context": [1, -2]}, "-2"),
        ({"context": ["x"]}, "context"),
        ({"truncate": 7}, "truncate"),
        ({"shift": True}, "shift"),
        ({"options": {"num_ctx": 100000}}, "the context holds 8192"),
        ({"options": {"num_ctx": -1}}, "num_ctx"),
        ({"options": {"typical_p": 0.5}}, "typical_p"),
        ({"options": {"penalize_newline": False}}, "penalize_newline"),
        ({"options": {"num_predict": -7}}, "num_predict"),
        ({"options": {"stop": ["x"] * 1000000}}, "stop"),
        ({"format": {"type": "thing"}}, "thing"),
    ],
)
def test_what_cannot_be_done_is_said(hub, client, more, word):
    body = {"model": MODEL, "prompt": "x", **more}
    assert word in hub.ask("POST", "/api/generate", 400, json=body)["error"]


def test_a_model_is_created_of_a_file_and_of_a_model(hub, client, model_file):
    digest = client.create_blob(model_file)
    assert hub.http.head(f"/api/blobs/{digest}").status_code == 200
    assert client.create("sent", files={"model.gguf": digest}).status == "success"
    assert client.generate("sent", PROMPT, options=GREEDY).response == client.generate(
        MODEL, PROMPT, options=GREEDY
    ).response
    lines = list(client.create("third", from_="sent", stream=True))
    assert lines[-1].status == "success"
    assert client.generate("third:latest", PROMPT, options=GREEDY).response
    with pytest.raises(ollama.ResponseError) as raised:
        client.create(MODEL, from_="sent")
    assert raised.value.status_code == 409
    with pytest.raises(ollama.ResponseError) as raised:
        client.delete("sent")
    assert raised.value.status_code == 409  # third stands on it
    client.delete("third")
    client.delete("sent")
    nothing = "sha256:" + "0" * 64
    assert hub.http.head(f"/api/blobs/{nothing}").status_code == 404
    assert hub.http.post(f"/api/blobs/{nothing}", content=b"x").status_code == 400
    assert hub.http.post("/api/blobs/sha256:../../x", content=b"x").status_code in (400, 404)
    for more, word in [
        ({"files": {"a": nothing}}, "was sent"),
        ({"files": {"a": "sha256:1"}}, "64"),
        ({"from": MODEL, "quantize": "q2_K"}, "q2_K"),
        ({"from": MODEL, "files": {"a": nothing}}, "exclude each other"),
        ({"from": MODEL, "adapters": {"a": nothing}}, "adapters"),
        ({"from": MODEL, "modelfile": "FROM x"}, "modelfile"),
        ({}, "'from' or 'files'"),
    ]:
        error = hub.ask("POST", "/api/create", 400, json={"model": "bad", **more})["error"]
        assert word in error
    assert hub.http.post("/api/create", json={"model": "x", "from": "nobody"}).status_code == 404
