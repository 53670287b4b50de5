"""Prompts that begin alike, memory for keys and values that runs out, pages on disk: whatever is
shared, set aside or read back, every answer is the one that a hub without any of it gives."""

import concurrent.futures

import pytest

from conftest import Hub, wait_for

SYSTEM = "You are a careful guide to rivers, lighthouses and old maps. " * 8
QUESTIONS = [f"Question {i}: where does the {i}. river end? " + "Why? " * (i % 5) for i in range(10)]


def start(tmp_path_factory, model_file, name: str, *flags: str) -> Hub:
    hub = Hub(tmp_path_factory.mktemp(name), *flags).start()
    hub.ask("POST", "/base-models/import", 201, json={"path": model_file, "as": "org/smollm2"})
    return hub


def ask(hub: Hub, i: int) -> dict:
    body = {
        "model": "org/smollm2",
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": QUESTIONS[i]},
        ],
        "max_tokens": 8 + i,
        "temperature": float(i % 2),
        "seed": i,
    }
    return hub.ask("POST", "/v1/chat/completions", 200, json=body)


def text(answer: dict) -> str:
    return answer["choices"][0]["message"]["content"]


def cached(answer: dict) -> int:
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def ask_all(hub: Hub) -> list[dict]:
    with concurrent.futures.ThreadPoolExecutor(len(QUESTIONS)) as pool:
        return list(pool.map(lambda i: ask(hub, i), range(len(QUESTIONS))))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, model_file) -> list[dict]:
    """Each answer as a hub gives it that does one thing at a time and keeps nothing."""
    hub = start(
        tmp_path_factory, model_file, "alone", "--max-sessions", "1", "--prefix-cache-mb", "0"
    )
    answers = [ask(hub, i) for i in range(len(QUESTIONS))]
    hub.stop()
    assert not any(cached(answer) for answer in answers)
    return answers


def test_many_at_once_share_one_system_prompt(tmp_path_factory, model_file, alone):
    hub = start(tmp_path_factory, model_file, "shared", "--max-sessions", "32")
    answers = ask_all(hub)
    assert [text(a) for a in answers] == [text(a) for a in alone]
    assert sum(cached(a) > 100 for a in answers) == len(QUESTIONS) - 1  # the first computed it
    again = ask_all(hub)
    assert [text(a) for a in again] == [text(a) for a in alone]
    assert all(cached(a) == a["usage"]["prompt_tokens"] - 1 for a in again)
    metrics = hub.http.get("/metrics").text
    assert f"prefix_cache_hits_total {2 * len(QUESTIONS) - 1}\n" in metrics
    assert "prefix_cache_misses_total 1\n" in metrics
    hub.stop()


def test_too_little_memory_makes_the_young_wait(tmp_path_factory, model_file, alone):
    flags = ("--max-sessions", "32", "--context-length", "256")
    for kept in ("0", "512"):
        hub = start(tmp_path_factory, model_file, f"few{kept}", *flags, "--prefix-cache-mb", kept)
        assert [text(a) for a in ask_all(hub)] == [text(a) for a in alone]
        body = {"model": "org/smollm2", "prompt": "river " * 300, "max_tokens": 4}
        error = hub.ask("POST", "/v1/completions", 400, json=body)["error"]
        assert "301 tokens" in error["message"] and "holds 256" in error["message"]
        hub.stop()


def test_pages_come_back_from_disk(tmp_path_factory, model_file, alone):
    hub = start(tmp_path_factory, model_file, "disk", "--prefix-cache-disk", "true")
    assert cached(ask(hub, 3)) == 0
    hub.stop()
    (file,) = (hub.folder / "storage" / "cache").glob("*.prefixes")
    hub.start()
    answer = ask(hub, 3)
    assert cached(answer) == answer["usage"]["prompt_tokens"] - 1
    assert text(answer) == text(alone[3])
    hub.stop()

    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    hub.start()
    answer = ask(hub, 3)
    assert cached(answer) == 0
    assert text(answer) == text(alone[3])
    assert "prefixes_ignored" in (hub.folder / "serve.log").read_text()
    hub.stop()
    assert file.read_bytes() != bytes(damaged)
    hub.start()
    assert cached(ask(hub, 3)) > 0
    hub.stop()


def test_who_hangs_up_makes_room_at_once(tmp_path_factory, model_file, alone):
    flags = ("--max-sessions", "32", "--context-length", "512", "--prefix-cache-mb", "0")
    hub = start(tmp_path_factory, model_file, "gone", *flags)
    for round in range(2):
        body = {"model": "org/smollm2", "prompt": "river " * 200, "max_tokens": 300, "stream": True}
        streams = []
        for i in range(12):
            stream = hub.http.stream("POST", "/v1/completions", json=body | {"seed": i})
            stream.__enter__()
            streams.append(stream)
        assert hub.runners()[0]["active_requests"] == 12
        for stream in streams:
            stream.__exit__(None, None, None)
        wait_for(lambda: hub.runners()[0]["active_requests"] == 0, seconds=20)
    assert text(ask(hub, 5)) == text(alone[5])
    hub.stop()
