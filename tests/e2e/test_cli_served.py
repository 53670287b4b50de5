"""Commands beside a running hub ask it, and print what they print without one."""
import http.server
import json
import os
import re
import subprocess
import threading

import pytest

from conftest import BINARY
from test_life import ROWS
from test_ollama import THINKING


@pytest.fixture(scope="module")
def ask(hub, model_file, tmp_path_factory):
    """Runs a command that knows of the hub only where it listens."""
    hub.ask("POST", "/base-models/import", 201, json={"path": model_file, "as": "smollm2"})
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLX_HUB_")}
    env.update(MLX_HUB_PORT=str(hub.port),
               MLX_HUB_STORAGE_BASE_PATH=str(tmp_path_factory.mktemp("elsewhere") / "storage"))

    def run(*words, status=0, stdin="", **more):
        done = subprocess.run([BINARY, *words], env={**env, **more}, input=stdin,
                              capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.mark.parametrize("how", [(), ("--raw",), ("--system", "You are brief.", "--stop", "e")])
def test_generate_says_what_the_file_alone_says(ask, model_file, how):
    words = ("Name a colour.", "--seed", "7", "--max-tokens", "24", "--json", *how)
    served = json.loads(ask("generate", "smollm2", *words).stdout)
    alone = json.loads(ask("generate", model_file, *words).stdout)
    assert served["text"] == alone["text"] and served["text"]
    for key in ("finish_reason", "prompt_tokens", "tokens_generated", "seed", "engine",
                "numerics_version"):
        assert served[key] == alone[key], key


def test_chat_remembers(ask, hub):
    talk = ask("chat", "smollm2", "--temperature", "0", "--max-tokens", "16",
               stdin="Hello\nWhat did I say?\n").stdout
    assert len(talk.strip().splitlines()) >= 2
    assert [m["key"] for m in hub.runners()], "the hub's runner answered"


def test_chat_speaks_json(ask):
    lines = ask("chat", "smollm2", "--json", "--max-tokens", "4", stdin="Hello\nAgain\n").stdout
    answers = [json.loads(line) for line in lines.splitlines()]
    assert [a["tokens_generated"] <= 4 and bool(a["text"]) for a in answers] == [True, True]


def test_thoughts_are_shown_as_without_a_hub(ask, hub, model_file):
    """A template that opens a thought, which the model goes on with."""
    hub.ask("POST", "/api/create", 200, json={"model": "thinker", "from": "smollm2", "template": THINKING})
    how = ("--temperature", "0", "--max-tokens", "16", "--json")
    said = json.loads(ask("generate", "thinker", "Name a colour.", *how).stdout)
    talk = json.loads(ask("chat", "thinker", *how, stdin="Name a colour.\n").stdout)
    prompt = "user: Name a colour.\nassistant: <think>\n"
    alone = json.loads(ask("generate", model_file, prompt, "--raw", *how).stdout)
    assert said["text"] == talk["text"] == alone["text"] != ""


@pytest.mark.parametrize("how, most", [
    ((), 6),
    (("--max-tokens", "3"), 3),
    (("--seed", "9", "--top-k", "2"), 6),
    (("--system", "You are a monk."), 6),
    (("--raw",), 6),
])
def test_a_created_name_brings_all_of_its_own(ask, hub, how, most):
    """System prompt, messages and parameters, but what the user gave; with a hub and without."""
    hub.ask("POST", "/api/create", 200, json={
        "model": "pirate", "from": "smollm2", "system": "You are a pirate.",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Arr!"}],
        "parameters": {"num_predict": 6, "temperature": 1.5, "seed": 4, "top_k": 0, "min_p": 0.01}})
    nowhere = {"MLX_HUB_PORT": "0", "MLX_HUB_STORAGE_BASE_PATH": str(hub.folder / "storage")}
    served, alone = (json.loads(ask("generate", "pirate", "Name a colour.", "--json", *how, **env).stdout)
                     for env in ({}, nowhere))
    for key in ("text", "finish_reason", "prompt_tokens", "tokens_generated", "seed"):
        assert served[key] == alone[key], key
    assert served["tokens_generated"] == most or served["finish_reason"] == "stop"
    assert served["seed"] == (9 if "--seed" in how else 4)
    base = ask("generate", "smollm2", "Name a colour.", "--json", "--max-tokens", "1",
               *(how if how == ("--raw",) else ()))
    raw = how == ("--raw",)
    assert (served["prompt_tokens"] == json.loads(base.stdout)["prompt_tokens"]) == raw
    if not raw:
        talk, alone = (ask("chat", "pirate", *how, "--json", stdin="Hello\nAgain\n", **env).stdout
                       for env in ({}, nowhere))
        assert [json.loads(line)["text"] for line in talk.splitlines()] == [
            json.loads(line)["text"] for line in alone.splitlines()]


def test_another_program_on_the_port_is_no_hub(tmp_path):
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status":"ok"}')

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        env = {**os.environ, "MLX_HUB_PORT": str(other.server_port),
               "MLX_HUB_STORAGE_BASE_PATH": str(tmp_path / "storage")}
        done = subprocess.run([BINARY, "model", "list", "--json"], env=env, capture_output=True,
                              text=True, timeout=60, check=True)
        other.shutdown()
    assert json.loads(done.stdout) is not None


def test_training_is_followed(ask, hub):
    ask("model", "create", "followed", "--base", "smollm2")
    rows = ROWS.replace("number", "lamp")
    hub.ask("POST", "/datasets/upload", 201, params={"name": "lamps"}, content=rows.encode())
    words = ("--max-steps", "2", "--batch-size", "1", "--max-seq-length", "64")
    told = ask("train", "followed", "--dataset", "lamps", *words).stderr
    assert re.search(r"step 2/2  loss \d.* lr \d.* \d+ tokens/s  [\d.]+ MB  ETA", told), told


def test_an_unknown_name_is_the_hubs_word(ask):
    assert "nobody" in ask("generate", "nobody", "hi", status=1).stderr
    assert "nobody" in ask("chat", "nobody", stdin="", status=1).stderr  # before anything is asked
