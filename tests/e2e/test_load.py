"""More requests than fit: who waits, who is turned away, and that nobody's answer changes."""

import concurrent.futures
import json
import socket
import threading
import time

import httpx
import openai
import pytest

from conftest import ROOT, Hub, wait_for
from soak import TINY, train

STORY = [{"role": "user", "content": "Tell me a long story about a river and a lighthouse."}]


@pytest.fixture(scope="module")
def small(tmp_path_factory, model_file):
    """One session and two places to wait."""
    hub = Hub(tmp_path_factory.mktemp("small"), "--max-sessions", "1", "--max-queue", "2").start()
    hub.ask("POST", "/base-models/import", 201, json={"path": model_file, "as": "org/smollm2"})
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def wide(tmp_path_factory, model_file):
    hub = Hub(tmp_path_factory.mktemp("wide"), "--max-sessions", "32").start()
    hub.ask("POST", "/base-models/import", 201, json={"path": model_file, "as": "org/smollm2"})
    yield hub
    hub.stop()


def client_of(hub) -> openai.OpenAI:
    return openai.OpenAI(base_url=hub.url + "/v1", api_key="none", max_retries=0)


def test_a_full_queue_says_when_to_come_back(small):
    body = {"model": "org/smollm2", "messages": STORY, "max_tokens": 2000, "stream": True}
    client = client_of(small)
    running = [client.chat.completions.create(**body)]
    next(iter(running[0]))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        waiting = [pool.submit(client.chat.completions.create, **body) for _ in range(2)]
        depth = "inference_queue_depth 2"
        wait_for(lambda: depth in small.http.get("/metrics").text, seconds=20)
        answer = small.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "rate_limit_error"
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**body)
        assert small.http.post("/api/chat", json=body).status_code == 429
        texts = {"model": "org/smollm2", "input": ["one", "two"]}
        assert small.http.post("/v1/embeddings", json=texts).status_code == 429
        running[0].close()  # whoever leaves makes room at once
        for future in concurrent.futures.as_completed(waiting, timeout=120):
            stream = future.result()
            assert next(iter(stream)).choices
            stream.close()
    wait_for(lambda: small.runners()[0]["active_requests"] == 0, seconds=20)


def test_many_at_once_get_what_each_would_get_alone(wide):
    client = client_of(wide)

    def ask(i: int) -> str:
        answer = client.chat.completions.create(
            model="org/smollm2",
            messages=[{"role": "user", "content": f"Question {i}: " + "why? " * (i % 7)}],
            max_tokens=8 + i % 9,
            temperature=1.0 if i % 2 else 0.0,
            seed=i,
        )
        return answer.choices[0].message.content

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        together = list(pool.map(ask, range(32)))
    assert [ask(i) for i in range(0, 32, 5)] == together[::5]


def test_each_session_may_have_an_adapter_of_its_own(tmp_path):
    """More at once than are kept for later: nobody is refused, nobody gets another's answer."""
    hub = Hub(tmp_path / "adapters", "--max-sessions", "20").start()
    try:
        tiny = str(ROOT / "tests" / "fixtures" / "train" / "base")
        hub.ask("POST", "/base-models/import", 201, json={"path": tiny, "as": "tiny/base"})
        model = hub.ask("POST", "/models", 201, json={"name": "many", "base_model": "tiny/base"})
        for i in range(18):
            rows = "".join(f'{{"prompt":"Say {k}","completion":"{k * i}"}}\n' for k in range(4))
            train(hub, model, rows, f"rows{i}")
        versions = hub.ask("GET", f"/models/{model['id']}/versions", 200)
        names = ["tiny/base", *(f"many@{version['version']}" for version in versions)]
        together = threading.Barrier(len(names))

        def ask(name: str, wait: bool) -> str:
            if wait:
                together.wait()
            body = {"model": name, "prompt": "Say 7", "max_tokens": 100, "temperature": 1,
                    "seed": 3, "ignore_eos": True}
            return hub.ask("POST", "/v1/completions", 200, json=body)["choices"][0]["text"]

        with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
            got = list(pool.map(lambda name: ask(name, True), names))
        assert len(set(got)) > 2
        assert got == [ask(name, False) for name in names]
        assert len(hub.runners()) == 1
    finally:
        hub.stop()


def leave(hub, version: str, body: dict, after: float) -> None:
    """Asks as HTTP/version and closes the connection so many seconds later."""
    text = json.dumps(body)
    with socket.create_connection(("127.0.0.1", hub.port)) as connection:
        connection.sendall(
            f"POST /v1/chat/completions HTTP/{version}\r\nHost: 127.0.0.1:{hub.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
        time.sleep(after)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_who_leaves_a_stream_takes_no_place_among_the_connections(tmp_path, version):
    hub = Hub(tmp_path / "hub", "--max-connections", "8").start()
    try:
        hub.ask("POST", "/base-models/import", 201, json={"path": str(TINY), "as": "tiny"})
        body = {"model": "tiny", "messages": STORY, "max_tokens": 12}
        hub.ask("POST", "/v1/chat/completions", 200, json=body)  # loaded: answers come at once
        for k in range(120):
            leave(hub, version, {**body, "stream": True}, (k % 5) * 0.0005)
        # Idle connections are closed after a minute; a place has to be free well before.
        answer = httpx.get(hub.url + "/health/live", timeout=30)
        assert answer.status_code == 200
    finally:
        hub.stop()
