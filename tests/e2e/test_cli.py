"""The program as a person runs it: help, exit statuses, JSON, and the real model's own bits."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("MLX_HUB_BINARY", str(ROOT / "build" / "mlx-hub"))
COMMANDS = """serve import pull list model dataset train job chat generate eval reproduce merge export
    quantize template tokenize worker db config doctor version""".split()
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"


@pytest.fixture
def hub(tmp_path):
    """Runs a command over a storage folder of its own, with no server to be found."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLX_HUB_")}
    env.update(MLX_HUB_STORAGE_BASE_PATH=str(tmp_path / "storage"), MLX_HUB_PORT="0")

    def run(*words, status=0, stdin="", **more):
        done = subprocess.run([BINARY, *map(str, words)], env={**env, **more}, input=stdin,
                              capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def model():
    done = subprocess.run([ROOT / "scripts" / "fetch-model"], capture_output=True, text=True,
                          check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(hub, command):
    text = hub(command, "--help").stdout
    assert f"mlx-hub {command}" in text.split("examples:")[1]
    assert "--json" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_wrong_usage(hub, command):
    assert "--nonsense" in hub(command, "--nonsense", status=2).stderr


@pytest.mark.parametrize("words", [("version",), ("config",), ("doctor",), ("db", "status"),
                                   ("list",), ("model", "list"), ("dataset", "list"),
                                   ("job", "list")])
def test_json_parses(hub, words):
    json.loads(hub(*words, "--json").stdout)


def test_template_prints_exactly(hub, tmp_path):
    source = tmp_path / "template.jinja"
    source.write_text(TEMPLATE)
    talk = json.dumps([{"role": "user", "content": "Grüße\n"}])
    assert hub("template", source, "--messages", "-", stdin=talk).stdout == "[user] Grüße\n"


FLAGS = ("{{ bos_token }}|{{ eos_token }}|{{ tools | length if tools else 0 }}|"
         "{{ strftime_now('%d %b %Y') }}|{{ add_generation_prompt }}")


def test_template_takes_every_flag(hub, tmp_path):
    source = tmp_path / "template.jinja"
    source.write_text(FLAGS)
    messages, tools = tmp_path / "messages.json", tmp_path / "tools.json"
    messages.write_text(json.dumps({"messages": [{"role": "user", "content": "x"}]}))
    tools.write_text(json.dumps([{"type": "function", "function": {"name": "f"}}]))
    words = ("template", source, "--messages", messages)
    told = ("--bos", "<s>", "--eos", "</s>", "--date", "2026-01-31")
    assert hub(*words, *told).stdout == "<s>|</s>|0|31 Jan 2026|True"
    assert (hub(*words, *told, "--tools", tools, "--no-generation-prompt").stdout
            == "<s>|</s>|1|31 Jan 2026|False")
    answer = json.loads(hub(*words, *told, "--json").stdout)
    assert answer == {"prompt": "<s>|</s>|0|31 Jan 2026|True"}
    assert "date" in hub(*words, "--date", "yesterday", status=1).stderr
    hub("template", source, status=2)


def test_tools_choose_the_template_named_for_them(hub, tmp_path):
    config = tmp_path / "tokenizer_config.json"
    named = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
    config.write_text(json.dumps({"chat_template": named}))
    tools = tmp_path / "tools.json"
    tools.write_text("[]")
    words = ("template", config, "--messages", "-")
    assert hub(*words, stdin="[]").stdout == "D"
    assert hub(*words, "--tools", tools, stdin="[]").stdout == "T"


def test_tokenize_reads_sentencepiece_and_takes_every_flag(hub, tmp_path):
    fixtures = ROOT / "tests/fixtures/text/sentencepiece"
    (tmp_path / "folder").mkdir()
    shutil.copy(fixtures / "llama.model", tmp_path / "folder/tokenizer.model")
    text = tmp_path / "text.txt"
    text.write_text("a</s>")

    def ids(source, *words):
        return json.loads(hub("tokenize", source, *words, "--json").stdout)["tokens"]

    for source in (fixtures / "llama.model", tmp_path / "folder", fixtures / "llama.gguf"):
        assert ids(source, "--text", "a") == [1, 263]
        assert ids(source, "--text", "a", "--no-special") == [263]
        assert ids(source, "--file", text) == [1, 263, 2]
        assert 2 not in ids(source, "--file", text, "--literal")
    assert "  263  ' a'" in hub("tokenize", fixtures / "llama.model", "--text", "a").stdout
    hub("tokenize", fixtures / "llama.model", status=2)
    hub("tokenize", fixtures / "llama.model", "--text", "a", "--file", text, status=2)


def test_a_template_without_end_ends(hub, tmp_path):
    source = tmp_path / "template.jinja"
    source.write_text("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}"
                      "{% endfor %}")
    hub("template", source, "--messages", "-", stdin="[]", status=1)


def test_template_and_tokens_of_the_real_model(hub, model):
    talk = json.dumps([{"role": "user", "content": "Hi"}])
    text = hub("template", model, "--messages", "-", stdin=talk).stdout
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    tokens = json.loads(hub("tokenize", model, "--text", "Hello, world", "--json").stdout)
    assert tokens["tokens"] == [19556, 28, 905]
    assert tokens["pieces"] == ["Hello", ",", " world"]


@pytest.mark.parametrize("settings", [{"MLX_HUB_ISA": "ref"}, {"MLX_HUB_ISA": "avx2"},
                                      {"MLX_HUB_THREADS": "1"}, {"MLX_HUB_THREADS": "2"}])
def test_a_seed_repeats_byte_for_byte(hub, model, settings):
    available = json.loads(hub("doctor", "--json").stdout)["isa_available"]
    if settings.get("MLX_HUB_ISA", "ref") not in available:
        settings = {}  # then the same settings twice still have to repeat
    words = ("generate", model, "Name a colour.", "--seed", "7", "--max-tokens", "6")
    assert hub(*words, **settings).stdout == hub(*words).stdout
