"""Jobs that write weights: a base quantised, a version exported, and what the answers say of them."""
import json
import pathlib
import time

import pytest

from conftest import ROOT

FIXTURES = ROOT / "tests" / "fixtures" / "train"


def finished(hub, job):
    for _ in range(600):
        row = hub.ask("GET", f"/training/jobs/{job['id']}", 200)
        if row["status"] in ("completed", "failed", "cancelled"):
            assert row["status"] == "completed", row["error_message"]
            return row
        time.sleep(0.1)
    raise AssertionError("the job does not end")


@pytest.fixture(scope="module")
def version(hub):
    """/models/{id}/versions/1.0.0 of a model that was trained for two steps."""
    hub.ask("POST", "/base-models/import", 201, json={"path": str(FIXTURES / "base"), "as": "tiny"})
    model = hub.ask("POST", "/models", 201, json={"name": "talker", "base_model": "tiny"})
    data = hub.ask("POST", "/datasets/upload?name=rows", 201,
                   content=(FIXTURES / "dataset.jsonl").read_bytes(),
                   headers={"content-type": "application/jsonl"})
    config = {"max_steps": 2, "lora_rank": 2, "max_seq_length": 64}
    finished(hub, hub.ask("POST", "/training/jobs", 201, json={
        "model_id": model["id"], "dataset_id": data["id"], "config": config}))
    return f"/models/{model['id']}/versions/1.0.0"


@pytest.mark.parametrize("body,files", [
    ({"format": "peft"}, {"adapter_config.json", "adapter_model.safetensors"}),
    ({"format": "mlx"}, {"adapter_config.json", "adapters.safetensors"}),
    ({"format": "mlx", "merge": True}, {"config.json", "model.safetensors", "tokenizer.json"}),
    ({"format": "safetensors"}, {"config.json", "model.safetensors", "tokenizer.json"}),
    ({"format": "gguf"}, {"tiny.gguf"}),
])
def test_a_version_is_exported(hub, version, body, files):
    row = finished(hub, hub.ask("POST", version + "/export", 202, json=body))
    result = row["result"]
    folder = pathlib.Path(result["path"])
    assert files <= {f["name"] for f in result["files"]}
    for file in result["files"]:
        assert (folder / file["name"]).stat().st_size == file["bytes"]
    found = hub.ask("GET", version, 200)["evaluations"]
    assert [e["sha256"] for e in found if e.get("job_id") == row["id"]] == [result["sha256"]]
    lineage = hub.ask("GET", version.split("/versions")[0] + "/lineage", 200)
    exports = [n for n in lineage["nodes"] if n["kind"] == "export"]
    assert result["sha256"] in [n["checksum"] for n in exports]
    if "model.safetensors" in files or "tiny.gguf" in files:
        name = f"again-{body['format']}-{body.get('merge', False)}"
        path = folder / "tiny.gguf" if "tiny.gguf" in files else folder
        base = hub.ask("POST", "/base-models/import", 201, json={"path": str(path), "as": name})
        assert base["architecture"] == "llama"


def test_a_base_is_quantised(hub, version):
    row = finished(hub, hub.ask("POST", "/base-models/tiny/quantize", 202,
                                json={"as": "tiny-8bit", "bits": 8, "group_size": 32}))
    assert row["result"]["as"] == "tiny-8bit" and row["result"]["quantised"] > 0
    base = hub.ask("GET", "/base-models/tiny-8bit", 200)
    assert base["quantization"] == "MLX8" and base["source"] == "tiny"
    answer = hub.ask("POST", "/v1/completions", 200,
                     json={"model": "tiny-8bit", "prompt": "a", "max_tokens": 2})
    assert answer["usage"]["completion_tokens"] >= 1
    assert "already exists" in hub.detail("POST", "/base-models/tiny/quantize", 409,
                                          json={"as": "tiny-8bit"})
    cache = hub.folder / "storage" / "cache"
    assert not [p for p in cache.iterdir() if p.name.startswith(("quantize-", "import-"))]


def test_an_import_is_quantised_when_asked(hub, version):
    base = hub.ask("POST", "/base-models/import", 201, json={
        "path": str(FIXTURES / "base"), "as": "tiny-4bit", "quantization": "4bit"})
    assert base["quantization"] == "MLX4" and "quantised to 4 bits" in base["source"]
    assert json.dumps(hub.ask("GET", "/base-models/tiny", 200)["quantization"]) != '"MLX4"'
