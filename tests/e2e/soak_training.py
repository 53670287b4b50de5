"""Training jobs one after another: memory, descriptors and disk stay flat between jobs.

usage: soak_training.py [--hours N] [MODEL], run by scripts/soak-training. SOAK_SECONDS sets the time
(600). A round is a model with a job of each kind below; then the model is deleted, so that what a
round leaves is a leak. The first quarter of the rounds warms caches up and is not judged.
"""

import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

from conftest import ROOT, Hub, children_of, wait_for

TINY = ROOT / "tests" / "fixtures" / "train" / "base"
BASE = {"lora_rank": 4, "max_steps": 6, "batch_size": 2, "max_seq_length": 96, "log_every": 1}
KINDS = {  # name: (config, how it ends)
    "plain": ({"val_fraction": 0, "checkpoint_every": 2}, "completed"),
    "dropout": ({"lora_dropout": 0.1, "lora_targets": "all-linear"}, "completed"),
    "validated": ({"val_fraction": 0.2, "eval_every": 2, "early_stopping_patience": 2}, "completed"),
    "qlora": ({"quantization": "4bit"}, "completed"),
    "diverging": ({"learning_rate": 1.0, "max_grad_norm": 0, "max_steps": 60}, None),
    "cancelled": ({"max_steps": 100000, "learning_rate": 1e-6}, "cancelled"),
}
ROWS = "".join(
    json.dumps({"prompt": f"Who keeps number {i}?", "completion": f"Otto keeps {i}."}) + "\n"
    for i in range(24)
)
ROUNDS_MIN = 8
LIMITS = {  # what may be added to the first judged quarter: a share, and so much besides
    "pss_mb": (0.03, 2.0),
    "descriptors": (0.0, 2.0),
    "disk_mb": (0.03, 1.0),
}


def family(pid: int) -> list[int]:
    return [pid, *children_of(pid)]


def pss_mb(pid: int) -> float:
    try:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next(int(l.split()[1]) for l in text.splitlines() if l.startswith("Pss:")) / 1024


def descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def disk_mb(folder: pathlib.Path) -> float:
    """Without the database's write-ahead log, whose size is SQLite's own business."""
    files = [f for f in folder.rglob("*") if f.is_file() and not f.name.endswith(("-wal", "-shm"))]
    return sum(f.stat().st_size for f in files) / 1e6


def measure(hub: Hub) -> dict:
    pids = family(hub.process.pid)
    return {
        "pss_mb": sum(map(pss_mb, pids)),
        "descriptors": sum(map(descriptors, pids)),
        "disk_mb": disk_mb(hub.folder / "storage"),
    }


def run_job(hub: Hub, body: dict, kind: str) -> dict:
    config, expected = KINDS[kind]
    body = {**body, "config": {**BASE, **config}}
    job = hub.ask("POST", "/training/jobs", 201, json=body)
    path = f"/training/jobs/{job['id']}"
    if expected == "cancelled":
        wait_for(lambda: hub.ask("GET", path, 200)["progress"]["step"] > 0, 600)
        hub.ask("POST", f"{path}/cancel", 200)
    done = ("completed", "failed", "cancelled")
    job = wait_for(lambda: (j := hub.ask("GET", path, 200))["status"] in done and j, 3600)
    if expected is not None and job["status"] != expected:
        sys.exit(f"soak-training: the {kind} job is {job['status']}: {job['error_message']}")
    return job


def run_round(hub: Hub, dataset: str, float_base: bool) -> int:
    model = hub.ask("POST", "/models", 201, json={"name": "soak", "base_model": "base"})
    body = {"model_id": model["id"], "dataset_id": dataset}
    jobs = 0
    for kind in KINDS:
        if kind == "qlora" and not float_base:
            continue
        job = run_job(hub, body, kind)
        jobs += 1
        if kind == "plain":
            path = f"/models/{model['id']}/versions/{job['model_version_id']}"
            for what, more in (("evaluate", {"dataset_id": dataset}), ("reproduce", {})):
                task = hub.ask("POST", f"{path}/{what}", 202, json=more)
                url = f"/training/jobs/{task['id']}"
                done = lambda: hub.ask("GET", url, 200)["status"]
                wait_for(lambda: done() not in ("queued", "running"), 600)
                if done() != "completed":
                    sys.exit(f"soak-training: {what}: {hub.ask('GET', url, 200)['error_message']}")
                jobs += 1
    hub.ask("DELETE", f"/models/{model['id']}", 204)
    return jobs


def verdict(series: list[dict]) -> list[str]:
    """Why it grew, one line for each thing that did."""
    quarter = max(len(series) // 4, 1)
    first, last = series[quarter : 2 * quarter], series[-quarter:]
    reasons = []
    for name, (share, more) in LIMITS.items():
        before = statistics.median(s[name] for s in first)
        after = statistics.median(s[name] for s in last)
        if after > before * (1 + share) + more:
            reasons.append(f"{name} grew from {before:.1f} to {after:.1f}")
    return reasons


def table(series: list[dict]) -> None:
    step = max(len(series) // 12, 1)
    print(f"{'rounds':>7} {'jobs':>6} {'PSS MB':>8} {'fds':>5} {'disk MB':>8}")
    shown = series[::step] + ([series[-1]] if (len(series) - 1) % step else [])
    most = max(s["pss_mb"] for s in series)
    for s in shown:
        bar = "#" * int(30 * s["pss_mb"] / most)
        print(
            f"{s['round']:7d} {s['jobs']:6d} {s['pss_mb']:8.1f} {s['descriptors']:5d} "
            f"{s['disk_mb']:8.2f}  {bar}"
        )


def soak(hub: Hub, model: str, seconds: float) -> list[dict]:
    base = hub.ask("POST", "/base-models/import", 201, json={"path": model, "as": "base"})
    data = hub.ask("POST", "/datasets/upload", 201, params={"name": "rows"}, content=ROWS.encode())
    float_base = base["quantization"][0] in "FB"
    series: list[dict] = []
    jobs, begun = 0, time.monotonic()
    while time.monotonic() - begun < seconds or len(series) < ROUNDS_MIN:
        jobs += run_round(hub, data["id"], float_base)
        series.append({"round": len(series) + 1, "jobs": jobs, **measure(hub)})
    return series


def main() -> None:
    words = sys.argv[1:]
    seconds = float(os.environ.get("SOAK_SECONDS", "600"))
    if words[:1] == ["--hours"]:
        seconds, words = float(words[1]) * 3600, words[2:]
    model = words[0] if words else str(TINY)
    with tempfile.TemporaryDirectory() as folder:
        hub = Hub(pathlib.Path(folder) / "hub").start()
        try:
            series = soak(hub, str(pathlib.Path(model).resolve()), seconds)
        finally:
            hub.stop()
    table(series)
    reasons = verdict(series)
    if reasons:
        sys.exit("soak-training: " + "; ".join(reasons))
    print(f"flat: {series[-1]['jobs']} jobs in {len(series)} rounds")


if __name__ == "__main__":
    main()
