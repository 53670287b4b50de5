"""Golden files of the chat templates: what jinja2 makes of them under transformers.

  language.json    {context, cases: [[source, output or null]…]}: snippets of the language, null
                   where jinja2 raises an error (at compile time or when run)
  talks.json       [case…]: conversations, as template_render takes them
  models/NAME.json {origin, source, bos_token, eos_token, outputs: [text or null…]}: a published
                   template and its output for each case of talks.json, null for an error
  published.json   [{name, source, digests: [hex or null…]}…]: many more published templates; of
                   each output only the first 16 digits of its SHA-256 are kept

The sources are kept in these files: they are read from there and the outputs are made again. So
running this needs none of the packages that they came from; `origin` says which those were.
The environment is transformers' own; only its clock is set to DATE.
"""

import datetime
import hashlib
import json
import pathlib

import transformers.utils.chat_template_utils as chat
from template_cases import snippets, talks

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "text" / "templates"
DATE = datetime.datetime(2024, 7, 26)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return DATE


chat.datetime = Clock


def copy(value):
    return json.loads(json.dumps(value))


def attempt(render):
    """The text, or None where rendering fails, be it for lack of a stack or of a character."""
    try:
        text = render()
        text.encode()
        return text
    except Exception:
        return None


def render_snippet(source: str):
    return attempt(
        lambda: chat._compile_jinja_template(source).render(
            messages=[], tools=None, documents=None, add_generation_prompt=False, **copy(snippets.CONTEXT)
        )
    )


def render_talk(template: dict, case: dict):
    extra = copy(case["extra"])
    documents = extra.pop("documents", None)
    for name in ("bos_token", "eos_token"):
        if template.get(name) is not None:
            extra.setdefault(name, template[name])
    return attempt(
        lambda: chat.render_jinja_template(
            [copy(case["messages"])],
            tools=copy(case["tools"]),
            documents=documents,
            chat_template=template["source"],
            add_generation_prompt=case["add_generation_prompt"],
            **extra,
        )[0][0]
    )


def digest(text):
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()[:16]


def write(name: str, value) -> None:
    """One item a line, so that a change shows as one."""
    if isinstance(value, dict):
        parts = []
        for key, item in value.items():
            if isinstance(item, list):
                lines = ",\n".join(json.dumps(x, ensure_ascii=False) for x in item)
                parts.append(f"{json.dumps(key)}: [\n{lines}\n]")
            else:
                parts.append(f"{json.dumps(key)}: {json.dumps(item, ensure_ascii=False)}")
        text = "{\n" + ",\n".join(parts) + "\n}\n"
    else:
        text = "[\n" + ",\n".join(json.dumps(x, ensure_ascii=False) for x in value) + "\n]\n"
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def read(path: pathlib.Path):
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    cases = list(talks.cases())
    write("talks.json", cases)
    sources = snippets.cases()
    write("language.json", {
        "context": snippets.CONTEXT,
        "cases": [[source, render_snippet(source)] for source in sources],
    })
    for path in sorted((OUT / "models").glob("*.json")):
        template = read(path)
        template["outputs"] = [render_talk(template, case) for case in cases]
        write(f"models/{path.name}", template)
    published = read(OUT / "published.json")
    for template in published:
        template["digests"] = [digest(render_talk(template, case)) for case in cases]
    write("published.json", published)


if __name__ == "__main__":
    main()
