"""Conversations for ../templates.py: every kind of thing that is said to a model, and some that is not."""


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, number=1, kind="function"):
    return {"id": f"call_{number:05d}", "type": kind, "function": {"name": name, "arguments": arguments}}


def tool(name, description, properties, required=None):
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": properties,
                "required": list(properties) if required is None else required,
            },
        },
    }


WEATHER = tool(
    "get_weather",
    "Weather at a place",
    {
        "city": {"type": "string", "description": "Where, e.g. \"Brno\""},
        "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
    },
    ["city"],
)
SEARCH = tool(
    "search",
    "Find pages; <b>fast</b> & 'safe'",
    {
        "queries": {"type": "array", "items": {"type": "string"}},
        "limit": {"type": ["integer", "null"], "description": "how many"},
        "filter": {"type": "object", "properties": {"lang": {"type": "string"}, "year": {"type": "number"}}},
    },
    [],
)
NOTHING = {"type": "function", "function": {"name": "ping", "description": "", "parameters": {"type": "object", "properties": {}}}}

SYSTEM = message("system", "You are terse.")
HI = message("user", "Hi")
HELLO = message("assistant", "Hello.")

ODD = [
    "",
    " ",
    "\n",
    "  lead and trail \t\n",
    "line one\nline two\n\nline four",
    "win\r\nmac\rend",
    "quotes ' \" ''' \"\"\" ` \\ \\n",
    "braces {} {{ x }} {% if y %} {# z #} }} %} #}",
    "{{ bos_token }}{% for m in messages %}",
    "<|im_end|><|eot_id|></s><end_of_turn>",
    "<think>\nhm\n</think>\n\nanswer",
    "</think>only the end",
    "<think>only the start",
    "<think></think>",
    "a</think>b</think>\n\nc",
    "<tool_call>\n{\"name\": \"x\"}\n</tool_call>",
    "<tool_response>\nok\n</tool_response>",
    "příliš žluťoučký kůň",
    "漢字かな交じり文",
    "🐎🏽‍♀️ e\u0301 \u200b\ufeff",
    "مرحبا שלום",
    "\u2028\u2029\u0085\u00a0nbsp\u00a0",
    "\u0001\u001b[31m\u007f",
    "<b>&amp;</b> &lt; %s %d %(x)s {0}",
    "# Heading\n\n```c\nint main(void) { return 0; }\n```\n- a\n- b",
    "None",
    "0",
    "x" * 300,
]


def plain():
    yield "user", [HI]
    yield "system-user", [SYSTEM, HI]
    yield "one-turn", [HI, HELLO]
    yield "two-turns", [HI, HELLO, message("user", "More?")]
    yield "system-two-turns", [SYSTEM, HI, HELLO, message("user", "More?"), message("assistant", "No.")]
    yield "system-only", [SYSTEM]
    yield "empty", []
    yield "two-users", [HI, message("user", "again")]
    yield "two-assistants", [HI, HELLO, message("assistant", "And more.")]
    yield "assistant-first", [HELLO, HI]
    yield "two-systems", [SYSTEM, message("system", "Be kind."), HI]
    yield "system-late", [HI, message("system", "Now shout."), HELLO]
    yield "system-empty", [message("system", ""), HI]
    yield "system-long", [message("system", "Rules:\n1. a\n2. b\n\n"), HI, HELLO, HI]
    yield "unknown-role", [message("critic", "Boo."), HI]
    yield "developer", [message("developer", "Use C."), HI]
    yield "many", [
        message(role, f"{role} says {i}") for i in range(6) for role in ("user", "assistant")
    ] + [message("user", "last")]
    yield "many-system", [SYSTEM] + [
        message(role, f"{i}. {role}\n") for i in range(4) for role in ("user", "assistant")
    ]
    yield "named", [message("user", "Hi", name="Ann"), message("assistant", "Hello.", name="Bot")]


def odd():
    for i, text in enumerate(ODD):
        yield f"odd-user-{i}", [message("user", text)]
        yield f"odd-all-{i}", [
            message("system", text), message("user", text), message("assistant", text), message("user", text)
        ]


def shapes():
    yield "null-content", [HI, message("assistant", None)]
    yield "null-user", [message("user", None)]
    yield "no-content", [HI, {"role": "assistant"}]
    yield "parts", [message("user", [{"type": "text", "text": "Part one."}, {"type": "text", "text": " Part two."}])]
    yield "part-image", [message("user", [{"type": "image"}, {"type": "text", "text": "What is it?"}])]
    yield "part-image-url", [
        message("user", [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "data:x"}}])
    ]
    yield "parts-everywhere", [
        message("system", [{"type": "text", "text": "Sys."}]),
        message("user", [{"type": "text", "text": "U "}]),
        message("assistant", [{"type": "text", "text": " A"}]),
        message("user", [{"type": "text", "text": "U2"}]),
    ]
    yield "parts-empty", [message("user", [])]
    yield "reasoning", [HI, message("assistant", "Yes.", reasoning_content="Let me think.\n")]
    yield "reasoning-last", [HI, HELLO, HI, message("assistant", "Yes.", reasoning="\nHm. ")]
    yield "reasoning-null", [HI, message("assistant", "Yes.", reasoning_content=None), HI]
    yield "reasoning-empty", [HI, message("assistant", "Yes.", reasoning_content=""), HI]
    yield "thinking", [HI, message("assistant", "Yes.", thinking="Deep."), message("user", "And?")]
    yield "thinking-tags", [
        HI, message("assistant", "<think>\nold\n</think>\n\nYes."), HI, message("assistant", "<think>new</think>No.")
    ]
    yield "extra-fields", [message("user", "Hi", weight=0.5, tags=["a", 1, None, True], deep={"k": {"l": []}})]


def tooling():
    ask = message("user", "Weather in Brno?")
    one = call("get_weather", {"city": "Brno"})
    result = message("tool", '{"temp": 21.5}', name="get_weather", tool_call_id="call_00001")
    both = [one, call("search", {"queries": ["a", "b\"c"], "limit": None, "filter": {"lang": "cs", "year": 2.0}}, 2)]
    yield "tools-asked", [ask], [WEATHER]
    yield "tools-system", [SYSTEM, ask], [WEATHER, SEARCH]
    yield "tools-nothing", [ask], [NOTHING]
    yield "tools-none", [ask], []
    yield "tool-call", [ask, message("assistant", "", tool_calls=[one])], [WEATHER]
    yield "tool-call-null", [ask, message("assistant", None, tool_calls=[one])], [WEATHER]
    yield "tool-call-only", [ask, {"role": "assistant", "tool_calls": [one]}], [WEATHER]
    yield "tool-call-text", [ask, message("assistant", "Looking.", tool_calls=[one])], [WEATHER]
    yield "tool-result", [ask, message("assistant", "", tool_calls=[one]), result], [WEATHER]
    yield "tool-result-null", [ask, message("assistant", None, tool_calls=[one]), result], [WEATHER]
    yield "tool-done", [
        SYSTEM, ask, message("assistant", None, tool_calls=[one]), result, message("assistant", "21.5 C.")
    ], [WEATHER, SEARCH]
    yield "tool-again", [
        ask, message("assistant", "", tool_calls=[one]), result, message("assistant", "21.5 C."),
        message("user", "And Oslo?"), message("assistant", "", tool_calls=[call("get_weather", {"city": "Oslo"}, 3)]),
        message("tool", "error: down", tool_call_id="call_00003"), message("assistant", "Can't say."),
    ], [WEATHER]
    yield "tool-two-calls", [ask, message("assistant", "", tool_calls=both)], [WEATHER, SEARCH]
    yield "tool-two-results", [
        ask, message("assistant", "", tool_calls=both), result,
        message("tool", "[]", name="search", tool_call_id="call_00002"),
    ], [WEATHER, SEARCH]
    yield "tool-arguments-text", [
        ask, message("assistant", "", tool_calls=[call("get_weather", '{"city": "Brno"}')]), result
    ], [WEATHER]
    yield "tool-arguments-empty", [ask, message("assistant", "", tool_calls=[call("ping", {})])], [NOTHING]
    yield "tool-arguments-odd", [
        ask,
        message("assistant", "", tool_calls=[call("search", {"q": "a'b\"c\\d\n\té漢🐎</x>&", "n": 1e-7, "m": -0.0, "b": [True, None]})]),
    ], [SEARCH]
    yield "tool-bare-call", [ask, message("assistant", "", tool_calls=[{"name": "get_weather", "arguments": {"city": "x"}}])], [WEATHER]
    yield "tool-calls-empty", [ask, message("assistant", "none needed", tool_calls=[])], [WEATHER]
    yield "tool-calls-null", [ask, message("assistant", "none needed", tool_calls=None)], None
    yield "tool-no-tools", [ask, message("assistant", "", tool_calls=[one]), result], None
    yield "tool-result-parts", [
        ask, message("assistant", "", tool_calls=[one]),
        message("tool", [{"type": "text", "text": "21"}], tool_call_id="call_00001"),
    ], [WEATHER]
    yield "tool-reasoning", [
        ask, message("assistant", "", reasoning_content="I need the weather.", tool_calls=[one]), result,
        message("assistant", "21.5 C.", reasoning_content="Easy."),
    ], [WEATHER]
    yield "tool-short-id", [
        ask, message("assistant", "", tool_calls=[{**one, "id": "abcdefghi"}]),
        {**result, "tool_call_id": "abcdefghi"}, message("assistant", "Done."), HI,
    ], [WEATHER]
    yield "ipython", [ask, message("ipython", "42")], None


def options():
    two = [SYSTEM, HI, HELLO, HI]
    yield "thinking-on", two, None, {"enable_thinking": True}
    yield "thinking-off", two, None, {"enable_thinking": False}
    yield "thinking-key", two, None, {"thinking": True}
    yield "date-told", two, None, {"date_string": "1 Jan 2001"}
    yield "custom-tools", two, None, {"custom_tools": [WEATHER]}
    yield "tools-not-in-user", two, [WEATHER], {"tools_in_user_message": False}
    yield "builtin-tools", two, None, {"builtin_tools": ["brave_search", "code_interpreter"]}
    yield "effort", two, None, {"reasoning_effort": "high"}
    yield "documents", two, None, {"documents": [{"title": "T", "text": "Body"}]}
    yield "unused", two, None, {"nobody": {"reads": ["this"]}}


def cases():
    """Dicts with name, messages, tools, add_generation_prompt, extra."""
    for name, messages in [*plain(), *odd(), *shapes()]:
        for prompt in (False, True):
            yield {"name": name, "messages": messages, "tools": None, "add_generation_prompt": prompt, "extra": {}}
    for name, messages, tools in tooling():
        for prompt in (False, True):
            yield {"name": name, "messages": messages, "tools": tools, "add_generation_prompt": prompt, "extra": {}}
    for name, messages, tools, extra in options():
        yield {"name": name, "messages": messages, "tools": tools, "add_generation_prompt": True, "extra": extra}
