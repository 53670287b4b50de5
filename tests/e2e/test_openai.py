"""OpenAI's own client against the hub, and the wire where the client hides it."""

import json

import openai
import pytest

from conftest import Hub

MODEL = "smol"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def client(hub, smollm) -> openai.OpenAI:
    return openai.OpenAI(base_url=hub.url + "/v1", api_key="none", max_retries=0)


def chat(client, **more):
    asked = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 16, **more}
    return client.chat.completions.create(**asked)


def chunks(hub, path: str, body: dict) -> list[str]:
    """The data lines of a stream, as they are on the wire."""
    with hub.http.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"] == "text/event-stream"
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    return [line[6:] for line in lines]


def test_an_answer_has_every_field(client):
    answer = chat(client, seed=3)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    assert answer.system_fingerprint == "seed-3-native-numerics-1"
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert choice.logprobs is None
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens >= 0


def test_a_stream_is_the_same_text(client):
    asked = {"temperature": 0.9, "seed": 11, "max_tokens": 24}
    plain = chat(client, **asked).choices[0].message.content
    stream = chat(client, stream=True, **asked)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == plain


def test_the_stream_on_the_wire(hub, client):
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 6, "stream": True, "seed": 1}
    data = chunks(
        hub, "/v1/chat/completions", {**body, "stream_options": {"include_usage": True}}
    )
    assert data[-1] == "[DONE]"
    parsed = [json.loads(line) for line in data[:-1]]
    assert {chunk["object"] for chunk in parsed} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in parsed}) == 1
    assert parsed[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
    for chunk in parsed[1:-2]:
        assert set(chunk["choices"][0]["delta"]) == {"content"}
        assert chunk["choices"][0]["delta"]["content"] != ""
        assert chunk["choices"][0]["finish_reason"] is None
    assert parsed[-2]["choices"][0]["delta"] == {}
    assert parsed[-2]["choices"][0]["finish_reason"] in ("stop", "length")
    assert parsed[-1]["choices"] == []
    assert parsed[-1]["usage"]["completion_tokens"] <= 6
    assert parsed[-1]["timings"]["predicted_n"] == parsed[-1]["usage"]["completion_tokens"]
    without = [json.loads(line) for line in chunks(hub, "/v1/chat/completions", body)[:-1]]
    assert all(chunk["choices"] for chunk in without)


def test_choices_are_the_same_alone_and_together(client):
    asked = {"temperature": 1.2, "seed": 5, "max_tokens": 12}
    together = [choice.message.content for choice in chat(client, n=4, **asked).choices]
    assert together[0] == chat(client, **asked).choices[0].message.content
    assert len(set(together)) > 1
    stream = [""] * 4
    for chunk in chat(client, n=4, stream=True, **asked):
        for choice in chunk.choices:
            stream[choice.index] += choice.delta.content or ""
    assert stream == together


def test_logprobs_of_a_chat(client):
    answer = chat(client, logprobs=True, top_logprobs=3, max_tokens=5)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for token in content:
        assert token.logprob <= 0
        assert bytes(token.bytes).decode() == token.token
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token  # greedy
        assert token.top_logprobs[0].logprob == token.logprob
    stream = chat(client, logprobs=True, top_logprobs=3, max_tokens=5, stream=True)
    streamed = [t for c in stream if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert streamed == content


def test_bias_bans_and_forces_tokens(hub, client):
    first = chat(client, max_tokens=1, logprobs=True, top_logprobs=2)
    best, second = first.choices[0].logprobs.content[0].top_logprobs
    ids = hub.ask(
        "POST", "/tokenize", 200, json={"model": MODEL, "content": best.token + second.token}
    )["tokens"]
    answer = chat(client, max_tokens=1, logit_bias={str(ids[0]): -100})
    assert answer.choices[0].message.content == second.token
    answer = chat(client, max_tokens=3, temperature=1, logit_bias={str(ids[1]): 100})
    assert answer.choices[0].message.content == second.token * 3


def test_any_seed_but_minus_one_is_kept(client):
    hot = {"temperature": 2.0, "max_tokens": 12}
    for seed in (0, -5, 2**63 - 1, -(2**63)):
        texts = {chat(client, seed=seed, **hot).choices[0].message.content for _ in range(2)}
        assert len(texts) == 1, seed
    seeds = {chat(client, seed=-1, max_tokens=1).system_fingerprint for _ in range(2)}
    assert len(seeds) == 2


def test_stop_and_length(client):
    answer = chat(client, max_tokens=1)
    assert answer.choices[0].finish_reason == "length"
    whole = chat(client, max_tokens=12).choices[0].message.content
    stop = whole[5:8]
    answer = chat(client, max_tokens=12, stop=[stop])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == whole[: whole.index(stop)]


def test_completions_echo_scores_the_prompt_as_lm_eval_asks(hub, client):
    """lm-eval's local-completions: token ids, echo, one more token, logprobs."""
    texts = ["The capital of France is Paris", "Two and two is four"]
    ids = [
        hub.ask("POST", "/tokenize", 200, json={"model": MODEL, "content": text})["tokens"]
        for text in texts
    ]
    asked = {"model": MODEL, "temperature": 0, "max_tokens": 1, "logprobs": 2, "echo": True}
    both = client.completions.create(prompt=ids, **asked)
    for i, text in enumerate(texts):
        choice = both.choices[i]
        scores = choice.logprobs
        assert choice.index == i
        assert choice.text.startswith(text)
        assert len(scores.tokens) == len(ids[i]) + 1
        assert len(scores.token_logprobs) == len(scores.top_logprobs) == len(scores.tokens)
        assert scores.token_logprobs[0] is None
        assert "".join(scores.tokens[:-1]) == text
        for at, token in enumerate(scores.tokens[:-1]):
            assert text[scores.text_offset[at] :].startswith(token)
        for value, top, token in list(
            zip(scores.token_logprobs, scores.top_logprobs, scores.tokens)
        )[1:]:
            assert top[token] == value
            assert 2 <= len(top) <= 3
            assert max(top.values()) >= value
        alone = client.completions.create(prompt=ids[i], **asked).choices[0].logprobs
        assert alone.token_logprobs == scores.token_logprobs
        as_text = client.completions.create(prompt=text, **asked).choices[0].logprobs
        assert as_text.token_logprobs == scores.token_logprobs
    nothing = client.completions.create(prompt=ids[0], **{**asked, "max_tokens": 0}).choices[0]
    assert nothing.text == texts[0]
    assert nothing.logprobs.token_logprobs == both.choices[0].logprobs.token_logprobs[:-1]


def test_lm_evals_own_requests(hub, client):
    """What lm-eval 0.4.13 posts for loglikelihoods, and how it reads the answer."""
    context, continuation = "The capital of France is", " Paris"
    ids = [
        hub.ask("POST", "/tokenize", 200, json={"model": MODEL, "content": text})["tokens"]
        for text in (context + continuation, context + " Madrid")
    ]
    start = len(hub.ask("POST", "/tokenize", 200, json={"model": MODEL, "content": context})["tokens"])
    body = {
        "model": MODEL, "prompt": ids, "temperature": 0, "max_tokens": 1, "logprobs": 1,
        "seed": 1234, "echo": True,
    }
    scores = []
    for choice in sorted(
        hub.ask("POST", "/v1/completions", 200, json=body)["choices"], key=lambda c: c["index"]
    ):
        tokens = choice["logprobs"]["token_logprobs"][start:-1]
        tops = choice["logprobs"]["top_logprobs"][start:-1]
        greedy = all(max(top.values()) == token for token, top in zip(tokens, tops))
        scores.append((sum(tokens), greedy))
    assert scores[0][0] > scores[1][0]
    assert scores[0][1] and not scores[1][1]
    body = {
        "model": MODEL, "prompt": ids[:1], "max_tokens": 8, "temperature": 0,
        "stop": ["\n", "<|im_end|>"], "seed": 1234,
    }
    assert hub.ask("POST", "/v1/completions", 200, json=body)["choices"][0]["text"]


def test_completions_stream(client):
    asked = {"model": MODEL, "prompt": "Once upon a time", "seed": 2, "max_tokens": 10}
    plain = client.completions.create(**asked)
    assert plain.object == "text_completion"
    assert plain.choices[0].text
    stream = list(client.completions.create(stream=True, **asked))
    assert "".join(chunk.choices[0].text for chunk in stream) == plain.choices[0].text
    assert stream[-1].choices[0].finish_reason == plain.choices[0].finish_reason
    echo = list(client.completions.create(stream=True, echo=True, **asked))
    text = "".join(chunk.choices[0].text for chunk in echo)
    assert text == "Once upon a time" + plain.choices[0].text


def texts_and_scores(stream) -> tuple[dict, dict]:
    """Texts and scores by choice, as the parts of a stream add up."""
    texts, scores = {}, {}
    for part in stream:
        for choice in part.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            if choice.logprobs is not None:
                scores.setdefault(choice.index, []).extend(choice.logprobs.token_logprobs)
    return texts, scores


def test_a_long_prompt_is_echoed_with_its_scores(client):
    prompt = "A lamp was lit in the tower, whöever looked. " * 250
    asked = {"model": MODEL, "prompt": prompt, "echo": True, "logprobs": 20, "max_tokens": 1,
             "temperature": 0}
    whole = client.completions.create(**asked).choices[0]
    texts, scores = texts_and_scores(client.completions.create(stream=True, **asked))
    assert texts == {0: whole.text} and whole.text.startswith(prompt)
    assert scores == {0: whole.logprobs.token_logprobs}


def test_more_prompts_than_sessions_are_streamed(client):
    prompts = [f"Lamp number {i} is lit" for i in range(20)]
    asked = {"model": MODEL, "prompt": prompts, "max_tokens": 120, "temperature": 0,
             "extra_body": {"ignore_eos": True}}
    whole = client.completions.create(**asked).choices
    texts, _ = texts_and_scores(client.completions.create(stream=True, **asked))
    assert texts == {choice.index: choice.text for choice in whole}


def test_models_are_listed_and_found(client):
    ids = [model.id for model in client.models.list()]
    assert MODEL in ids and "org/smollm2" in ids
    assert client.models.retrieve("org/smollm2").id == "org/smollm2"
    assert client.models.retrieve(MODEL + ":latest").object == "model"
    assert chat(client, model="org/smollm2", seed=1).choices[0].message.content
    base = client.models.retrieve("org/smollm2")
    assert base.status == {"value": "loaded"}
    assert base.meta["n_vocab"] == 49152 and base.meta["n_ctx_train"] == 8192
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_bad_requests_are_the_clients_exceptions(client):
    with pytest.raises(openai.NotFoundError, match="nobody"):
        chat(client, model="nobody")
    for bad, word in [
        ({"messages": []}, "messages"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 7}, "top_p"),
        ({"n": 1000}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_logprobs": 3}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 50}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"extra_body": {"grammar": "root ::= x"}}, "grammar"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "the context holds 8192"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "x"}}],
                    }
                ]
            },
            "image_url",
        ),
    ]:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as raised:
                chat(client, stream=stream, **bad)
            assert word in str(raised.value)
            assert raised.value.body["type"] == "invalid_request_error"
    assert chat(client, extra_body={"no_such_member": 1}, max_tokens=1).choices


def test_tools_are_told_and_text_stays_text(hub, client):
    messages = [
        {"role": "user", "content": "How warm is it in Rome?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "22 degrees"},
    ]
    prompt = hub.ask(
        "POST",
        "/apply-template",
        200,
        json={"model": MODEL, "messages": messages, "tools": [WEATHER]},
    )["prompt"]
    assert "get_weather" in prompt and "<tools>" in prompt
    assert '<tool_call>\n{"name": "get_weather", "arguments": ' in prompt
    answer = chat(client, messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None
    told = chat(client, tools=[WEATHER]).usage.prompt_tokens
    assert chat(client, tools=[WEATHER], tool_choice="none").usage.prompt_tokens < told


def test_keys_are_asked_for(tmp_path):
    hub = Hub(tmp_path / "keyed", "--api-key", "sesame")
    hub.start()
    try:
        url = hub.url + "/v1"
        assert list(openai.OpenAI(base_url=url, api_key="sesame").models.list()) == []
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=url, api_key="wrong").models.list()
        answer = hub.http.get("/v1/models", headers={"X-Api-Key": "sesame"})
        assert answer.status_code == 200
    finally:
        hub.stop()


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0},
        "likes": {"type": "array", "items": {"enum": ["tea", "rain"]}, "maxItems": 3},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}


def test_a_schema_is_kept(client):
    asked = {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": PERSON, "strict": True},
        },
        "messages": [{"role": "user", "content": "Describe somebody."}],
        "max_tokens": 120,
    }
    for seed in range(3):
        answer = chat(client, temperature=1.5, seed=seed, **asked).choices[0]
        assert answer.finish_reason == "stop"
        person = json.loads(answer.message.content)
        assert list(person) == ["name", "age", "likes"]
        assert isinstance(person["age"], int) and person["age"] >= 0
        assert set(person["likes"]) <= {"tea", "rain"} and len(person["likes"]) <= 3
    free = chat(client, response_format={"type": "json_object"}, max_tokens=8)
    assert free.choices[0].message.content.startswith("{")
    with pytest.raises(openai.BadRequestError, match="look-around"):
        bad = {"name": "x", "schema": {"type": "string", "pattern": "(?=a)b"}}
        chat(client, response_format={"type": "json_schema", "json_schema": bad}, stream=True)
    with pytest.raises(openai.BadRequestError, match="xml"):
        chat(client, response_format={"type": "xml"})


def test_completions_keep_a_schema_too(client):
    asked = {"model": MODEL, "prompt": ["A person: ", "Another: "], "temperature": 1.2, "seed": 4}
    for extra in (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": PERSON}}},
        {"json_schema": PERSON},
    ):
        answer = client.completions.create(max_tokens=120, extra_body=extra, **asked)
        for choice in answer.choices:
            assert list(json.loads(choice.text)) == ["name", "age", "likes"]
    free = client.completions.create(
        max_tokens=6, extra_body={"response_format": {"type": "json_object"}}, **asked
    )
    assert free.choices[0].text.lstrip().startswith("{")


def test_what_odd_clients_send_is_taken(hub, client):
    """Nulls for everything, content in parts, the newer role and names, and what only others use."""
    names = [
        "stop", "logit_bias", "logprobs", "top_logprobs", "n", "tools", "tool_choice", "top_p",
        "response_format", "stream_options", "user", "store", "metadata", "seed", "stream",
        "presence_penalty", "frequency_penalty", "parallel_tool_calls", "service_tier",
        "reasoning_effort", "functions", "function_call", "max_completion_tokens", "modalities",
        "audio", "prediction", "verbosity", "prompt_cache_key", "web_search_options", "echo",
        "add_generation_prompt", "cache_prompt", "n_predict",
    ]
    plain = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 6}
    want = hub.ask("POST", "/v1/chat/completions", 200, json=plain)["choices"]
    nulls = {**plain, **dict.fromkeys(names)}
    assert hub.ask("POST", "/v1/chat/completions", 200, json=nulls)["choices"] == want
    parts = [{"type": "text", "text": t} for t in ("What is the ", "capital of France?")]
    odd = {
        **plain, "messages": [{"role": "user", "content": parts, "name": "bob"}], "user": "u",
        "metadata": {"a": "b"}, "service_tier": "auto", "max_tokens": None,
        "max_completion_tokens": 6, "parallel_tool_calls": True, "store": False,
    }
    assert hub.ask("POST", "/v1/chat/completions", 200, json=odd)["choices"] == want
    llama = {**plain, "max_tokens": None, "n_predict": 6, "add_generation_prompt": True}
    assert hub.ask("POST", "/v1/chat/completions", 200, json=llama)["choices"] == want
    system, developer = (
        chat(client, messages=[{"role": role, "content": "Be brief."}, *QUESTION]).choices[0]
        for role in ("system", "developer")
    )
    assert developer.message.content == system.message.content


def test_a_tool_that_must_be_called_is_called(client):
    messages = [{"role": "user", "content": "How warm is it in Paris?"}]
    asked = {"messages": messages, "tools": [WEATHER], "max_tokens": 60}
    asked["parallel_tool_calls"] = False
    answer = chat(client, tool_choice="required", **asked).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    call = answer.message.tool_calls[0]
    assert call.type == "function" and call.id
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}
    named = {"type": "function", "function": {"name": "get_weather"}}
    deltas = [
        chunk.choices[0] for chunk in chat(client, tool_choice=named, stream=True, **asked)
    ]
    calls = [d.delta.tool_calls[0] for d in deltas if d.delta.tool_calls]
    assert calls[0].id and calls[0].function.name == "get_weather"
    assert all(c.index == 0 for c in calls)
    assert all(c.id is None and c.function.name is None for c in calls[1:])
    arguments = "".join(c.function.arguments for c in calls)
    assert json.loads(arguments) == json.loads(call.function.arguments)
    assert not any(d.delta.content for d in deltas)
    assert deltas[-1].finish_reason == "tool_calls"
    with pytest.raises(openai.BadRequestError, match="tool_choice"):
        chat(client, tool_choice={"type": "function", "function": {"name": "other"}}, **asked)


def put_together(stream) -> tuple[list[dict], str, str, int]:
    """What a client makes of a stream: calls, text, why it ended, and how many deltas of arguments."""
    calls, text, reason, pieces = [], "", None, 0
    for chunk in stream:
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        reason = choice.finish_reason or reason
        for delta in choice.delta.tool_calls or []:
            if delta.index == len(calls):
                assert delta.id and delta.type == "function" and delta.function.arguments == ""
                calls.append({"id": delta.id, "name": delta.function.name, "arguments": ""})
                continue
            assert delta.index == len(calls) - 1  # one after the other
            assert delta.id is None and delta.function.name is None
            calls[-1]["arguments"] += delta.function.arguments
            pieces += 1
    return calls, text, reason, pieces


def test_arguments_come_while_they_are_written(client):
    messages = [{"role": "user", "content": "How warm is it in Paris?"}]
    asked = {"messages": messages, "tools": [WEATHER], "tool_choice": "required"}
    one = {"parallel_tool_calls": False, "max_tokens": 60}
    for seed in range(3):
        for how in (one, {**one, "temperature": 1.5, "seed": seed}):
            plain = chat(client, **asked, **how).choices[0]
            calls, text, reason, pieces = put_together(chat(client, stream=True, **asked, **how))
            assert len(calls) == len(plain.message.tool_calls) == 1
            assert calls[0]["arguments"] == plain.message.tool_calls[0].function.arguments
            assert calls[0]["name"] == "get_weather" and text == ""
            assert reason == plain.finish_reason
            assert pieces > 3
    # cut off: what there is, and why
    cut = {**one, "max_tokens": 22}
    plain = chat(client, **asked, **cut).choices[0]
    calls, text, reason, _ = put_together(chat(client, stream=True, **asked, **cut))
    whole = chat(client, **asked, **one).choices[0].message.tool_calls[0].function.arguments
    arguments = plain.message.tool_calls[0].function.arguments
    assert plain.message.content is None and plain.finish_reason == "length"
    assert arguments and whole.startswith(arguments) and arguments != whole
    assert [call["arguments"] for call in calls] == [arguments]
    assert (text, reason) == ("", "length")


def test_the_clients_own_stream_puts_calls_together(client):
    """The helper that parses as it goes, as agents use it."""
    messages = [{"role": "user", "content": "How warm is it in Paris?"}]
    asked = {"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 60}
    how = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
    deltas = []
    with client.chat.completions.stream(**asked, **how) as stream:
        for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                deltas.append(event.arguments_delta)
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert len(deltas) > 3
    assert "".join(deltas) == call.function.arguments
    assert set(json.loads(call.function.arguments)) == {"city"}


def test_more_than_one_call_may_be_required(client):
    cities = [{"role": "user", "content": "How warm is it in Paris, and how warm in Rome?"}]
    asked = {"messages": cities, "tools": [WEATHER], "tool_choice": "required", "max_tokens": 200}
    found = 0
    for seed in range(4):
        how = {"temperature": 0.7, "seed": seed}
        plain = chat(client, **asked, **how).choices[0]
        told = [call.function for call in plain.message.tool_calls]
        calls, _, reason, _ = put_together(chat(client, stream=True, **asked, **how))
        assert [call["arguments"] for call in calls] == [call.arguments for call in told]
        assert len({call["id"] for call in calls}) == len(calls)
        assert reason == plain.finish_reason
        found = max(found, len(told))
        alone = chat(client, parallel_tool_calls=False, **asked, **how).choices[0]
        assert len(alone.message.tool_calls) == 1
        assert alone.finish_reason == "tool_calls"
        assert alone.message.tool_calls[0].function == told[0]
    assert found > 1


TOLD = """{% if tools %}{{ tools | tojson }}
{% endif %}{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}
MARK {{ c | tojson }}{% endfor %}{% endif %}
{% endfor %}assistant: """


@pytest.mark.parametrize("mark", ["[TOOL_CALLS]", "[TOOL_CALLS][ARGS]", "<|tool_call|>"])
def test_other_families_calls_are_found(hub, client, mark):
    """A template says which form its family has: Mistral's two, Granite's."""
    hub.ask("POST", "/api/create", 200, json={
        "model": "family", "from": MODEL, "template": TOLD.replace("MARK", mark), "stream": False,
    })
    cities = [{"role": "user", "content": "How warm is it in Paris, and how warm in Rome?"}]
    asked = {"model": "family", "messages": cities, "tools": [WEATHER], "tool_choice": "required"}
    try:
        for seed in range(3):
            how = {"temperature": 0.9, "seed": seed, "max_tokens": 150}
            plain = chat(client, **asked, **how).choices[0]
            told = [call.function for call in plain.message.tool_calls]
            calls, text, reason, pieces = put_together(chat(client, stream=True, **asked, **how))
            assert [call["arguments"] for call in calls] == [call.arguments for call in told]
            assert {call["name"] for call in calls} == {"get_weather"}
            assert not text and plain.message.content is None
            assert reason == plain.finish_reason and pieces > 3 * len(calls)
            one = chat(client, parallel_tool_calls=False, **asked, **how).choices[0]
            assert len(one.message.tool_calls) == 1 and one.finish_reason == "tool_calls"
            assert set(json.loads(one.message.tool_calls[0].function.arguments)) == {"city"}
            # what comes back is told, whatever its id
            call = one.message.tool_calls[0]
            answered = [
                *cities, one.message, {"role": "tool", "tool_call_id": call.id, "content": "22"}
            ]
            assert chat(client, model="family", messages=answered, tools=[WEATHER]).choices
    finally:
        hub.ask("DELETE", "/api/delete", 200, json={"model": "family"})


def test_a_prefix_is_computed_once_and_answers_stay_the_same(hub, client):
    history = [
        {"role": "system", "content": "You keep a lighthouse. " * 20},
        {"role": "user", "content": "Who are you?"},
    ]
    hub.ask("DELETE", "/inference/cache", 204)
    first = chat(client, messages=history, max_tokens=12)
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    again = chat(client, messages=history, max_tokens=12)
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens - 1
    assert again.choices[0].message.content == first.choices[0].message.content
    cold = chat(client, messages=history, max_tokens=12, extra_body={"cache_prompt": False})
    assert cold.usage.prompt_tokens_details.cached_tokens == 0
    assert cold.choices[0].message.content == first.choices[0].message.content
    longer = history + [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "And what do you see?"},
    ]
    cached = chat(client, messages=longer, max_tokens=12)
    assert cached.usage.prompt_tokens_details.cached_tokens > first.usage.prompt_tokens - 10
    assert cached.timings["cache_n"] == cached.usage.prompt_tokens_details.cached_tokens
    hub.ask("DELETE", "/inference/cache", 204)
    fresh = chat(client, messages=longer, max_tokens=12)
    assert fresh.usage.prompt_tokens_details.cached_tokens == 0
    assert fresh.choices[0].message.content == cached.choices[0].message.content
    assert "prefix_cache_hits_total" in hub.http.get("/metrics").text
