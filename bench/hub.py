"""What a client sees at the socket: the hub against llama-server, and against fixed limits."""
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from measure import ROOT, Failed, Work, last_json, limit, pss_mb, row, run, take_turns

READY_SECONDS = 120
NAME = "bench"
# What the targets name of peers that this repository cannot install.
PYTHON_HUB_REQUESTS_PER_S = 151
STREAM = {"temperature": 0, "stream": True, "stream_options": {"include_usage": True}}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port, method, path, body=None, wanted=(200, 201)):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None,
                           {"Content-Type": "application/json"} if body is not None else {})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status not in wanted:
        raise Failed(f"{method} {path}: {answer.status} {text[:300]!r}")
    return json.loads(text) if text else None


class Server:
    """A server process; ready once `path` answers 200."""

    def __init__(self, command, path, port, cwd=ROOT):
        self.port = port
        self.log = tempfile.TemporaryFile(mode="w+")
        self.started = time.perf_counter()
        self.process = subprocess.Popen([str(word) for word in command], cwd=cwd, stdout=self.log,
                                        stderr=self.log, text=True)
        self.wait(path)
        self.ready_seconds = time.perf_counter() - self.started

    def wait(self, path):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self.log.seek(0)
                raise Failed(f"the server ended: {self.log.read()[-800:]}")
            with contextlib.suppress(OSError, Failed, http.client.HTTPException):
                ask(self.port, "GET", path)
                return
            time.sleep(0.001)
        raise Failed("the server does not get ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


@contextlib.contextmanager
def storage(context, path=None):
    """A storage folder, with the model file imported and registered when there is one."""
    folder = tempfile.mkdtemp(prefix="storage-", dir=ROOT / ".cache")
    try:
        if path is not None:
            with our_server(context, folder) as server:
                ask(server.port, "POST", "/base-models/import", {"path": str(path), "as": NAME})
                ask(server.port, "POST", "/models", {"name": NAME, "base_model": NAME})
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def our_server(context, folder, *flags):
    port = free_port()
    return Server(["build/mlx-hub", "serve", "--port", port, "--storage-base-path", folder,
                   "--mlx-hub-threads", context.threads, *flags], "/health/ready", port)


def llama_server(context, path, *flags):
    program = run(["bench/llama_server"]).strip().splitlines()[-1]
    port = free_port()
    return Server([program, "-m", path, "-t", context.threads, "-tb", context.threads,
                   "--host", "127.0.0.1", "--port", port, "--no-webui", *flags], "/health", port)


def load(port, path, bodies, clients=1, requests=1, method="POST"):
    """bench_http's figures."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for body in bodies:
            file.write(json.dumps(body) + "\n")
        file.flush()
        command = ["build/bench_http", port, method, path, f"clients={clients}", f"requests={requests}"]
        return last_json(run(command + ([f"bodies={file.name}"] if bodies else [])))


def no_end(port, ours):
    """Keys that keep an answer from ending before max_tokens."""
    return {"ignore_eos": True} if not ours else {"logit_bias": {str(i): -100 for i in (0, 2)}}


TOPICS = ("the sea", "a clock", "winter", "bread", "a bridge", "mountains", "a letter", "the moon")


def eight_streams(context):
    """Eight streams of 64 tokens each, all at once: tokens/s of all together."""

    def total(server, ours, n, salt):
        bodies = [{"model": NAME, "prompt": f"{salt}. Write a long story about {TOPICS[i]}.",
                   "max_tokens": 64, **STREAM, **no_end(server.port, ours)} for i in range(n)]
        figures = load(server.port, "/v1/completions", bodies, clients=n)
        if figures["tokens"] != 64 * n:
            raise Failed(f"{figures['tokens']} tokens instead of {64 * n}")
        return figures["tokens"] / figures["seconds"]

    with storage(context, context.model) as folder, our_server(context, folder) as ours, \
            llama_server(context, context.model, "-c", 8 * 1024, "-np", 8) as peer:
        count = iter(range(1000))
        for n, name, target in ((8, "eight", 3.0), (1, "one", None)):
            total(ours, True, n, next(count))
            total(peer, False, n, next(count))
            mine, theirs = take_turns(context, lambda: total(ours, True, n, next(count)),
                                      lambda: total(peer, False, n, next(count)))
            yield row("socket-streams", name, "llama-server", "tok/s", target, mine, theirs)


def cached_first(context):
    """Time to the first token of a prompt that was asked before, at the socket."""
    with storage(context, context.model) as folder, our_server(context, folder) as ours, \
            llama_server(context, context.model, "-c", 4096, "-np", 1) as peer:

        def body(server, mine, n):
            return {"model": NAME, "prompt": "Tell me all that you know about the sea. " * 12,
                    "max_tokens": n, "cache_prompt": True, **STREAM, **no_end(server.port, mine)} \
                if not mine else {"model": NAME, "prompt": "Tell me all that you know about the sea. " * 12,
                                  "max_tokens": n, **STREAM, **no_end(server.port, mine)}

        def first(server, mine):
            return load(server.port, "/v1/completions", [body(server, mine, 4)], requests=5)["first_p50_ms"]

        def step():
            figures = load(ours.port, "/v1/completions", [body(ours, True, 64)])
            return (figures["p50_ms"] - figures["first_p50_ms"]) / 63

        def ours_and_bound():
            bounds.append(step() + 1.0)  # of the same moment
            return first(ours, True)

        bounds = []
        first(ours, True)
        first(peer, False)
        mine, theirs = take_turns(context, ours_and_bound, lambda: first(peer, False))
    return [row("socket-first-cached", "llama-server", "llama-server", "ms", None, mine, theirs, less=True),
            row("socket-first-cached", "step-plus-1ms", "one decode step + 1 ms", "ms", 1.0, mine, bounds,
                less=True)]


def first_7b(context):
    """Time to the first token of a new prompt of 128 tokens, 7B in four bits."""
    path = context.made("7b-q4_0")
    words = ("river", "stone", "light", "paper", "cloud", "glass", "wheel", "green")

    def prompt(salt):
        # Words of one token each, in an order that no other prompt begins with.
        return " ".join(words[(salt >> (3 * (i % 5)) ^ i * 5) % 8] for i in range(128))

    count = iter(range(1, 10000, 37))

    def first(server):
        body = {"model": NAME, "prompt": prompt(next(count)), "max_tokens": 1, "temperature": 0}
        return load(server.port, "/v1/completions", [body])["p50_ms"]

    with storage(context, path) as folder, our_server(context, folder, "--context-length", 1024) as ours, \
            llama_server(context, path, "-c", 1024, "-np", 1) as peer:
        first(ours)
        first(peer)
        mine, theirs = take_turns(context, lambda: first(ours), lambda: first(peer))
    return [row("socket-first-7b", "128", "llama-server", "ms", 1.3, mine, theirs, less=True)]


def ready(context):
    """From the start of the program to the first token: the first time, and with the pack file."""
    first, packed, theirs, memory = [], [], [], []

    def loaded(folder):
        with our_server(context, folder) as server:
            ask(server.port, "POST", "/v1/completions", {"model": NAME, "prompt": "A", "max_tokens": 1})
            took = time.perf_counter() - server.started
            memory.append(pss_mb(server.process.pid))
            return took

    for _ in range(context.rounds):
        with storage(context, context.model) as folder:
            first.append(loaded(folder))
            packed.append(loaded(folder))
        with llama_server(context, context.model, "-c", 4096, "-np", 1) as peer:
            theirs.append(peer.ready_seconds)
            peer_memory = pss_mb(peer.process.pid)
    return [limit("ready", "first-start", "s", 1.0, first), limit("ready", "pack-file", "s", 0.2, packed),
            row("ready", "llama-server", "llama-server", "s", None, packed, theirs, less=True),
            row("ready", "memory", "llama-server", "MB", None, memory[1::2],
                [peer_memory] * len(packed), less=True)]


def start(context):
    """The hub alone: from the start of the program to its first answer, and what it then holds."""
    seconds, memory = [], []
    with storage(context) as folder:
        our_server(context, folder).__exit__()  # makes the database
        for _ in range(max(5, context.rounds)):
            with our_server(context, folder) as server:
                seconds.append(server.ready_seconds * 1e3)
                time.sleep(0.5)
                memory.append(pss_mb(server.process.pid))
    return [limit("hub", "first-answer", "ms", 50.0, seconds), limit("hub", "idle-memory", "MB", 15.0, memory)]


def many_models(context):
    """GET /models with 20 models and eight clients on kept connections."""
    rates, p99 = [], []
    with storage(context, context.model) as folder, our_server(context, folder) as server:
        for i in range(19):
            ask(server.port, "POST", "/models", {"name": f"model-{i}", "base_model": NAME})
        load(server.port, "/models", [], 8, 200, "GET")
        for _ in range(context.rounds):
            figures = load(server.port, "/models", [], 8, 4000, "GET")
            rates.append(figures["requests"] / figures["seconds"])
            p99.append(figures["p99_ms"])
    return [limit("get-models", "rate", "req/s", PYTHON_HUB_REQUESTS_PER_S, rates, less=False, target=50.0),
            limit("get-models", "p99", "ms", 5.0, p99)]


WORKS = [
    Work("socket-streams", "inference", eight_streams),
    Work("socket-first-cached", "inference", cached_first),
    Work("socket-first-7b", "inference", first_7b, quick=False),
    Work("ready", "inference", ready),
    Work("hub", "inference", start),
    Work("get-models", "inference", many_models),
]
