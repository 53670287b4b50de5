"""Jobs of every kind that writes, disturbed: every write, rename and fsync kills its worker, and fails
as on a full disk; then kills at random instants. What is there afterwards is whole or nothing, the job
goes on or says why not, and a retry gives the bytes of an undisturbed run."""

import os
import pathlib
import random
import signal
import shutil
import subprocess
import tempfile
import time

import pytest

from conftest import BINARY, ROOT, Hub

FIXTURES = ROOT / "tests" / "fixtures" / "train"
KINDS = ("write", "rename", "fsync")
KILLED = 137
CALLS_MAX = 400
KILLS = 20


class Writer:
    """A kind of job, on a hub whose only workers are those that a test starts."""

    def __init__(self, hub, path: str, body: dict):
        self.hub, self.path, self.body = hub, path, body
        self.job = None

    def queue(self):
        self.job = self.hub.ask("POST", self.path, 202, json=self.body)["id"]

    def again(self):
        """Once more, after a job that failed: its worker may have ended between the last write and
        the word that it was done, so what it wrote can be there."""
        self.queue()

    def row(self) -> dict:
        return self.hub.ask("GET", f"/training/jobs/{self.job}", 200)

    def start(self, fault: str | None = None) -> subprocess.Popen:
        words = [BINARY, "worker", "--once", "--storage-base-path", self.hub.folder / "storage"]
        env = {**os.environ, "MLX_HUB_THREADS": "1"}
        if fault:
            env["MLX_HUB_FAULT"] = fault
        log = open(self.hub.folder / "worker.log", "ab")
        return subprocess.Popen(words, env=env, stdout=log, stderr=log)

    def work(self, fault: str | None = None) -> int:
        return self.start(fault).wait(60)

    def sha256(self) -> str:
        """Of what was made."""
        return self.row()["result"]["sha256"]

    def end(self) -> str:
        """What a worker that nothing disturbs makes; of a retry, where the job failed."""
        if self.row()["status"] == "failed":
            self.again()
        assert self.work() == 0
        row = self.row()
        assert row["status"] == "completed", row["error_message"]
        return self.sha256()


class Quantising(Writer):
    name = "tiny-q"

    def look(self, want: str):
        """The base that is asked for is whole, or is not there."""
        answer = self.hub.http.get(f"/base-models/{self.name}")
        assert answer.status_code in (200, 404)
        assert answer.status_code == 404 or answer.json()["sha256"] == want

    def again(self):
        if self.hub.http.get(f"/base-models/{self.name}").status_code == 200:
            self.forget()
        self.queue()

    def leftovers(self) -> list[pathlib.Path]:
        storage = self.hub.folder / "storage"
        found = [*(storage / "cache").glob("quantize-*"), *(storage / "cache").glob(".quantize-*")]
        return found + [*(storage / "blobs" / "sha256").glob("incoming-*")]

    def forget(self):
        self.hub.ask("DELETE", f"/base-models/{self.name}", 204)


class Exporting(Writer):
    def look(self, want: str):
        """An export has its name once all of it is there."""
        folder = self.hub.folder / "storage" / "artifacts" / "exports" / self.job
        if folder.exists() and self.row()["status"] != "completed":
            assert {p.name for p in folder.iterdir()} == self.names

    def leftovers(self) -> list[pathlib.Path]:
        return [*(self.hub.folder / "storage" / "artifacts" / "exports").glob(".*")]

    def forget(self):
        pass


class Training(Writer):
    """Each run makes a version of its own, of the same bytes."""

    def queue(self):
        self.job = self.hub.ask("POST", self.path, 201, json=self.body)["id"]

    def again(self):
        self.job = self.hub.ask("POST", f"/training/jobs/{self.job}/resume", 201)["id"]

    def version(self) -> dict:
        name = self.row()["model_version_id"]
        return self.hub.ask("GET", f"/models/{self.body['model_id']}/versions/{name}", 200)

    def look(self, want: str):
        """A version's folder has its name once all of it is there."""
        if self.row()["model_version_id"]:
            path = self.version()["artifact_path"]
            assert path is None or check_sums(path)

    def sha256(self) -> str:
        assert check_sums(self.version()["artifact_path"])
        return self.version()["checksum"]

    def leftovers(self) -> list[pathlib.Path]:
        storage = self.hub.folder / "storage"
        return [*(storage / "models" / "talker" / "versions").glob(".*")]

    def forget(self):
        pass


def check_sums(folder: str) -> bool:
    words = ["sha256sum", "--quiet", "-c", "checksum.sha256"]
    return subprocess.run(words, cwd=folder).returncode == 0


@pytest.fixture(scope="module")
def idle():
    """A hub without workers of its own, with a tiny base and a version of it; in memory where that
    can be, since hundreds of workers flush what they write."""
    memory = pathlib.Path("/dev/shm")
    folder = pathlib.Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    hub = Hub(folder, "--workers", "0").start()
    hub.ask("POST", "/base-models/import", 201, json={"path": str(FIXTURES / "base"), "as": "tiny"})
    model = hub.ask("POST", "/models", 201, json={"name": "talker", "base_model": "tiny"})
    rows = (FIXTURES / "dataset.jsonl").read_bytes()
    data = hub.ask("POST", "/datasets/upload", 201, params={"name": "rows"}, content=rows)
    config = {"max_steps": 2, "lora_rank": 2, "max_seq_length": 64}
    body = {"model_id": model["id"], "dataset_id": data["id"], "config": config}
    train = Writer(hub, "/training/jobs", body)
    train.job = hub.ask("POST", "/training/jobs", 201, json=body)["id"]
    assert train.work() == 0
    hub.version = f"/models/{model['id']}/versions/1.0.0"
    hub.body = body
    yield hub
    hub.stop()
    shutil.rmtree(folder)


def quantising(hub) -> Writer:
    return Quantising(hub, "/base-models/tiny/quantize", {"as": Quantising.name, "group_size": 32})


def exporting(hub, body: dict) -> Writer:
    return Exporting(hub, hub.version + "/export", body)


def make(hub, what: str) -> Writer:
    config = {"max_steps": 3, "lora_rank": 2, "max_seq_length": 64, "checkpoint_every": 1,
              "checkpoints_kept": 1, "eval_every": 2}
    return {
        "train": lambda: Training(hub, "/training/jobs", {**hub.body, "config": config}),
        "quantize": lambda: quantising(hub),
        "peft": lambda: exporting(hub, {"format": "peft"}),
        "merged": lambda: exporting(hub, {"format": "safetensors"}),
    }[what]()


def undisturbed(writer: Writer) -> str:
    writer.queue()
    want = writer.end()
    writer.names = {file["name"] for file in (writer.row()["result"] or {}).get("files", [])}
    writer.forget()
    return want


def others(hub) -> list:
    """What no job here has anything to do with."""
    assert check_sums(hub.ask("GET", hub.version, 200)["artifact_path"])
    asked = {"model": "talker", "prompt": "a", "max_tokens": 4, "temperature": 0}
    return [hub.ask("POST", "/v1/completions", 200, json=asked)["choices"][0]["text"]]


@pytest.mark.parametrize("what", ["train", "quantize", "peft", "merged"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_call_fails_and_kills(idle, what, kind):
    writer = make(idle, what)
    want = undisturbed(writer)
    before = others(idle)
    fired = True
    n = 0
    while fired:
        n += 1
        assert n < CALLS_MAX
        writer.queue()
        fired = writer.work(f"crash-{kind}:{n}") == KILLED
        writer.look(want)
        assert writer.row()["status"] in ("queued", "running", "completed")
        if writer.row()["status"] != "completed":
            assert writer.end() == want
        assert writer.leftovers() == []
        writer.forget()
    for nth in range(1, n):
        writer.queue()
        writer.work(f"{kind}:{nth}")
        writer.look(want)
        row = writer.row()
        if row["status"] == "failed":
            assert row["error_message"].split(";")[-1].strip().startswith(("free some", "see whether"))
        if row["status"] != "completed":
            assert writer.end() == want
        assert writer.leftovers() == []
        writer.forget()
    assert others(idle) == before
    print(what, kind, n - 1)


@pytest.mark.parametrize("what", ["train", "quantize", "merged"])
def test_killed_at_random_instants(idle, what):
    writer = make(idle, what)
    began = time.monotonic()
    want = undisturbed(writer)
    whole = time.monotonic() - began
    numbers = random.Random(7)
    writer.queue()
    for _ in range(KILLS):
        process = writer.start()
        try:
            process.wait(numbers.random() * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        writer.look(want)
        row = writer.row()
        if row["status"] == "failed":
            assert "The worker ended" in row["error_message"]
            writer.again()
        elif row["status"] == "completed":
            assert writer.sha256() == want
            writer.forget()
            writer.queue()
    assert writer.end() == want
    assert writer.leftovers() == []
    writer.forget()
