"""Datasets as people have them: the conversions that --help documents, and conversations with tools."""

import csv
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys

import pytest

from conftest import BINARY, ROOT, wait_for
from test_life import finished

TEMPLATES = ROOT / "tests" / "fixtures" / "text" / "templates" / "models"
TINY = ROOT / "tests" / "fixtures" / "train" / "base"

QUESTION, ANSWER = 'Who keeps "Halley, the telescope"?\nSay it.', "Otto Brënner, of course"


def shell(line: str, folder: pathlib.Path) -> str:
    """What a line of the help prints when it is typed, `python3` being this one."""
    places = [pathlib.Path(sys.executable).parent, pathlib.Path(BINARY).parent]
    path = os.pathsep.join([*map(str, places), os.environ["PATH"]])
    done = subprocess.run(
        line, shell=True, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documented(word: str) -> str:
    """The one line of `mlx-hub dataset --help` that speaks of the file."""
    text = subprocess.run(
        [BINARY, "dataset", "--help"], capture_output=True, text=True, check=True
    ).stdout
    [line] = [line for line in text.splitlines() if word in line and line.startswith("  ")]
    return line.strip()


def write_csv(folder: pathlib.Path):
    """As a spreadsheet saves it: a byte order mark, CRLF, line breaks inside cells, more columns."""
    with open(folder / "rows.csv", "w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["question", "answer", "id"])
        rows.writerows([[QUESTION, ANSWER, i] for i in range(3)])


def write_parquet(folder: pathlib.Path):
    import duckdb

    table = duckdb.connect()
    table.execute("CREATE TABLE t (question TEXT, answer TEXT, id INT, made TIMESTAMP)")
    table.executemany("INSERT INTO t VALUES (?, ?, ?, now())", [[QUESTION, ANSWER, i] for i in range(3)])
    table.execute(f"COPY t TO '{folder / 'rows.parquet'}'")


@pytest.mark.parametrize("write,word", [(write_csv, "rows.csv"), (write_parquet, "rows.parquet")])
def test_a_documented_line_converts(tmp_path, write, word):
    write(tmp_path)
    shell(documented(word), tmp_path)
    rows = [json.loads(line) for line in open(tmp_path / "rows.jsonl", encoding="utf-8")]
    assert [(row["question"], row["answer"]) for row in rows] == [(QUESTION, ANSWER)] * 3
    check = documented("mlx-hub dataset check rows.jsonl")
    assert shell(check, tmp_path).startswith("3 rows are good (0 chat, 3 completion, 0 text)")


def test_conversations_come_out_of_parquet(tmp_path):
    """Nested columns, where every message has all keys of any and those it lacks are null."""
    import duckdb

    duckdb.sql(f"""COPY (SELECT [
        {{role: 'user', content: 'Hi', tool_calls: NULL}},
        {{role: 'assistant', content: NULL, tool_calls:
            [{{type: 'function', function: {{name: 'look', arguments: '{{}}'}}}}]}},
        {{role: 'tool', content: 'dark', tool_calls: NULL}},
        {{role: 'assistant', content: 'Dark.', tool_calls: NULL}}] AS messages,
        [{{type: 'function', function: {{name: 'look'}}}}] AS tools)
        TO '{tmp_path / 'rows.parquet'}'""")
    shell(documented("rows.parquet"), tmp_path)
    assert shell("mlx-hub dataset check rows.jsonl", tmp_path).startswith("1 rows are good (1 chat")


# --- conversations with tools, in the templates and tokens of published models ---

WEATHER = {"name": "get_weather", "description": "Weather now",
           "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Brno"}}}
TALK = [
    {"role": "user", "content": "How is Brno?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "name": "get_weather", "content": "3 celsius"},
    {"role": "assistant", "content": "Cold: 3 degrees."},
]
HERMES = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Brno"}}\n</tool_call><|im_end|>'
LEARNT = {
    "llama-3.2": (
        "llama3_2",
        ['{"name": "get_weather", "parameters": {"city": "Brno"}}<|eot_id|>', "Cold: 3 degrees.<|eot_id|>"],
    ),
    "qwen2.5": ("qwen2_5", [HERMES, "Cold: 3 degrees.<|im_end|>"]),
    # writes a thought before the last answer alone, so that an earlier one is never what it was
    "qwen3": ("qwen3", ["<think>\n\n</think>\n\nCold: 3 degrees.<|im_end|>"]),
}


def random_halves(n: int) -> bytes:
    """n bf16 values between 0.03 and 0.13, of either sign."""
    numbers = random.Random(n)
    out = bytearray(numbers.randbytes(2 * n))
    out[1::2] = numbers.randbytes(n).translate(bytes([0x3D, 0xBD] * 128))
    return bytes(out)


def write_model(folder: pathlib.Path, name: str, tokenizer: pathlib.Path):
    """A llama of two small layers that reads and writes as the published model does."""
    template = json.loads((TEMPLATES / f"{name}.json").read_text())
    shutil.copytree(TINY, folder)
    shutil.copy(tokenizer, folder / "tokenizer.json")
    (folder / "chat_template.jinja").write_text(template["source"])
    known = json.loads(tokenizer.read_text())
    added = {token["content"]: token["id"] for token in known["added_tokens"]}
    vocab = max([*known["model"]["vocab"].values(), *added.values()]) + 1
    marks = {"bos_token": template["bos_token"], "eos_token": template["eos_token"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(marks))
    config = json.loads((TINY / "config.json").read_text())
    config.update(vocab_size=vocab, max_position_embeddings=4096, dtype="bfloat16",
                  bos_token_id=None, eos_token_id=added[template["eos_token"]])
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").unlink()
    with open(TINY / "model.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__", None)
    at, data = 0, []
    for key, tensor in header.items():
        shape = [vocab if n == 330 else n for n in tensor["shape"]]
        data.append(random_halves(shape[0] * (shape[1] if len(shape) > 1 else 1)))
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + len(data[-1])]}
        at += len(data[-1])
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(b"".join([struct.pack("<Q", len(text)), text, *data]))


@pytest.fixture(scope="session")
def tokenizers() -> pathlib.Path:
    fetch = ROOT / "scripts" / "fetch-tokenizers"
    return pathlib.Path(subprocess.check_output([fetch], text=True).strip())


def runs_of_trained(tokens: list[dict]) -> list[str]:
    """The texts of what is trained, one for each stretch without a gap."""
    out, before = [], False
    for token in tokens:
        if token["trained"] and not before:
            out.append("")
        if token["trained"]:
            out[-1] += token["text"]
        before = token["trained"]
    return out


@pytest.mark.parametrize("name", LEARNT)
def test_calls_of_tools_are_shown_marked_and_learnt(hub, tmp_path, tokenizers, name):
    tokenizer, learnt = LEARNT[name]
    write_model(tmp_path / "base", name, tokenizers / f"{tokenizer}.json")
    row = {"messages": TALK, "tools": [{"type": "function", "function": WEATHER}], "of": name}
    rows = tmp_path / "rows.jsonl"
    rows.write_text((json.dumps(row) + "\n") * 4)
    words = [BINARY, "dataset", "check", rows, "--model", tmp_path / "base", "--row", "1"]
    words += ["--max-seq-length", "2048"]
    done = subprocess.run([*words, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    [sample] = answer["samples"]
    text = "".join(token["text"] for token in sample["tokens"])
    assert runs_of_trained(sample["tokens"]) == learnt
    assert '"description": "Weather now"' in text and "3 celsius" in text
    assert answer["last_turn_only"] == (4 if len(learnt) == 1 else 0)
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert shown.count("[[") == len(learnt)

    base = hub.ask("POST", "/base-models/import", 201, json={"path": str(tmp_path / "base"), "as": name})
    model = hub.ask("POST", "/models", 201, json={"name": name + " tools", "base_model": base["id"]})
    data = hub.ask("POST", "/datasets/upload", 201, params={"name": name}, content=rows.read_bytes())
    checked = hub.ask("GET", f"/datasets/{data['id']}/check", 200,
                      params={"base_model": base["id"], "max_seq_length": 2048})
    assert runs_of_trained(checked["samples"][0]["tokens"]) == learnt
    config = {"max_steps": 30, "batch_size": 2, "learning_rate": 0.02, "max_seq_length": 2048,
              "lora_rank": 8, "lora_targets": "all-linear", "warmup_steps": 0, "val_fraction": 0}
    job = hub.ask("POST", "/training/jobs", 201, json={
        "model_id": model["id"], "dataset_id": data["id"], "config": config})
    wait_for(lambda: finished(hub, job), seconds=180)
    [version] = hub.ask("GET", f"/models/{model['id']}/versions", 200)
    metrics = version["metrics"]
    assert metrics["targets"] == answer["targets"] and metrics["rows"] == 4
    assert metrics["final_loss"] < metrics["first_loss"]
