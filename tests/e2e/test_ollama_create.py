"""Models that Ollama's client creates, copies, shows and deletes: a base with an adapter, texts and
parameters of its own, the same under every protocol."""

import hashlib
import json
import pathlib
import subprocess

import ollama
import openai
import pytest

from conftest import BINARY, ROOT, wait_for

BASE = "org/smollm2"
PROMPT = "Tell me about lighthouses."
MESSAGES = [{"role": "user", "content": PROMPT}]
GREEDY = {"temperature": 0, "num_predict": 12, "repeat_penalty": 1.0}
SYSTEM = "You are a pirate. Answer like one."
SHOTS = [
    {"role": "user", "content": "What is a mast?"},
    {"role": "assistant", "content": "Arr, a tall tree that caught the wind."},
]
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}<|assistant|>"
DATASET = ROOT / "tests" / "fixtures" / "train" / "dataset.jsonl"


@pytest.fixture(scope="module")
def client(hub, smollm) -> ollama.Client:
    return ollama.Client(host=hub.url)


@pytest.fixture(scope="module")
def pirate(client):
    made = client.create(
        "pirate", from_=BASE, system=SYSTEM, messages=SHOTS, license=["MIT", "and more"],
        parameters={**GREEDY, "stop": ["\n\n"], "num_ctx": 2048},
    )
    assert made.status == "success"
    return "pirate"


def refused(call, status: int, *words: str):
    with pytest.raises(ollama.ResponseError) as raised:
        call()
    assert raised.value.status_code == status, raised.value.error
    for word in words:
        assert word in raised.value.error


def test_texts_and_parameters_are_what_a_request_would_say(client, pirate):
    told = [{"role": "system", "content": SYSTEM}, *SHOTS, *MESSAGES]
    options = {**GREEDY, "stop": ["\n\n"]}
    plain = client.chat(BASE, told, options=options)
    assert plain.message.content
    for name in (pirate, "pirate:latest"):
        said = client.chat(name, MESSAGES)
        assert said.message.content == plain.message.content
        assert said.prompt_eval_count == plain.prompt_eval_count
        assert said.eval_count == plain.eval_count <= 12
    assert client.generate(pirate, PROMPT).response == plain.message.content
    longer = client.chat(pirate, MESSAGES, options={"num_predict": 3})
    assert longer.eval_count == 3


def test_a_system_message_of_the_request_wins(hub, client, pirate):
    own = {"role": "system", "content": "You are a poet."}
    said = client.chat(pirate, [own, *MESSAGES])
    plain = client.chat(BASE, [own, *SHOTS, *MESSAGES], options={**GREEDY, "stop": ["\n\n"]})
    assert said.message.content == plain.message.content
    assert said.prompt_eval_count == plain.prompt_eval_count
    asked = client.generate(pirate, PROMPT, system=own["content"])
    assert asked.prompt_eval_count == plain.prompt_eval_count


def test_every_protocol_has_them(hub, client, pirate):
    plain = client.chat(pirate, MESSAGES).message.content
    other = openai.OpenAI(base_url=hub.url + "/v1", api_key="none")
    said = other.chat.completions.create(
        model=pirate, messages=MESSAGES, extra_body={"min_p": 0, "top_p": 0.9}
    )
    assert said.choices[0].message.content == plain
    assert said.usage.completion_tokens <= 12
    short = other.chat.completions.create(model=pirate, messages=MESSAGES, max_tokens=2)
    assert short.usage.completion_tokens == 2
    text = other.completions.create(model=pirate, prompt="The capital of France is")
    assert text.usage.prompt_tokens == 5 and text.usage.completion_tokens <= 12
    own = hub.ask("POST", "/inference", 200, json={"model": pirate, "messages": MESSAGES})
    assert own["text"] == plain and own["model_id"] == pirate
    prompt = hub.ask("POST", "/apply-template", 200,
                     json={"model": pirate, "messages": MESSAGES})["prompt"]
    assert prompt.index(SYSTEM) < prompt.index(SHOTS[1]["content"]) < prompt.index(PROMPT)
    assert "pirate" in [model.id for model in other.models.list()]


def test_it_is_shown_and_listed(hub, client, pirate):
    shown = client.show("pirate:latest")
    assert shown.license == "MIT\nand more"
    assert shown.details.parent_model == BASE and shown.details.parameter_size == "135M"
    raw = hub.ask("POST", "/api/show", 200, json={"model": pirate})
    assert raw["system"] == SYSTEM and raw["messages"] == SHOTS
    lines = dict(line.split(None, 1) for line in raw["parameters"].splitlines())
    assert lines == {"num_ctx": "2048", "num_predict": "12", "repeat_penalty": "1.0",
                     "stop": '"\\n\\n"', "temperature": "0"}
    assert raw["modelfile"].startswith(f"FROM {BASE}\n") and SYSTEM in raw["modelfile"]
    assert "<|im_start|>" in raw["template"] and "tensors" not in raw
    verbose = hub.ask("POST", "/api/show", 200, json={"model": pirate, "verbose": True})
    shapes = {tensor["name"]: tensor["shape"] for tensor in verbose["tensors"]}
    assert shapes["model.norm.weight"] == [576]
    assert verbose["model_info"]["llama.block_count"] == 30
    models = {model.model: model for model in client.list().models}
    listed, base = models["pirate:latest"], models["org/smollm2:latest"]
    assert listed.size == base.size and listed.digest != base.digest
    assert listed.details.family == "llama" and listed.details.parent_model == BASE
    client.generate(pirate, PROMPT)
    running = {model.model: model for model in client.ps().models}
    assert running["pirate:latest"].digest == listed.digest
    assert running["pirate:latest"].size == running["org/smollm2:latest"].size > 0
    done = subprocess.run([BINARY, "list", "--json", "--port", str(hub.port)], check=True,
                          stdout=subprocess.PIPE)
    created = {row["name"]: row["details"]["parent_model"]
               for row in json.loads(done.stdout)["created"]}
    assert created["pirate:latest"] == BASE
    assert BASE + ":latest" not in created and "smol:latest" not in created


def test_a_template_takes_the_base_s_place(hub, client):
    client.create("bare", from_=BASE, template=TEMPLATE)
    prompt = hub.ask("POST", "/apply-template", 200, json={"model": "bare", "messages": MESSAGES})
    assert prompt["prompt"] == f"<|user|>{PROMPT}\n<|assistant|>"
    said = client.generate("bare", PROMPT, options=GREEDY)
    asked = client.generate(BASE, PROMPT, template=TEMPLATE, options=GREEDY)
    assert said.response == asked.response
    assert said.prompt_eval_count == asked.prompt_eval_count
    client.delete("bare")


def test_it_is_made_of_another_and_made_again(hub, client, pirate):
    client.create("org/captain:v2", from_=pirate, parameters={"num_predict": 4}, license="GPL")
    raw = hub.ask("POST", "/api/show", 200, json={"model": "org/captain:v2"})
    assert raw["system"] == SYSTEM and raw["license"] == "MIT\nand more\nGPL"
    assert "num_predict                    4\n" in raw["parameters"]
    assert "num_ctx                        2048\n" in raw["parameters"]
    assert raw["details"]["parent_model"] == pirate
    assert client.chat("org/captain:v2", MESSAGES).eval_count == 4
    client.create("org/captain:v2", from_=BASE, system="Be brief.")
    raw = hub.ask("POST", "/api/show", 200, json={"model": "org/captain:v2"})
    assert raw["system"] == "Be brief." and raw["parameters"] == "" and "messages" not in raw
    refused(lambda: client.show("org/captain"), 404)
    client.delete("org/captain:v2")
    refused(lambda: client.show("org/captain:v2"), 404)


def test_a_file_brings_its_texts(hub, client, model_file):
    digest = client.create_blob(model_file)
    client.create("sent", files={"m.gguf": digest}, system=SYSTEM, parameters=GREEDY)
    assert client.chat("sent", MESSAGES).message.content
    assert [m.model for m in client.list().models].count("sent:latest") == 1
    client.create("onsent", from_="sent", system="Be brief.")
    refused(lambda: client.delete("sent"), 409, "onsent")
    assert "used by" in hub.detail("DELETE", "/base-models/sent", 409)
    client.delete("onsent")
    client.delete("sent:latest")
    hub.detail("GET", "/base-models/sent", 404)


def test_names_that_are_taken(hub, client, pirate):
    refused(lambda: client.create("smol", from_=BASE), 409, "already exists")
    refused(lambda: client.create("smol:v2", from_=BASE), 409, "versions")
    refused(lambda: client.create(BASE, from_=BASE, system="x"), 409, "already exists")
    refused(lambda: client.copy(pirate, "smol"), 409)
    body = {"name": "pirate", "base_model": BASE}
    assert "already exists" in hub.detail("POST", "/models", 409, json=body)
    client.copy(pirate, pirate)
    for bad in ("a/b/c", "a@b", "x:", "..", " x", "a\nb"):
        refused(lambda: client.create(bad, from_=BASE), 400, "model")


@pytest.mark.parametrize("more, words", [
    ({"parameters": {"temprature": 1}}, ["'temprature'", "not known"]),
    ({"parameters": {"temperature": "hot"}}, ["temperature"]),
    ({"parameters": {"temperature": -1}}, ["temperature"]),
    ({"parameters": {"top_k": 1.5}}, ["top_k"]),
    ({"parameters": {"stop": [1]}}, ["stop"]),
    ({"parameters": {"stop": ["x"] * 1000}}, ["stop"]),
    ({"parameters": {"mirostat": 2}}, ["mirostat"]),
    ({"parameters": {"num_thread": "all"}}, ["num_thread"]),
    ({"parameters": {"use_mmap": 1}}, ["use_mmap"]),
    ({"parameters": {"num_ctx": 100000}}, ["100000", "8192"]),
    ({"parameters": [1]}, ["parameters"]),
    ({"system": 5}, ["system"]),
    ({"system": "a\0b"}, ["NUL"]),
    ({"system": "x" * 2000000}, ["2000000"]),
    ({"messages": "hello"}, ["messages"]),
    ({"messages": [{"content": "x"}]}, ["role"]),
    ({"messages": [{"role": "king", "content": "x"}]}, ["messages[0]", "role"]),
    ({"messages": [{"role": "user", "content": 5}]}, ["messages[0]"]),
    ({"messages": [{"role": "user", "content": "x"}] * 2000}, ["2000"]),
    ({"license": 7}, ["license"]),
    ({"license": [7]}, ["license"]),
    ({"template": "{{ .System }} {{ .Prompt }}"}, ["Go", "Jinja"]),
    ({"template": "{{- range .Messages }}{{ end }}"}, ["Go", "Jinja"]),
    ({"template": "{% for m in messages %}"}, ["'template'"]),
    ({"template": "x" * 300000}, ["300000"]),
    ({"adapters": {"a.gguf": "sha256:" + "0" * 64}}, ["a.gguf", "adapter_config.json"]),
    ({"adapters": {"a.safetensors": "sha256:" + "0" * 64}}, ["was sent"]),
    ({"adapters": {"a.safetensors": 5}}, ["adapters"]),
    ({"adapters": []}, ["adapters"]),
])
def test_what_cannot_be_kept_is_said(hub, client, more, words):
    answer = hub.http.post("/api/create", json={"model": "bad", "from": BASE, **more})
    assert answer.status_code in (400, 413), answer.text
    for word in words:
        assert word in answer.json()["error"]
    refused(lambda: client.show("bad"), 404)


# --- versions and adapters ---


@pytest.fixture(scope="module")
def rows(hub):
    return hub.ask("POST", "/datasets/upload?name=rows", 201, content=DATASET.read_bytes(),
                   headers={"content-type": "application/jsonl"})


def trained(hub, smollm, rows, **config):
    """A few steps on the real weights."""
    config = {"max_steps": 3, "lora_rank": 4, "lora_targets": "all-linear", "max_seq_length": 64,
              "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 0, "num_layers": 4, **config}
    finished(hub, hub.ask("POST", "/training/jobs", 201, json={
        "model_id": smollm["id"], "dataset_id": rows["id"], "config": config}))


@pytest.fixture(scope="module")
def version(hub, smollm, rows):
    """smol@1.0.0."""
    trained(hub, smollm, rows)
    return f"/models/{smollm['id']}/versions/1.0.0"


def finished(hub, job):
    def row():
        now = hub.ask("GET", f"/training/jobs/{job['id']}", 200)
        return now if now["status"] in ("completed", "failed", "cancelled") else None

    row = wait_for(row, seconds=300)
    assert row["status"] == "completed", row["error_message"]
    return row


def say(client, model):
    answer = client.chat(model, MESSAGES, options={**GREEDY, "num_predict": 24}, logprobs=True)
    return answer.message.content, [token.logprob for token in answer.logprobs]


def test_a_name_that_is_listed_is_what_answers(hub, client, smollm, rows, version):
    """The newest version is `smol:latest`, the one in production `smol`."""
    trained(hub, smollm, rows, max_steps=1, seed=7)
    versions = hub.ask("GET", f"/models/{smollm['id']}/versions", 200)
    newest = f"/models/{smollm['id']}/versions/{versions[0]['version']}"
    old, new = versions[1]["checksum"], versions[0]["checksum"]
    assert old != new
    assert {m.model: m.digest for m in client.list().models}["smol:latest"] == new
    hub.ask("PATCH", version, 200, json={"aliases": ["production"]})
    try:
        said = {v["checksum"]: say(client, f"smol@{v['version']}") for v in versions}
        assert said[old] != said[new]
        listed = {m.model: m for m in client.list().models}
        digests = {name: m.digest for name, m in listed.items() if name.startswith("smol")}
        assert digests["smol"] == digests["smol:production"] == digests["smol@1.0.0"] == old
        assert digests["smol:latest"] == new
        running = {m.model: m.digest for m in client.ps().models}
        for name, digest in digests.items():
            assert say(client, name) == said[digest]
            assert running[name] == digest
            assert client.show(name).modified_at == listed[name].modified_at
        assert set(digests) <= {m["id"] for m in hub.ask("GET", "/v1/models", 200)["data"]}
    finally:
        hub.ask("PATCH", version, 200, json={"aliases": []})
        hub.ask("DELETE", newest, 204)
    assert "smol" not in {m.model for m in client.list().models}


@pytest.fixture(scope="module")
def exported(hub, version):
    """Folders of the version's adapter as other tools have it."""
    jobs = {f: hub.ask("POST", version + "/export", 202, json={"format": f}) for f in ("peft", "mlx")}
    return {f: pathlib.Path(finished(hub, job)["result"]["path"]) for f, job in jobs.items()}


def sent_adapters(client, folder):
    return {path.name: client.create_blob(path) for path in folder.iterdir() if path.is_file()
            and path.suffix in (".json", ".safetensors")}


@pytest.mark.parametrize("format", ["peft", "mlx"])
def test_an_adapter_that_was_exported_gives_the_same_bits(hub, client, version, exported, format):
    name = f"trained-{format}"
    client.create(name, from_=BASE, adapters=sent_adapters(client, exported[format]))
    text, logprobs = say(client, "smol@1.0.0")
    assert (text, logprobs) == say(client, name)
    assert logprobs != say(client, BASE)[1]
    checksum = hub.ask("GET", version, 200)["checksum"]
    raw = hub.ask("POST", "/api/show", 200, json={"model": name})
    assert f"ADAPTER sha256:{checksum}\n" in raw["modelfile"]
    models = {model.model: model for model in client.list().models}
    adapter = hub.folder / "storage" / "blobs" / "sha256" / checksum
    assert models[f"{name}:latest"].size == models["org/smollm2:latest"].size + adapter.stat().st_size
    cache = hub.folder / "storage" / "cache"
    assert not [p for p in cache.iterdir() if p.name.startswith(("adapter-", "sent-"))]
    refused(lambda: client.create("two", from_=name, adapters={"a.json": "sha256:1"}), 400, "merge")
    client.delete(name)
    assert not adapter.exists()


def changed(client, folder, tmp_path, config=None, factors=None):
    """The adapter with members of its config or its file changed, sent."""
    tmp_path.mkdir(exist_ok=True)
    for path in folder.iterdir():
        data = path.read_bytes()
        if path.name == "adapter_config.json" and config is not None:
            data = json.dumps({**json.loads(data), **config}).encode()
        if path.suffix == ".safetensors" and factors is not None:
            data = factors(data)
        (tmp_path / path.name).write_bytes(data)
    return sent_adapters(client, tmp_path)


@pytest.mark.parametrize("config, word", [
    ({"use_dora": True}, "use_dora"),
    ({"peft_type": "IA3"}, "peft_type"),
    ({"bias": "all"}, "bias"),
    ({"r": 8}, "rank 4"),
    ({"r": 0}, "'r'"),
    ({"r": "four"}, "r"),
    ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
])
def test_a_config_that_is_not_supported(client, exported, tmp_path, config, word):
    adapters = changed(client, exported["peft"], tmp_path, config)
    refused(lambda: client.create("bad", from_=BASE, adapters=adapters), 400, word)


def test_an_adapter_of_another_base(hub, client, exported, tmp_path):
    tiny = ROOT / "tests" / "fixtures" / "train" / "base"
    hub.ask("POST", "/base-models/import", 201, json={"path": str(tiny), "as": "tiny"})
    adapters = sent_adapters(client, exported["peft"])
    refused(lambda: client.create("bad", from_="tiny", adapters=adapters), 400,
            "does not fit this base", "model.layers.")
    rows = [
        (lambda data: data[:-5], "safetensors"),
        (lambda data: b"", "safetensors"),
        (lambda data: data.replace(b"q_proj.lora_A", b"w_proj.lora_A"), "w_proj"),
        (lambda data: b"\xff" * 4096, "safetensors"),
    ]
    for i, (factors, word) in enumerate(rows):
        adapters = changed(client, exported["peft"], tmp_path / str(i), factors=factors)
        refused(lambda: client.create("bad", from_=BASE, adapters=adapters), 400, word)
    nothing = tmp_path / "adapter_config.json"
    for text in ("", "[]", "{}", '{"peft_type": null}', "{" * 100):
        nothing.write_text(text)
        bad = {**adapters, "adapter_config.json": client.create_blob(nothing)}
        refused(lambda: client.create("bad", from_=BASE, adapters=bad), 400)


def test_a_base_goes_when_the_rest_fails(hub, client, model_file, exported, tmp_path):
    files = {"m.gguf": client.create_blob(model_file)}
    adapters = changed(client, exported["peft"], tmp_path, {"r": 8})
    refused(lambda: client.create("halfway", files=files, adapters=adapters), 400, "rank 4")
    hub.detail("GET", "/base-models/halfway", 404)
    # one that was there stays
    files = {"m.gguf": client.create_blob(model_file)}
    client.create("whole", files=files)
    files = {"m.gguf": client.create_blob(model_file)}
    refused(lambda: client.create("whole", files=files, adapters=adapters), 400, "rank 4")
    hub.ask("GET", "/base-models/whole", 200)
    client.delete("whole")


def loss(hub, name: str) -> float:
    """What the command says of it on the dataset: a name that was created brings its adapter."""
    words = [BINARY, "eval", name, "--dataset", "rows", "--port", str(hub.port), "--json"]
    words += ["--storage-base-path", str(hub.folder / "storage")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["loss"]


def test_a_copy_of_a_version_lives_on(hub, client, version, pirate):
    text, logprobs = say(client, "smol@1.0.0")
    client.copy("smol@1.0.0", "keep")
    client.copy("keep", "keep:again")
    client.create("keep-pirate", from_="smol", system=SYSTEM)
    models = {model.model: model for model in client.list().models}
    checksum = hub.ask("GET", version, 200)["checksum"]
    assert models["keep:latest"].digest == models["keep:again"].digest == checksum
    assert models["keep:latest"].size == models["smol@1.0.0"].size > models["smol@1.0.0"].size // 2
    assert models["keep:latest"].details.parent_model == "smol@1.0.0"
    with_system = say(client, "keep-pirate")
    assert loss(hub, "keep") == loss(hub, "smol@1.0.0") != loss(hub, BASE)
    hub.ask("DELETE", version, 204)
    refused(lambda: client.show("smol@1.0.0"), 404)
    assert say(client, "keep") == say(client, "keep:again") == (text, logprobs)
    assert say(client, "keep-pirate") == with_system != (text, logprobs)
    client.delete("keep")
    assert say(client, "keep:again") == (text, logprobs)
    blob = hub.folder / "storage" / "blobs" / "sha256" / checksum
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == checksum
    client.delete("keep:again")
    client.delete("keep-pirate")
    assert not blob.exists()


def test_what_is_too_long_is_cut_when_asked(hub, client, pirate):
    turns = []
    for i in range(400):
        turns.append({"role": "user", "content": f"Question {i}: " + "why is the sea salty? " * 4})
        turns.append({"role": "assistant", "content": f"Answer {i}: it is."})
    told = [{"role": "system", "content": SYSTEM}, *turns, *MESSAGES]
    body = {"model": BASE, "messages": told, "stream": False, "options": GREEDY}
    for more in ({}, {"truncate": False}):
        error = hub.ask("POST", "/api/chat", 400, json={**body, **more})["error"]
        assert "the prompt is" in error and "the context holds 8192" in error
    cut = hub.ask("POST", "/api/chat", 200, json={**body, "truncate": True})
    assert 8000 < cut["prompt_eval_count"] < 8192
    short = {**body, "options": {**GREEDY, "num_ctx": 500}}
    cut = client.chat(BASE, told, options=short["options"])
    assert 400 < cut.prompt_eval_count < 500
    for more in ({"truncate": True}, {"truncate": None}):
        again = hub.ask("POST", "/api/chat", 200, json={**short, **more})
        assert again["message"]["content"] == cut.message.content
    error = hub.ask("POST", "/api/chat", 400, json={**short, "truncate": False})["error"]
    assert "the prompt is" in error and "the context holds 500 (num_ctx)" in error
    client.create("short", from_=BASE, parameters={"num_ctx": 500})
    assert client.chat("short", told, options=GREEDY).message.content == cut.message.content
    client.delete("short")
    cut = again
    for kept in range(0, 40, 2):  # the rest is what it would be without the oldest
        rest = {**body, "messages": [told[0], *turns[len(turns) - kept:], *MESSAGES]}
        said = hub.ask("POST", "/api/chat", 200, json={**rest, "options": {**GREEDY, "num_predict": 1}})
        if said["prompt_eval_count"] == cut["prompt_eval_count"]:
            whole = hub.ask("POST", "/api/chat", 200, json=rest)
            assert whole["message"]["content"] == cut["message"]["content"]
            break
    else:
        raise AssertionError("no end of the conversation is what was answered")
    alone = {"model": BASE, "prompt": "word " * 9000, "stream": False, "truncate": True}
    assert "the context holds" in hub.ask("POST", "/api/generate", 400, json=alone)["error"]
    fits = {"model": pirate, "messages": MESSAGES, "stream": False, "truncate": True}
    assert hub.ask("POST", "/api/chat", 200, json=fits)["prompt_eval_count"] == client.chat(
        pirate, MESSAGES
    ).prompt_eval_count


def test_texts_to_embed_are_cut_when_asked(hub, client):
    long = "the sea is salty " * 3000
    body = {"model": BASE, "input": long}
    assert "the context holds" in hub.ask("POST", "/api/embed", 400, json=body)["error"]
    body = {"model": BASE, "input": "the sea is salty " * 100, "options": {"num_ctx": 33}}
    error = hub.ask("POST", "/api/embed", 400, json={**body, "truncate": False})["error"]
    assert "the context holds 33 (num_ctx)" in error
    cut = hub.ask("POST", "/api/embed", 200, json=body)
    assert cut["prompt_eval_count"] == 32
    same = client.embed(BASE, "the sea is salty " * 8)
    assert cut["embeddings"][0] == pytest.approx(list(same.embeddings[0]), abs=1e-6) or \
        same.prompt_eval_count != 32
    whole = client.embed(BASE, long, truncate=True)
    assert whole.prompt_eval_count == 8191


def test_vectors_of_fewer_dimensions(hub, client):
    whole = list(client.embed(BASE, "salt").embeddings[0])
    few = list(client.embed(BASE, "salt", dimensions=8).embeddings[0])
    length = sum(x * x for x in whole[:8]) ** 0.5
    assert few == pytest.approx([x / length for x in whole[:8]], rel=1e-6)
    refused(lambda: client.embed(BASE, "salt", dimensions=5000), 400, "5000", "576")
    other = openai.OpenAI(base_url=hub.url + "/v1", api_key="none")
    again = other.embeddings.create(model=BASE, input="salt", dimensions=8).data[0].embedding
    assert again == pytest.approx(few, rel=1e-6)


def test_all_of_it_outlives_a_restart(hub, client, pirate):
    said = client.chat(pirate, MESSAGES).message.content
    assert hub.stop() == 0
    hub.start()
    assert client.chat(pirate, MESSAGES).message.content == said
    assert client.show(pirate).template
