"""Whatever a model says under a schema satisfies it, as an independent validator reads it."""

import json
import pathlib

import jsonschema
import pytest

from conftest import ROOT

TINY = ROOT / "tests" / "fixtures" / "train" / "base"
SCHEMAS = (pathlib.Path(__file__).parent / "schemas.jsonl").read_text().splitlines()
SEEDS = range(3)


@pytest.fixture(scope="module")
def tiny(hub):
    hub.ask("POST", "/base-models/import", 201, json={"path": str(TINY), "as": "schema/base"})
    return hub


@pytest.mark.parametrize("line", SCHEMAS)
def test_answers_satisfy_the_schema(tiny, line):
    schema = json.loads(line)
    checker = jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    finished = 0
    for seed in SEEDS:
        body = {
            "model": "schema/base",
            "messages": [{"role": "user", "content": "Say it."}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "s", "schema": schema},
            },
            "temperature": 2.0,
            "top_k": 0,
            "top_p": 1,
            "min_p": 0,
            "seed": seed,
            "max_tokens": 400,
        }
        choice = tiny.ask("POST", "/v1/chat/completions", 200, json=body)["choices"][0]
        if choice["finish_reason"] == "stop":
            finished += 1
            checker.validate(json.loads(choice["message"]["content"]))
    assert finished > 0 or "pattern" in line or "$ref" in line
