"""Many short requests of every kind, some of them dropped in the middle, against a hub of its own.

Nothing may be left behind: no session, no place in the queue, no descriptor, no memory beyond what
the first fifth of the requests took. Run as a program by scripts/soak-inference; a short one is part
of the tests (test_soak.py).
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import random
import sys
import tempfile
import time

import httpx

from conftest import ROOT, Hub, wait_for

TINY = ROOT / "tests" / "fixtures" / "train" / "base"
CONCURRENCY = 16
SAMPLES = 10
WARM = 0.2  # of the requests come before the first sample
PSS_FACTOR, PSS_SLACK = 1.10, 8 << 20
DESCRIPTORS_SLACK = CONCURRENCY + 8  # connections come and go
ADAPTER = {"lora_rank": 2, "lora_alpha": 4, "max_steps": 2, "batch_size": 2,
           "max_seq_length": 64, "val_fraction": 0}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]{1,5}$"},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age"],
}


class Leak(Exception):
    """Something grew that must not."""


def train(hub: Hub, model: dict, rows: str, name: str) -> None:
    """One more version of the model."""
    path = "/datasets/upload"
    data = hub.ask("POST", path, 201, params={"name": name}, content=rows.encode())
    job = hub.ask("POST", "/training/jobs", 201, json={
        "model_id": model["id"], "dataset_id": data["id"], "config": ADAPTER})
    url = f"/training/jobs/{job['id']}"
    wait_for(lambda: hub.ask("GET", url, 200)["status"] == "completed", seconds=120)


def prepare(hub: Hub, base: str) -> list[str]:
    """Imports the base and trains two adapters on it; what requests may name."""
    hub.ask("POST", "/base-models/import", 201, json={"path": base, "as": "soak/base"})
    model = hub.ask("POST", "/models", 201, json={"name": "soak", "base_model": "soak/base"})
    for k in range(2):
        rows = "".join(f'{{"prompt":"Say {i}","completion":"{i * (k + 1)}"}}\n' for i in range(8))
        train(hub, model, rows, f"rows{k}")
    versions = hub.ask("GET", f"/models/{model['id']}/versions", 200)
    return ["soak/base", *(f"soak@{version['version']}" for version in versions)]


def request_of(rng: random.Random, names: list[str], model_id: str) -> tuple[str, dict]:
    """A path and its body."""
    words = " ".join(rng.choice(["sun", "rain", "tea", "oak", "sea"]) for _ in range(
        rng.randrange(1, 24)))
    tokens = rng.randrange(1, 24)
    chat = [{"role": "user", "content": words}]
    openai = {"model": rng.choice(names), "max_tokens": tokens, "seed": rng.randrange(1 << 30),
              "temperature": rng.choice([0, 1.0]), "stream": rng.random() < 0.6}
    ollama = {"model": rng.choice(names), "stream": rng.random() < 0.6,
              "options": {"num_predict": tokens, "seed": rng.randrange(1 << 30)}}
    hub = {"model_id": model_id, "prompt": words, "max_tokens": tokens}
    kind = rng.randrange(10)
    if kind == 0:
        schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
        return "/v1/chat/completions", {**openai, "messages": chat, "response_format": schema}
    if kind == 1:
        return "/api/chat", {**ollama, "messages": chat, "format": SCHEMA}
    if kind == 2:
        return "/v1/completions", {**openai, "prompt": [words, words[::-1]], "logprobs": 1,
                                   "echo": True}
    if kind == 3:
        return "/v1/chat/completions", {**openai, "messages": chat, "n": rng.randrange(1, 4)}
    if kind == 4:
        return "/v1/embeddings", {"model": openai["model"], "input": [words, "x"]}
    if kind == 5:
        return "/tokenize", {"model": openai["model"], "content": words}
    if kind == 6:
        return rng.choice(["/inference", "/inference/stream"]), hub
    if kind == 7:
        return "/api/generate", {**ollama, "prompt": words}
    if kind == 8:
        return "/v1/completions", {**openai, "prompt": words}
    return "/v1/chat/completions", {**openai, "messages": chat}


def ask_one(client: httpx.Client, seed: int, names: list[str], model_id: str) -> str:
    """Sends one request and reads all of the answer, or only its beginning; the outcome."""
    rng = random.Random(seed)
    path, body = request_of(rng, names, model_id)
    leaves = rng.random() < 0.3
    patience = rng.choice([0.001, 0.01, 0.05]) if leaves and rng.random() < 0.3 else 120
    lines = rng.randrange(1, 5)
    try:
        with client.stream("POST", path, json=body, timeout=patience) as answer:
            if answer.status_code == 429:
                return "429"
            if answer.status_code != 200:
                raise Leak(f"{path} {json.dumps(body)}: {answer.status_code} {answer.read()!r}")
            for _ in answer.iter_lines():
                lines -= 1
                if leaves and lines <= 0:
                    return "left"
    except httpx.TimeoutException:
        if patience < 1:
            return "left"
        raise
    return "ok"


def usage_of(pid: int) -> dict | None:
    """Proportional memory and open descriptors of a process; None where /proc does not tell."""
    folder = pathlib.Path(f"/proc/{pid}")
    try:
        rollup = (folder / "smaps_rollup").read_text()
        pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        return {"pss": pss << 10, "descriptors": len(list((folder / "fd").iterdir()))}
    except FileNotFoundError:
        return None


def metric(hub: Hub, name: str) -> float:
    for line in hub.http.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise Leak(f"no metric is named {name}")


def at_rest(hub: Hub) -> dict:
    """Waits until nothing is asked any more, then looks at what is in use."""
    def rests() -> bool:
        return (sum(model["active_requests"] for model in hub.runners()) == 0
                and metric(hub, "inference_queue_depth") == 0)
    try:
        wait_for(rests, seconds=60)
    except AssertionError:
        raise Leak(f"requests are left: {hub.runners()}, queue "
                   f"{metric(hub, 'inference_queue_depth')}") from None
    runners = hub.runners()
    return {"serve": usage_of(hub.process.pid), "pids": [model["pid"] for model in runners],
            "runner": usage_of(runners[0]["pid"])}


def compare(first: dict, last: dict) -> None:
    """Raises Leak when more is in use than at first."""
    if first["pids"] != last["pids"]:
        raise Leak(f"runners {first['pids']} became {last['pids']}: one has ended")
    for process in ("serve", "runner"):
        if first[process] is None:
            continue
        before, after = first[process], last[process]
        if after["pss"] > before["pss"] * PSS_FACTOR + PSS_SLACK:
            raise Leak(f"memory of {process} grew from {before['pss']} to {after['pss']} bytes")
        if after["descriptors"] > before["descriptors"] + DESCRIPTORS_SLACK:
            raise Leak(f"descriptors of {process} grew from {before['descriptors']} to "
                       f"{after['descriptors']}")


def soak(hub: Hub, base: str, n: int, seed: int = 1, tell=None) -> dict:
    """Asks n times; what was in use at each sample. Raises Leak."""
    names = prepare(hub, base)
    model_id = hub.ask("GET", "/models", 200)["items"][0]["id"]
    outcomes = collections.Counter()
    samples = []
    done = 0
    parts = [int(n * WARM)]
    parts += [(n - parts[0]) // SAMPLES] * SAMPLES
    parts[-1] += n - sum(parts)
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    started = time.monotonic()
    with httpx.Client(base_url=hub.url, limits=limits) as client, \
            concurrent.futures.ThreadPoolExecutor(CONCURRENCY) as pool:
        for part in parts:
            seeds = range(seed * 1_000_000 + done, seed * 1_000_000 + done + part)
            outcomes.update(pool.map(lambda s: ask_one(client, s, names, model_id), seeds))
            done += part
            samples.append(at_rest(hub))
            if tell is not None:
                tell(done, time.monotonic() - started, samples[-1], outcomes)
    compare(samples[0], samples[-1])
    return {"outcomes": outcomes, "samples": samples}


def print_line(done: int, seconds: float, sample: dict, outcomes) -> None:
    parts = []
    for process in ("serve", "runner"):
        if sample[process] is not None:
            usage = sample[process]
            parts.append(f"{process} {usage['pss'] / 1e6:.1f} MB {usage['descriptors']} fds")
    print(f"{done:6} requests, {seconds:6.0f} s: {', '.join(parts)}, 0 sessions, queue 0; "
          f"{dict(outcomes)}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak-inference", description=__doc__)
    parser.add_argument("requests", nargs="?", type=int, default=10_000)
    parser.add_argument("base", nargs="?", default=str(TINY),
                        help="a file or folder of weights, a tiny one of the tests' unless given")
    asked = parser.parse_args()
    n, base = asked.requests, asked.base
    with tempfile.TemporaryDirectory() as folder:
        hub = Hub(pathlib.Path(folder) / "hub", "--prefix-cache-mb", "8").start()
        try:
            soak(hub, base, n, tell=print_line)
        except Leak as leak:
            print(f"soak: {leak}", file=sys.stderr)
            return 1
        finally:
            hub.stop()
    print("soak: memory, descriptors, sessions and the queue stayed flat")
    return 0


if __name__ == "__main__":
    sys.exit(main())
