"""The real model through the hub: answers, streams, crashes, clients that leave."""

import concurrent.futures
import os
import signal
import subprocess

import httpx
import pytest

from conftest import text_of, wait_for

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
STORY = [{"role": "user", "content": "Tell me a long story about a river and a lighthouse."}]


def body(model: dict, **more) -> dict:
    return {"model_id": model["id"], "messages": QUESTION, "temperature": 0, **more}


def test_the_model_knows_paris(hub, smollm):
    answer = hub.ask("POST", "/inference", 200, json=body(smollm, max_tokens=32))
    assert "Paris" in answer["text"]
    assert answer["model_id"] == smollm["id"]
    assert answer["version_id"] is None
    assert 0 < answer["tokens_generated"] <= 32
    assert 0 < answer["time_to_first_token"] <= answer["total_time"]
    assert answer["engine"] == "native"


def test_a_stream_says_the_same_as_a_plain_answer(hub, smollm):
    asked = body(smollm, messages=STORY, max_tokens=48, temperature=0.8, seed=5)
    plain = hub.ask("POST", "/inference", 200, json=asked)
    stream = list(hub.stream(asked))
    assert text_of(stream) == plain["text"]
    name, done = stream[-1]
    assert name == "done"
    assert done["total_tokens"] == plain["tokens_generated"]
    assert done["seed"] == plain["seed"] == 5
    tokens = [data for name, data in stream if name == "token"]
    assert [data["index"] for data in tokens[: done["total_tokens"]]] == list(
        range(done["total_tokens"])
    )
    assert "ttft" in tokens[0] and "ttft" not in tokens[1]


def test_stop_sequences_end_the_text(hub, smollm):
    asked = body(smollm, max_tokens=64, stop_sequences=["Paris"])
    assert "Paris" not in hub.ask("POST", "/inference", 200, json=asked)["text"]


def test_a_killed_runner_is_replaced_and_the_text_is_the_same(hub, smollm):
    asked = body(smollm, messages=STORY, max_tokens=160, temperature=0.7, seed=9)
    whole = hub.ask("POST", "/inference", 200, json=asked)["text"]
    pid = hub.runners()[0]["pid"]
    text = ""
    killed = False
    for name, data in hub.stream(asked):
        assert name in ("token", "done"), data
        if name == "token":
            text += data["token"]
            if not killed and data["index"] == 20:
                os.kill(pid, signal.SIGKILL)
                killed = True
    assert killed
    assert text == whole
    assert hub.runners()[0]["pid"] != pid


def test_a_request_present_at_two_crashes_is_a_500(hub, smollm):
    """The second crash follows as soon as the request is on a fresh runner."""
    asked = body(smollm, messages=STORY, max_tokens=2000, temperature=1.5, seed=4)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(hub.http.post, "/inference", json=asked)
        killed = set()
        for _ in range(2):
            found = wait_for(lambda: [r for r in hub.runners() if r["active_requests"] == 1
                                      and r["pid"] not in killed])
            os.kill(found[0]["pid"], signal.SIGKILL)
            killed.add(found[0]["pid"])
        assert answer.result().status_code == 500, answer.result().text
        assert "ended unexpectedly 2 times" in answer.result().json()["detail"]
    hub.ask("POST", "/inference", 200, json=body(smollm, max_tokens=4))


def test_a_client_that_leaves_stops_its_work(hub, smollm):
    asked = body(smollm, messages=STORY, max_tokens=2000, temperature=1.5, seed=3)
    stream = hub.stream(asked)
    for _ in range(5):
        next(stream)
    assert hub.runners()[0]["active_requests"] == 1
    stream.close()
    wait_for(lambda: hub.runners()[0]["active_requests"] == 0, seconds=10)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(hub.url + "/inference", json=asked, timeout=0.5,
                   headers={"X-Request-ID": "impatient"})
    wait_for(lambda: hub.runners()[0]["active_requests"] == 0, seconds=10)
    wait_for(lambda: 'route="/inference",status="499"} 1' in hub.http.get("/metrics").text)
    assert 'route="/inference",status="503"' not in hub.http.get("/metrics").text
    log = (hub.folder / "serve.log").read_text().splitlines()
    line = next(line for line in log if "trace_id=impatient" in line)
    assert 'INFO http request method=POST route="/inference" status=499' in line


@pytest.mark.parametrize("path", ["/inference", "/inference/stream"])
def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(hub, smollm, path):
    asked = body(smollm, messages=[{"role": "user", "content": "word " * 9000}])
    detail = hub.detail("POST", path, 400, json=asked)
    numbers = [int(word) for word in detail.replace(",", " ").split() if word.isdigit()]
    assert any(n > 9000 for n in numbers), detail
    assert any(n <= 8192 for n in numbers), detail


def test_clients_share_a_batch_and_get_what_they_would_get_alone(hub, smollm):
    from concurrent.futures import ThreadPoolExecutor

    asked = [body(smollm, messages=STORY, max_tokens=24, temperature=0.9, seed=s) for s in range(6)]

    def ask(one):
        return httpx.post(hub.url + "/inference", json=one, timeout=300).json()["text"]

    alone = [ask(one) for one in asked]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, asked)) == alone


def test_tokens_and_templates(hub, smollm):
    content = "Grüße, naïve café 👋"
    tokens = hub.ask("POST", "/tokenize", 200, json={"model": "smol", "content": content})["tokens"]
    back = hub.ask("POST", "/detokenize", 200, json={"model": "smol", "tokens": tokens})
    assert back["content"] == content
    prompt = hub.ask("POST", "/apply-template", 200, json={"model": "smol", "messages": QUESTION})
    assert prompt["prompt"].endswith("<|im_start|>assistant\n")


def test_curl_streams(hub, smollm):
    command = ["curl", "-sN", hub.url + "/inference/stream", "-H", "Content-Type: application/json"]
    asked = '{"model":"smol","prompt":"One, two, three,","max_tokens":4,"temperature":0}'
    out = subprocess.check_output([*command, "-d", asked], text=True)
    assert out.count("event: token\n") >= 4
    assert "event: done\n" in out


def test_metrics_count_what_happened(hub, smollm):
    def value(name):
        lines = hub.http.get("/metrics").text.splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))

    names = ("model_cache_hits_total", "inference_batch_size_count",
             "inference_tokens_generated_total")
    before = [value(name) for name in names]
    asked = {"model_id": smollm["id"], "prompt": "Count", "max_tokens": 3, "temperature": 0}
    hub.ask("POST", "/inference", 200, json=asked)
    made = hub.ask("POST", "/inference", 200, json=asked)["tokens_generated"]
    assert [value(n) - b for n, b in zip(names, before)] == [2, 2, 2 * made]
    assert value("model_cache_misses_total") >= 1


def test_a_model_is_unloaded_and_comes_back(hub, smollm):
    key = hub.runners()[0]["key"]
    hub.ask("DELETE", f"/inference/cache/{key}", 204)
    wait_for(lambda: not hub.runners(), seconds=10)
    hub.ask("POST", "/inference", 200, json=body(smollm, max_tokens=2))
    metrics = hub.http.get("/metrics").text
    assert 'inference_requests_total{model="smol",outcome="ok"}' in metrics
    assert "inference_ttft_seconds_count" in metrics
