"""Start, stop and start again, with the real program."""

import json
import os
import pathlib
import signal
import subprocess
import threading

import httpx
import pytest

from conftest import BINARY, Hub, children_of, text_of, wait_for

ROWS = "".join(
    f'{{"messages":[{{"role":"user","content":"Who keeps number {i}?"}},'
    f'{{"role":"assistant","content":"Otto keeps number {i}."}}]}}\n'
    for i in range(12)
)
CONFIG = {
    "lora_rank": 4,
    "lora_alpha": 8,
    "max_steps": 3,
    "batch_size": 2,
    "max_seq_length": 64,
    "val_fraction": 0,
    "checkpoint_every": 1,
}


@pytest.fixture
def own(tmp_path):
    """A hub for one test, which may stop it and start it again."""
    hub = Hub(tmp_path / "hub").start()
    yield hub
    if hub.process is not None:
        hub.stop(signal.SIGKILL)


def test_a_restart_keeps_everything(own):
    model = own.ask("POST", "/models", 201, json={"name": "kept", "base_model": "org/x"})
    data = own.ask(
        "POST", "/datasets/upload", 201, params={"name": "rows"}, content=ROWS.encode()
    )
    assert data["rows"] == 12
    for how, status in ((signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -9)):
        assert own.stop(how) == status
        own.start()
        assert own.ask("GET", f"/models/{model['id']}", 200) == model
        assert own.ask("GET", "/datasets", 200) == [data]
        assert own.ask("POST", f"/datasets/{data['id']}/verify", 200)["valid"]


def test_a_command_says_that_the_hub_keeps_its_things_elsewhere(own, tmp_path):
    def warned(folder) -> bool:
        words = [BINARY, "list", "--port", str(own.port), "--storage-base-path", str(folder)]
        ran = subprocess.run(words, capture_output=True, text=True, check=True)
        return f"keeps its things in {own.folder / 'storage'}, not in {folder}" in ran.stderr

    assert warned(tmp_path / "another")
    assert not warned(own.folder / "storage")


def test_a_second_hub_names_the_first(own, tmp_path):
    second = subprocess.run(
        [BINARY, "serve", "--port", str(own.port + 1)]
        + ["--storage-base-path", str(own.folder / "storage")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=30,
    )
    assert second.returncode != 0
    assert "mlx-hub serve" in second.stderr
    assert str(own.process.pid) in second.stderr


def test_streams_are_finished_before_the_end(own, model_file):
    own.ask("POST", "/base-models/import", 201, json={"path": model_file, "as": "smol"})
    asked = {"model": "smol", "prompt": "Once upon a time", "max_tokens": 40, "seed": 1}
    whole = own.ask("POST", "/inference", 200, json=asked)["text"]
    stream = own.stream(asked)
    begun = [next(stream), next(stream)]
    status = []
    stopper = threading.Thread(target=lambda: status.append(own.stop()))
    stopper.start()
    rest = list(stream)
    stopper.join()
    assert text_of(begun + rest) == whole
    assert rest[-1][0] == "done"
    assert status == [0]


def is_gone(pid: int) -> bool:
    """Ended, whether or not somebody has asked how; ps tells on every system."""
    seen = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return seen.stdout.strip()[:1] in ("", "Z")


def test_children_die_with_the_hub(own, model_file):
    own.ask("POST", "/base-models/import", 201, json={"path": model_file, "as": "smol"})
    own.ask("POST", "/inference", 200, json={"model": "smol", "prompt": "x", "max_tokens": 1})
    pid = own.runners()[0]["pid"]
    own.stop(signal.SIGKILL)

    wait_for(lambda: is_gone(pid), seconds=10)


def job_body(own, model_file) -> dict:
    own.ask("POST", "/base-models/import", 201, json={"path": model_file, "as": "smol"})
    model = own.ask("POST", "/models", 201, json={"name": "otto", "base_model": "smol"})
    data = own.ask(
        "POST", "/datasets/upload", 201, params={"name": "rows"}, content=ROWS.encode()
    )
    return {"model_id": model["id"], "dataset_id": data["id"], "config": CONFIG}


def finished(own, job: dict):
    job = own.ask("GET", f"/training/jobs/{job['id']}", 200)
    assert job["status"] != "failed", job["error_message"]
    return job if job["status"] == "completed" else None


def test_a_job_is_trained_and_its_version_answers(own, model_file):
    body = job_body(own, model_file)
    job = own.ask("POST", "/training/jobs", 201, json=body)
    seen = set()
    with own.http.stream("GET", f"/training/jobs/{job['id']}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                seen.add(line[7:])
    assert {"status", "step", "loss"} <= seen
    job = finished(own, job)
    version = own.ask("GET", f"/models/{body['model_id']}/versions", 200)[0]
    assert version["id"] == job["model_version_id"]
    assert version["status"] == "ready"
    wait_for(lambda: not (own.folder / "storage" / "checkpoints" / job["id"]).exists())  # soon after
    subprocess.run(
        ["sha256sum", "-c", "checksum.sha256"],
        cwd=version["artifact_path"],
        check=True,
        capture_output=True,
    )
    asked = {"model_id": body["model_id"], "prompt": "Who", "max_tokens": 4, "temperature": 0}
    answer = own.ask("POST", "/inference", 200, json=asked)
    assert answer["version_id"] == version["id"]
    own.stop()
    own.start()
    again = own.ask("POST", "/inference", 200, json=asked)
    assert again["text"] == answer["text"]
    assert "published" in own.http.get(f"/training/jobs/{job['id']}/logs").text


def workers_of(own) -> list[int]:
    """Pids of the hub's children that train."""
    children = children_of(own.process.pid)
    return [pid for pid, line in children.items() if " worker " in line + " "]


def test_a_job_survives_its_worker_and_its_hub(own, model_file):
    body = job_body(own, model_file)
    whole = own.ask("POST", "/training/jobs", 201, json=body)
    wait_for(lambda: finished(own, whole), seconds=180)
    body["config"] = {**CONFIG, "log_every": 1}
    job = own.ask("POST", "/training/jobs", 201, json=body)
    running = lambda: own.ask("GET", f"/training/jobs/{job['id']}", 200)["progress"]["step"] >= 1
    wait_for(running, seconds=120)
    for pid in workers_of(own):
        os.kill(pid, signal.SIGKILL)
    own.stop(signal.SIGKILL)
    own.start()
    wait_for(lambda: finished(own, job), seconds=180)
    one, two = own.ask("GET", f"/models/{body['model_id']}/versions", 200)
    assert one["checksum"] == two["checksum"]


def is_known(pid: int) -> bool:
    """Whether the system still has it, be it only to tell how it ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_on_its_own_takes_up_what_was_left(own, model_file):
    body = job_body(own, model_file)
    body["config"] = {**CONFIG, "max_steps": 8, "log_every": 1}
    job = own.ask("POST", "/training/jobs", 201, json=body)
    wait_for(lambda: own.ask("GET", f"/training/jobs/{job['id']}", 200)["progress"]["step"] >= 1)
    pids = workers_of(own)
    own.stop(signal.SIGKILL)
    wait_for(lambda: not any(is_known(pid) for pid in pids))
    done = subprocess.run(
        [BINARY, "worker", "--once", "--json", "--storage-base-path", str(own.folder / "storage")],
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    assert json.loads(done.stdout) == {"jobs": 1}
    own.start()
    assert finished(own, job)


def test_a_damaged_adapter_does_not_answer(own, model_file):
    body = job_body(own, model_file)
    job = own.ask("POST", "/training/jobs", 201, json=body)
    wait_for(lambda: finished(own, job), seconds=180)
    version = own.ask("GET", f"/models/{body['model_id']}/versions", 200)[0]
    adapter = pathlib.Path(version["artifact_path"]) / "adapter.safetensors"
    whole = adapter.read_bytes()
    asked = {"model_id": body["model_id"], "prompt": "Who", "max_tokens": 4}
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    adapter.write_bytes(flipped)
    assert "SHA-256" in own.detail("POST", "/inference", 409, json=asked)
    adapter.unlink()
    assert "cannot be read" in own.detail("POST", "/inference", 409, json=asked)
    adapter.write_bytes(whole)
    own.ask("POST", "/inference", 200, json=asked)


def test_a_foreign_page_is_kept_out(own):
    answer = httpx.get(own.url + "/models", headers={"Host": "evil.example"})
    assert answer.status_code == 403
    answer = httpx.post(own.url + "/models", headers={"Origin": "http://evil.example"}, json={})
    assert answer.status_code == 403
