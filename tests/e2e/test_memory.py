"""One memory limit for loaded models and jobs, with the real model."""

import json
import signal
import subprocess
import threading

import pytest

from conftest import BINARY, Hub, wait_for
from test_life import CONFIG, finished, job_body

LIMIT_GB = 1.0  # the model takes some 0.3 GB of it, a job at most 0.75
LONG = {"max_seq_length": 1024, "lora_rank": 8, "lora_targets": "all-linear"}
STORY = [{"role": "user", "content": "Tell me a long story about a river and a lighthouse."}]


@pytest.fixture
def small(tmp_path):
    hub = Hub(
        tmp_path / "hub", "--mlx-memory-limit-gb", str(LIMIT_GB), "--context-length", "2048"
    ).start()
    yield hub
    if hub.process is not None:
        hub.stop(signal.SIGKILL)


def get_job(hub, job: dict) -> dict:
    return hub.ask("GET", f"/training/jobs/{job['id']}", 200)


def gauge(hub, name: str) -> float:
    lines = hub.http.get("/metrics").text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name)))


class Busy:
    """The model at work until told otherwise."""

    def __init__(self, hub, model_id: str):
        self.hub = hub
        self.body = {
            "model_id": model_id,
            "messages": STORY,
            "max_tokens": 1500,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
        }
        self.stopping = False
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        wait_for(lambda: any(m["active_requests"] for m in hub.runners()))

    def work(self):
        while not self.stopping:
            for _ in self.hub.stream(self.body):
                if self.stopping:
                    break

    def stop(self):
        self.stopping = True
        self.thread.join()


def test_jobs_and_models_share_the_limit(small, model_file):
    body = job_body(small, model_file)
    body["config"] = {**CONFIG, **LONG, "max_steps": 40, "log_every": 1}
    busy = Busy(small, body["model_id"])
    job = small.ask("POST", "/training/jobs", 201, json=body)
    (loaded,) = small.runners()  # one session needs 0.044 GB of keys and values, eight get more
    assert 0.2 < loaded["kv_memory_gb"] < loaded["memory_gb"] < 0.5
    waiting = wait_for(lambda: get_job(small, job)["waiting_for"])
    assert waiting.startswith("memory: the job needs ")
    assert "MB are free" in waiting and "1 busy models hold" in waiting
    assert get_job(small, job)["status"] == "queued"
    busy.stop()
    wait_for(lambda: get_job(small, job)["progress"]["step"] >= 1, seconds=120)
    assert small.runners() == []
    assert gauge(small, "training_learning_rate") > 0
    assert gauge(small, "training_eta_seconds") > 0
    assert gauge(small, "training_memory_bytes") > 1e8
    held = gauge(small, 'memory_used_bytes{part="training"}')
    assert held > get_job(small, job)["progress"]["memory_bytes"] * 0.9

    asked = {"model_id": body["model_id"], "prompt": "Who", "max_tokens": 2}
    refused = small.detail("POST", "/inference", 503, json=asked)
    assert "the model needs" in refused and "GB by a running job" in refused
    small.ask("POST", f"/training/jobs/{job['id']}/cancel", 200)
    wait_for(lambda: get_job(small, job)["status"] == "cancelled")
    small.ask("POST", "/inference", 200, json=asked)

    # one that resumes waits like any other
    busy = Busy(small, body["model_id"])
    again = small.ask("POST", f"/training/jobs/{job['id']}/resume", 201)
    wait_for(lambda: get_job(small, again)["waiting_for"])
    busy.stop()
    wait_for(lambda: get_job(small, again)["status"] == "running")
    small.ask("POST", f"/training/jobs/{again['id']}/cancel", 200)


def test_a_model_that_never_rests_makes_way(tmp_path, model_file):
    hub = Hub(tmp_path / "hub", "--mlx-memory-limit-gb", str(LIMIT_GB), "--context-length", "2048",
              "--job-patience", "1").start()
    body = job_body(hub, model_file)
    body["config"] = {**CONFIG, **LONG, "max_steps": 1}
    asked = {"model_id": body["model_id"], "messages": STORY, "max_tokens": 40, "temperature": 0}
    answers, stop = [], threading.Event()

    def ask():  # two of these, so that there is always one at work
        while not stop.is_set():
            answers.append(hub.http.post("/inference", json=asked))
            stop.wait(0.0 if answers[-1].status_code == 200 else 0.2)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_for(lambda: any(m["active_requests"] for m in hub.runners()))
    job = hub.ask("POST", "/training/jobs", 201, json=body)
    assert "busy models hold" in wait_for(lambda: get_job(hub, job)["waiting_for"])
    told = []
    with hub.http.stream("GET", f"/training/jobs/{job['id']}/events") as events:
        for line in events.iter_lines():
            if line.startswith("data: ") and '"waiting_for"' in line:
                told.append(json.loads(line[6:]))
            if told and told[-1]["status"] == "running":
                break
    stop.set()
    for thread in threads:
        thread.join()
    assert any("take no new requests" in (t["waiting_for"] or "") for t in told)
    texts = {a.json()["text"] for a in answers if a.status_code == 200}
    refused = [a for a in answers if a.status_code != 200]
    assert len(texts) == 1  # nobody was cut off
    assert {a.status_code for a in refused} == {503} and all("Retry-After" in a.headers for a in refused)
    assert any("a job has waited long enough" in a.json()["detail"] for a in refused)
    wait_for(lambda: finished(hub, job), seconds=180)
    hub.ask("POST", "/inference", 200, json=asked)
    hub.stop()


def test_what_can_never_fit_is_refused_with_both_numbers(small, model_file):
    body = job_body(small, model_file)
    body["config"] = {**CONFIG, **LONG, "max_seq_length": 8192, "lora_rank": 256}
    refused = small.detail("POST", "/training/jobs", 422, json=body)[0]["msg"]
    assert " GB and the memory limit is 1.00 GB" in refused


def test_a_model_that_can_never_fit_is_not_to_be_tried_again(tmp_path, model_file):
    """No 503, no Retry-After: clients would come back for ever."""
    hub = Hub(tmp_path / "hub", "--mlx-memory-limit-gb", "0.25").start()
    hub.ask("POST", "/base-models/import", 201, json={"path": model_file, "as": "org/large"})
    prompt = {"model": "org/large", "prompt": "x"}
    chat = {"model": "org/large", "messages": [{"role": "user", "content": "x"}]}
    for path, body, status in (
        ("/inference", prompt, 422),
        ("/inference/stream", prompt, 422),
        ("/v1/chat/completions", chat, 400),
        ("/v1/chat/completions", {**chat, "stream": True}, 400),
        ("/v1/embeddings", {"model": "org/large", "input": "x"}, 400),
        ("/api/chat", chat, 400),
        ("/api/generate", {"model": "org/large"}, 400),
        ("/tokenize", {"model": "org/large", "content": "x"}, 400),
    ):
        answer = hub.http.post(path, json=body)
        assert answer.status_code == status, (path, answer.text)
        assert " GB and the memory limit is 0.25 GB" in answer.text
        assert "retry-after" not in answer.headers
    hub.stop()


def test_a_limit_that_was_lowered_holds_nobody_up(tmp_path, model_file):
    """Whatever was trained, queued or stopped under a higher one."""
    hub = Hub(tmp_path / "hub").start()
    body = job_body(hub, model_file)
    large = {**body, "config": {**CONFIG, **LONG, "max_steps": 1}}
    small = {**body, "config": {**CONFIG, "max_steps": 1}}
    first = hub.ask("POST", "/training/jobs", 201, json=large)
    wait_for(lambda: finished(hub, first), seconds=180)
    hub.stop()
    hub.flags = ("--workers", "0")
    hub.start()
    stopped, queued = (hub.ask("POST", "/training/jobs", 201, json=large) for _ in range(2))
    behind = hub.ask("POST", "/training/jobs", 201, json=small)
    hub.ask("POST", f"/training/jobs/{stopped['id']}/cancel", 200)
    hub.stop()
    hub.flags = ("--mlx-memory-limit-gb", "0.25")
    hub.start()
    row = wait_for(lambda: (row := get_job(hub, queued))["status"] == "failed" and row)
    assert "training needs " in row["error_message"] and "268 MB are allowed" in row["error_message"]
    wait_for(lambda: finished(hub, behind), seconds=180)
    version = f"/models/{body['model_id']}/versions/1.0.0"
    for path, asked in (
        (version + "/reproduce", None),
        (version + "/evaluate", {"dataset_id": body["dataset_id"]}),
        (f"/training/jobs/{stopped['id']}/resume", None),
    ):
        refused = hub.detail("POST", path, 422, json=asked)[0]["msg"]
        assert " GB and the memory limit is 0.25 GB" in refused
    assert hub.ask("GET", "/training/queue", 200) == []
    hub.stop()


def test_what_the_weights_are_not_is_refused(small, model_file):
    body = job_body(small, model_file)
    body["config"] = {**CONFIG, "quantization": "8bit"}
    refused = small.detail("POST", "/training/jobs", 422, json=body)[0]["msg"]
    assert "the base's weights are Q4_1" in refused and 'leave quantization at "loaded"' in refused


def test_a_base_is_evaluated_in_what_the_hub_leaves(tmp_path, model_file):
    """In the command's own process, whose memory counts all the same."""
    limit = "0.85"
    hub = Hub(tmp_path / "hub", "--mlx-memory-limit-gb", limit, "--context-length", "2048").start()
    body = job_body(hub, model_file)
    words = [BINARY, "eval", "smol", "--dataset", "rows", "--port", str(hub.port), "--json"]
    words += ["--mlx-memory-limit-gb", limit, "--storage-base-path", str(hub.folder / "storage")]
    ask = {"model_id": body["model_id"], "prompt": "Who", "max_tokens": 2}
    hub.ask("POST", "/inference", 200, json=ask)
    refused = subprocess.run(words, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "the running hub's models and job hold" in refused.stderr
    assert "evaluating needs" in refused.stderr
    hub.ask("DELETE", "/inference/cache", 204)
    wait_for(lambda: not hub.runners())
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 12
    hub.stop()


def test_adapters_share_a_base_and_a_batch(small, model_file):
    body = job_body(small, model_file)
    for seed in 1, 2:
        job = small.ask(
            "POST", "/training/jobs", 201, json={**body, "config": {**CONFIG, "seed": seed}}
        )
        wait_for(lambda: finished(small, job), seconds=180)
    two, one = small.ask("GET", f"/models/{body['model_id']}/versions", 200)
    small.ask(
        "PATCH",
        f"/models/{body['model_id']}/versions/{one['version']}",
        200,
        json={"aliases": ["production"]},
    )
    names = ["smol", f"otto@{two['version']}", "otto:production", "otto:latest", "otto"]
    ask = {"messages": STORY, "max_tokens": 24, "temperature": 0}

    def answer(name: str) -> str:
        reply = small.ask("POST", "/v1/chat/completions", 200, json={**ask, "model": name})
        return reply["choices"][0]["message"]["content"]

    alone = {name: answer(name) for name in names}
    pid = small.runners()[0]["pid"]
    together: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda n=name: together.__setitem__(n, answer(n)))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    by_id = small.ask(
        "POST",
        "/inference",
        200,
        json={
            "model_id": body["model_id"],
            "version_id": two["id"],
            "messages": STORY,
            "max_tokens": 24,
            "temperature": 0,
            "repetition_penalty": 1.0,
        },
    )
    assert by_id["text"] == alone[names[1]]
    assert [model["pid"] for model in small.runners()] == [pid]
