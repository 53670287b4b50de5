"""A hub of its own for each module: the real program, a storage folder, a free port."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import httpx
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("MLX_HUB_BINARY", str(ROOT / "build" / "mlx-hub"))
READY_SECONDS = 30
STOP_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Hub:
    """`mlx-hub serve` and a client of it."""

    def __init__(self, folder: pathlib.Path, *flags: str):
        self.folder = folder
        self.flags = flags
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None
        self.http = httpx.Client(base_url=self.url, timeout=300)

    def start(self) -> "Hub":
        self.folder.mkdir(parents=True, exist_ok=True)
        log = open(self.folder / "serve.log", "ab")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--port", str(self.port)]
            + ["--storage-base-path", str(self.folder / "storage"), *self.flags],
            stdout=log,
            stderr=log,
            cwd=self.folder,
        )
        log.close()
        deadline = time.monotonic() + READY_SECONDS
        while True:
            assert self.process.poll() is None, (self.folder / "serve.log").read_text()
            try:
                if self.http.get("/health/ready").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "the hub does not get ready"
            time.sleep(0.02)

    def stop(self, how: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.process.wait(STOP_SECONDS)
        self.process = None
        return status

    def ask(self, method: str, path: str, status: int, **kwargs):
        answer = self.http.request(method, path, **kwargs)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def detail(self, method: str, path: str, status: int, **kwargs) -> str:
        return self.ask(method, path, status, **kwargs)["detail"]

    def stream(self, body: dict):
        """The events of POST /inference/stream: (name, data)."""
        with self.http.stream("POST", "/inference/stream", json=body) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"] == "text/event-stream"
            yield from events(answer.iter_lines())

    def runners(self) -> list[dict]:
        return self.ask("GET", "/inference/cache", 200)["models"]


def events(lines):
    name = None
    for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


def text_of(stream) -> str:
    return "".join(data["token"] for name, data in stream if name == "token")


def wait_for(what, seconds: float = 60.0):
    """The first true value of what()."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


def children_of(pid: int) -> dict[int, str]:
    """The command lines of a process's children. Options of ps that every system's has."""
    out = subprocess.check_output(
        ["ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "args="], text=True
    )
    rows = (line.split(None, 2) for line in out.splitlines())
    return {int(row[0]): row[2] for row in rows if len(row) == 3 and int(row[1]) == pid}


@pytest.fixture(scope="session")
def model_file() -> str:
    """SmolLM2-135M-Instruct, fetched once."""
    return subprocess.check_output([ROOT / "scripts" / "fetch-model"], text=True).strip()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    hub = Hub(tmp_path_factory.mktemp("hub")).start()
    yield hub
    if hub.process is not None:
        hub.stop()


@pytest.fixture(scope="module")
def smollm(hub, model_file) -> dict:
    """A registered model on the real weights; module-wide."""
    hub.ask("POST", "/base-models/import", 201, json={"path": model_file, "as": "org/smollm2"})
    return hub.ask("POST", "/models", 201, json={"name": "smol", "base_model": "org/smollm2"})
