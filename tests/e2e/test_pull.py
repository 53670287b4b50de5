"""Pulling models: by the command, by HTTP with its events, by Ollama's client; and whatever goes
wrong on the way. The model hub is a stand-in on loopback that serves real files."""

import hashlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading

import httpx
import ollama
import pytest

from conftest import BINARY, ROOT, Hub, events, wait_for
from model_hub import ModelHub, Repo, folder

TINY = ROOT / "tests" / "fixtures" / "train" / "base"
GGUF = "SmolLM2-135M-Instruct-Q4_1.gguf"
FINAL = ("completed", "failed", "cancelled")


@pytest.fixture
def there():
    hub = ModelHub()
    hub.repos["org/tiny"] = Repo(
        folder(TINY)
        | {"README.md": b"# tiny", "pytorch_model.bin": b"\x80pickle", "onnx/model.onnx": b"x"}
    )
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def weights(model_file) -> bytes:
    return pathlib.Path(model_file).read_bytes()


@pytest.fixture
def make(tmp_path, there):
    """Starts a hub that pulls from the stand-in."""
    made = []

    def start(*flags: str) -> Hub:
        hub = Hub(tmp_path / "hub", "--hf-endpoint", there.url, *flags)
        made.append(hub)
        return hub.start()

    yield start
    for hub in made:
        there.go.set()
        if hub.process is not None:
            hub.stop(signal.SIGKILL)


@pytest.fixture
def own(make):
    return make()


def ended(hub: Hub, job: dict) -> dict:
    def look():
        row = hub.ask("GET", f"/training/jobs/{job['id']}", 200)
        return row if row["status"] in FINAL else None

    return wait_for(look, 240)


def pull(hub: Hub, id: str, **more) -> dict:
    return ended(hub, hub.ask("POST", "/base-models/pull", 202, json={"id": id, **more}))


def pulled(hub: Hub, id: str, **more) -> dict:
    job = pull(hub, id, **more)
    assert job["status"] == "completed", job["error_message"]
    return job


def refused(hub: Hub, id: str, **more) -> str:
    job = pull(hub, id, **more)
    assert job["status"] == "failed"
    assert hub.ask("GET", "/base-models", 200) == []
    return job["error_message"]


def answer(hub: Hub, model: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    said = hub.ask("POST", "/v1/chat/completions", 200, json=body)
    assert said["usage"]["completion_tokens"] == 1
    return said["choices"][0]["message"]["content"]


def cache(hub: Hub) -> list[str]:
    return sorted(p.name for p in (hub.folder / "storage" / "cache").glob("pull*"))


def test_a_folder_comes_with_what_a_model_needs_and_nothing_else(own, there):
    job = pulled(own, "org/tiny")
    names = {sent.name for sent in there.sent}
    assert names == {path.name for path in TINY.iterdir()}  # no README, no pickle, no onnx
    repo = there.repos["org/tiny"]
    base = own.ask("GET", "/base-models/org/tiny", 200)
    assert base["source"] == f"{there.url}/org/tiny@{repo.commit}"
    assert job["result"]["commit"] == repo.commit and job["result"]["sha256"] == base["sha256"]
    size = sum(len(data) for name, data in repo.files.items() if name in names)
    assert job["result"]["fetched_bytes"] == size == there.fetched()
    assert (job["progress"]["step"], job["progress"]["steps"]) == (size, size)
    assert cache(own) == []
    answer(own, "org/tiny")
    again = pulled(own, "org/tiny")
    assert again["result"]["was_there"] and again["result"]["fetched_bytes"] == 0
    assert there.fetched() == size
    # the same content at another commit is there, too; other content needs another name
    repo.commit = "a" * 40
    repo.revisions = {"main"}
    assert pulled(own, "org/tiny")["result"]["was_there"] and there.fetched() == size
    repo.files["generation_config.json"] = b"{}"
    job = pull(own, "org/tiny")
    assert job["status"] == "failed" and "--as" in job["error_message"]
    assert pulled(own, "org/tiny", **{"as": "newer"})["result"]["as"] == "newer"


def test_a_folder_is_quantised_where_that_is_asked_for(own):
    pulled(own, "org/tiny", quantization="8bit")
    base = own.ask("GET", "/base-models/org/tiny", 200)
    assert base["format"] != "gguf" and "quantised to 8 bits" in base["source"]
    answer(own, "org/tiny")
    for same in ({}, {"quantization": "8bit"}):
        assert pulled(own, "org/tiny", **same)["result"]["was_there"]
    for asked in ("none", "4bit"):
        job = pull(own, "org/tiny", quantization=asked)
        assert job["status"] == "failed"
        assert all(word in job["error_message"] for word in ("8bit", asked, "--as"))
    pulled(own, "org/tiny", quantization="none", **{"as": "plain"})
    job = pull(own, "org/tiny", quantization="8bit", **{"as": "plain"})
    assert job["status"] == "failed" and "as it came" in job["error_message"]


def test_a_cancel_is_heard_while_weights_are_quantised(own, there, weights):
    there.repos["org/smol"] = Repo({GGUF: weights})
    body = {"id": "org/smol", "quantization": "8bit"}
    path = f"/training/jobs/{own.ask('POST', '/base-models/pull', 202, json=body)['id']}"
    wait_for(lambda: "quantising" in own.http.get(f"{path}/logs").text)
    own.ask("POST", f"{path}/cancel", 200)
    assert ended(own, own.ask("GET", path, 200))["status"] == "cancelled"
    assert [name[:5] for name in cache(own)] == ["pull-"]  # what was fetched, for the next one
    assert own.ask("GET", "/base-models", 200) == []


def test_missing_weights_come_back_and_others_are_refused_before_they_are_fetched(own, there, weights):
    there.repos["org/smol"] = Repo({GGUF: weights})
    for id in ("org/tiny", "org/smol"):
        pulled(own, id)
    first = there.fetched()
    blobs = own.folder / "storage" / "blobs" / "sha256"
    for blob in blobs.iterdir():
        blob.rename(blob.with_name(f"{blob.name}-gone"))
    there.repos["other/smol"] = Repo({"m.gguf": weights[:-1]})
    there.repos["other/tiny"] = Repo(folder(TINY) | {"generation_config.json": b"{ }"})
    for id, other in (("org/smol", "other/smol"), ("org/tiny", "other/tiny"), ("org/smol", "org/tiny")):
        job = pull(own, other, **{"as": id})
        assert job["status"] == "failed" and "other content" in job["error_message"]
    assert there.fetched() == first
    there.repos["other/smol"] = Repo({"m.gguf": weights})  # the same from elsewhere
    pulled(own, "other/smol", **{"as": "org/smol"})
    pulled(own, "org/tiny")
    assert there.fetched() == 2 * first
    answer(own, "org/tiny")


def test_a_name_of_ollamas_is_refused_before_anything_is_fetched(own, there):
    pulled(own, "org/tiny")
    own.ask("POST", "/api/copy", 200, json={"source": "org/tiny", "destination": "mine"})
    body = {"id": "org/tiny", "as": "mine"}
    assert "already exists" in own.detail("POST", "/base-models/pull", 409, json=body)


def test_events_tell_bytes_and_speed(own, there, weights):
    there.repos["org/smol"] = Repo({GGUF: weights})
    there.hold_at = len(weights) // 2
    job = own.ask("POST", "/base-models/pull", 202, json={"id": "org/smol"})
    assert job["kind"] == "pull" and job["config"]["as"] == "org/smol"
    assert there.held.wait(60)
    joined = own.ask("POST", "/base-models/pull", 202, json={"id": "org/smol"})
    assert joined["id"] == job["id"]
    other = {"id": "org/tiny", "as": "org/smol"}
    assert "Something else" in own.detail("POST", "/base-models/pull", 409, json=other)
    told = []
    with own.http.stream("GET", f"/training/jobs/{job['id']}/events") as lines:
        for name, data in events(lines.iter_lines()):
            told.append((name, data))
            if name == "step" and data["step"] == there.hold_at:
                there.go.set()
    steps = [data for name, data in told if name == "step"]
    assert steps[-1]["step"] == steps[-1]["steps"] == len(weights)
    assert all(data["bytes_per_second"] is not None for data in steps)
    assert told[-1][1]["status"] == "completed"
    assert there.fetched() == len(weights)
    base = own.ask("GET", "/base-models/org/smol", 200)
    assert base["sha256"] == hashlib.sha256(weights).hexdigest()
    answer(own, "org/smol")
    # what another id has is not fetched again
    there.repos["other/smol"] = Repo({"copy.gguf": weights})
    assert pulled(own, "other/smol")["result"]["fetched_bytes"] == 0
    assert there.fetched() == len(weights)


def test_pulling_goes_on_beside_training(own, there):
    """A queue that waits for a pull to end would wait for the network."""
    own.ask("POST", "/models", 201, json={"name": "m", "base_model": "base"})
    there.hold_at = 1000
    job = own.ask("POST", "/base-models/pull", 202, json={"id": "org/tiny"})
    assert there.held.wait(60)
    own.ask("POST", "/base-models/import", 201, json={"path": str(TINY), "as": "base"})
    quantise = {"as": "base-8bit", "bits": 8}
    work = own.ask("POST", "/base-models/base/quantize", 202, json=quantise)
    assert ended(own, work)["status"] == "completed"
    assert own.ask("GET", f"/training/jobs/{job['id']}", 200)["status"] == "running"
    there.go.set()
    assert ended(own, job)["status"] == "completed"


def test_ollamas_client_pulls(own, there, weights):
    there.repos["org/smol-GGUF"] = Repo({GGUF: weights, GGUF.replace("Q4_1", "Q8_0"): b"no"})
    client = ollama.Client(host=own.url)
    there.hold_at = len(weights) // 2
    lines = []
    for line in client.pull("hf.co/org/smol-GGUF:Q4_1", stream=True):
        lines.append(line)
        if line.completed == there.hold_at:
            there.go.set()
    assert lines[-1].status == "success"
    bars = [line for line in lines if line.digest]
    digest = "sha256:" + hashlib.sha256(weights).hexdigest()
    assert all(line.digest == digest and line.total == len(weights) for line in bars)
    assert {there.hold_at, len(weights)} <= {line.completed for line in bars}
    for name in ("org/smol-GGUF", "hf.co/org/smol-GGUF:Q4_1"):
        said = client.chat(name, [{"role": "user", "content": "Hi"}], options={"num_predict": 1})
        assert said.eval_count == 1
    assert client.pull("org/tiny", stream=False).status == "success"
    for name, why in (("llama3", "org/name"), ("../x", "no model's id")):
        with pytest.raises(ollama.ResponseError, match=why):
            client.pull(name)
    for stream in (True, False):
        with pytest.raises(ollama.ResponseError, match="no model 'org/unknown'"):
            list(client.pull("org/unknown", stream=stream))


def test_a_lost_connection_costs_no_byte(own, there, weights):
    there.repos["org/smol"] = Repo({GGUF: weights})
    there.drop_after, there.times = len(weights) // 3, 2
    pulled(own, "org/smol")
    assert [sent.start for sent in there.sent] == [0, there.drop_after, 2 * there.drop_after]
    assert there.fetched() == len(weights)


def test_a_busy_server_is_asked_again(own, there):
    there.answers = [(503, {}), (429, {"Retry_After": "1"}), (500, {})]
    pulled(own, "org/tiny")
    assert there.answers == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_wrong_digest_is_refused(own, there, name):
    repo = there.repos["org/tiny"]
    row = next(row for row in repo.siblings() if row["rfilename"] == name)
    wrong = {"lfs": {**row.get("lfs", {}), "sha256": "b" * 64}} if "lfs" in row else {"blobId": "b" * 40}
    repo.listed[name] = wrong
    why = refused(own, "org/tiny")
    assert name in why and "b" * 40 in why
    repo.listed.clear()
    pulled(own, "org/tiny")


def test_a_file_of_another_length_is_refused(own, there):
    repo = there.repos["org/tiny"]
    repo.listed["config.json"] = {"size": len(repo.files["config.json"]) - 1}
    assert "longer than" in refused(own, "org/tiny")


def test_a_killed_server_goes_on_where_it_was(own, there, weights):
    there.repos["org/smol"] = Repo({GGUF: weights})
    there.hold_at = len(weights) // 2
    job = own.ask("POST", "/base-models/pull", 202, json={"id": "org/smol"})
    path = f"/training/jobs/{job['id']}"
    wait_for(lambda: own.ask("GET", path, 200)["progress"]["step"] == there.hold_at)
    own.stop(signal.SIGKILL)
    assert there.held.is_set()
    there.hold_at = None
    there.go.set()
    own.start()
    assert ended(own, job)["status"] == "completed"
    assert [sent.start for sent in there.sent] == [0, len(weights) // 2]
    assert answer(own, "org/smol") is not None


def test_a_hub_that_shuts_down_says_so_and_goes_on_later(own, there, weights):
    there.repos["org/smol"] = Repo({GGUF: weights})
    there.hold_at = len(weights) // 2
    with pytest.raises(ollama.ResponseError, match="shutting down"):
        for line in ollama.Client(host=own.url).pull("org/smol", stream=True):
            if line.completed == there.hold_at:
                own.process.send_signal(signal.SIGTERM)
    own.stop()
    there.hold_at = None
    there.go.set()
    own.start()
    wait_for(lambda: own.http.get("/base-models/org/smol").status_code == 200)
    assert [sent.start for sent in there.sent] == [0, len(weights) // 2]


def test_a_cancelled_pull_is_taken_up_by_the_next(own, there, weights):
    there.repos["org/smol"] = Repo({GGUF: weights})
    there.hold_at = len(weights) // 2
    job = own.ask("POST", "/base-models/pull", 202, json={"id": "org/smol"})
    path = f"/training/jobs/{job['id']}"
    wait_for(lambda: own.ask("GET", path, 200)["progress"]["step"] == there.hold_at)
    own.ask("POST", f"{path}/cancel", 200)
    assert ended(own, job)["status"] == "cancelled"
    assert len(cache(own)) == 1
    there.hold_at = None
    there.go.set()
    resumed = own.ask("POST", f"{path}/resume", 201)
    assert resumed["kind"] == "pull" and ended(own, resumed)["status"] == "completed"
    assert [sent.start for sent in there.sent] == [0, len(weights) // 2]
    assert cache(own) == []


def test_gated_and_unknown_say_what_to_do(make, there):
    there.token = "hf_secret"
    there.repos["org/gated"] = Repo(folder(TINY), gated=True)
    own = make()
    why = refused(own, "org/gated")
    assert "HF_TOKEN" in why and "org/gated" in why
    why = refused(own, "org/unknown", revision="v2")
    assert "org/unknown" in why and "v2" in why
    assert "main" in refused(own, "org/unknown")
    own.stop()
    own = make("--hf-token", "wrong")
    assert "with the HF_TOKEN that is set" in refused(own, "org/gated")
    own.stop()
    own = make("--hf-token", "hf_secret")
    there.elsewhere = True
    pulled(own, "org/gated")
    assert len(there.seen_elsewhere) == len(list(TINY.iterdir()))
    assert not any("Authorization" in headers for headers in there.seen_elsewhere)
    for path in (own.folder / "storage").rglob("*.log"):
        assert "hf_secret" not in path.read_text()
    assert "hf_secret" not in (own.folder / "serve.log").read_text()


@pytest.mark.parametrize("name", ["../up.json", "/etc/x.json", "a/../b.json", "a\\b", "x\n.json", ""])
def test_names_that_lead_elsewhere_are_refused(own, there, name):
    there.repos["org/tiny"].files[name] = b"{}"
    assert "may not be written" in refused(own, "org/tiny")
    assert there.sent == []


def test_what_is_not_served_is_named(own, there):
    there.repos["org/pickle"] = Repo({"config.json": b"{}", "pytorch_model.bin": b"x"})
    assert "pickle" in refused(own, "org/pickle")
    there.repos["org/many"] = Repo({"m-Q8_0.gguf": b"x", "m-Q2_K.gguf": b"y"})
    why = refused(own, "org/many")
    assert "m-Q8_0.gguf" in why and "m-Q2_K.gguf" in why
    assert "m-Q8_0.gguf" in refused(own, "org/many", file="Q3_K")
    there.repos["org/split"] = Repo({f"m-0000{i}-of-00002.gguf": b"x" for i in (1, 2)})
    assert "several parts" in refused(own, "org/split")
    there.repos["org/readme"] = Repo({"README.md": b"x"})
    assert "holds no model" in refused(own, "org/readme")
    there.repos["org/bad"] = Repo({"bad-Q4_K_M.gguf": b"GGUF, but not really", "bad-F16.gguf": b"x"})
    assert pull(own, "org/bad")["status"] == "failed"
    assert own.ask("GET", "/base-models", 200) == []


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(own, there):
    there.repos["org/huge"] = Repo({"m.gguf": b"x"})
    there.repos["org/huge"].listed["m.gguf"] = {"size": 1 << 45}
    why = refused(own, "org/huge")
    assert "35184.37 GB more" in why and "GB are free" in why
    assert there.sent == []


def test_requests_are_checked(own, there):
    for body in ({}, {"id": ""}, {"id": "a/b/c"}, {"id": "org/x", "revision": "a b"}, {"id": "x", "o": 1}):
        own.ask("POST", "/base-models/pull", 422, json=body)
    own.ask("POST", "/base-models/pull", 422, json={"id": "org/x@v1", "revision": "v2"})
    own.ask("GET", "/base-models/search", 422)
    found = own.ask("GET", "/base-models/search", 200, params={"q": "TINY"})
    assert [(row["id"], row["gguf"], row["pulled"]) for row in found] == [("org/tiny", True, False)]
    there.close()
    assert "connect" in own.detail("GET", "/base-models/search", 503, params={"q": "x"})


def test_a_search_ends_when_its_client_leaves(own, there):
    there.hold_searches = True
    asker = socket.create_connection(("127.0.0.1", own.port))
    asker.sendall(b"GET /base-models/search?q=tiny HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert there.held.wait(60)
    asker.close()
    assert there.left.wait(12)  # before the search would have given up, after 15 seconds


def test_a_hub_that_does_not_train_pulls(make):
    own = make("--workers", "0")
    pulled(own, "org/tiny")
    assert own.ask("GET", "/health/detailed", 200)


def test_no_answer_is_a_failure_that_says_so(own, there):
    there.close()
    assert "cannot connect" in refused(own, "org/tiny")


# --- the command ---


def run(there, folder, *words, **more):
    environment = os.environ | {"HF_ENDPOINT": there.url, "STORAGE_BASE_PATH": str(folder), "PORT": "0"}
    return subprocess.run(
        [BINARY, *words], capture_output=True, text=True, env=environment, timeout=300, **more
    )


def test_the_command_pulls_and_chats_without_a_server(there, tmp_path):
    done = run(there, tmp_path / "s", "pull", "org/tiny@main", "--as", "tiny")
    assert done.returncode == 0, done.stderr
    assert "pulled tiny: llama" in done.stdout and "mlx-hub chat tiny" in done.stdout
    assert "of" in done.stderr and "/s" in done.stderr
    again = run(there, tmp_path / "s", "pull", "org/tiny", "--as", "tiny", "--json")
    assert json.loads(again.stdout)["id"] == "tiny" and again.returncode == 0
    said = run(there, tmp_path / "s", "generate", "tiny", "Hi", "--max-tokens", "1")
    assert said.returncode == 0, said.stderr
    wrong = run(there, tmp_path / "s", "pull", "org/unknown")
    assert wrong.returncode == 1 and "org/unknown" in wrong.stderr and wrong.stdout == ""
    assert "HF_TOKEN" in run(there, tmp_path / "s", "pull", "--help").stdout


def test_control_c_keeps_what_has_come(there, tmp_path, weights):
    there.repos["org/smol"] = Repo({GGUF: weights})
    there.hold_at = len(weights) // 2
    environment = os.environ | {"HF_ENDPOINT": there.url, "PORT": "0"}
    words = [BINARY, "pull", "org/smol", "--storage-base-path", str(tmp_path / "s")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    assert there.held.wait(60)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "the same command goes on" in told
    there.hold_at = None
    there.go.set()
    done = run(there, tmp_path / "s", "pull", "org/smol")
    assert done.returncode == 0, done.stderr
    assert 0 < there.sent[1].start <= len(weights) // 2
    assert there.sent[1].bytes == len(weights) - there.sent[1].start
