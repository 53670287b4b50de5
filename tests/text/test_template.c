/* The door of the templates: what it refuses, its limits, its errors, and failing allocations.
 * What templates mean is in test_template_golden.c. */
#include "test.h"

#include "base/json.h"
#include "text/jinja_render.h"
#include "text/template.h"
#include "text/worked.h"

static json_t *parse(const char *text)
{
    struct err err = {0};
    json_t *json = json_parse(text, strlen(text), &err);
    if (json == NULL)
        fail_msg("%s", err.message);
    return json;
}

static int compile(const char *source, struct template **t, struct err *err)
{
    return template_new(source, strlen(source), t, err);
}

/* Compiles and renders with one user message; the text is the caller's. */
static int render_source(const char *source, const char *date, struct buf *out, struct err *err)
{
    struct template *t = NULL;
    json_t *messages = parse("[{\"role\": \"user\", \"content\": \"Hi\"}]");
    struct template_input input = {.messages = messages, .date = date};
    int rc = compile(source, &t, err);
    if (rc == 0)
        rc = template_render(t, &input, out, err);
    template_free(t);
    json_decref(messages);
    return rc;
}

static void expect_text(const char *source, const char *want)
{
    struct err err = {0};
    struct buf out;
    buf_init(&out, TEMPLATE_OUTPUT_BYTES_MAX);
    assert_ok(render_source(source, NULL, &out, &err), &err);
    assert_string_equal(out.data != NULL ? out.data : "", want);
    buf_release(&out);
}

static void expect_error(const char *source, enum err_code code, const char *part)
{
    struct err err = {0};
    struct buf out;
    buf_init(&out, TEMPLATE_OUTPUT_BYTES_MAX);
    int rc = render_source(source, NULL, &out, &err);
    if (rc != -(int)code || err.code != code || strstr(err.message, part) == NULL)
        fail_msg("%.200s\n  want %s \"%s\", got %d %s \"%s\"", source, err_code_name(code), part,
                 rc, err_code_name(err.code), err.message);
    assert_int_equal(out.len, 0);
    buf_release(&out);
}

/* --- the door ------------------------------------------------------------------------------ */
static void renders_and_appends(void **state)
{
    (void)state;
    struct err err = {0};
    struct template *t = NULL;
    struct buf out;
    json_t *messages = parse("[{\"role\": \"user\", \"content\": \"Hi\"}]");
    struct template_input input = {.messages = messages, .add_generation_prompt = true};
    size_t length = 0;
    buf_init(&out, 1000);
    buf_puts(&out, "before ");
    assert_ok(compile(template_plain, &t, &err), &err);
    assert_ok(template_render(t, &input, &out, &err), &err);
    assert_string_equal(out.data, "before <|user|>\nHi\n<|assistant|>\n");
    assert_string_equal(template_source(t, &length), template_plain);
    assert_int_equal(length, strlen(template_plain));
    template_free(t);
    template_free(NULL);
    json_decref(messages);
    buf_release(&out);
}

static void keeps_the_ceiling_of_the_buffer(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf out;
    buf_init(&out, 8);
    assert_err(render_source("0123456789", NULL, &out, &err), &err, ERR_TOO_LARGE);
    buf_release(&out);
}

static void sees_no_more_than_its_input(void **state)
{
    (void)state;
    expect_text("{{ bos_token is defined }}{{ eos_token is defined }}{{ tools }}{{ documents }}"
                "{{ add_generation_prompt }}{{ strftime_now is defined }}",
                "FalseFalseNoneNoneFalseFalse");
    expect_text("{{ messages[0].__class__ }}|{{ ''.__class__ is defined }}", "|False");
}

static void tells_the_date_it_is_given(void **state)
{
    (void)state;
    static const struct {
        const char *date;
        const char *want; /* NULL: refused */
    } rows[] = {
        {"2024-02-29", "29 Feb 2024 Thu 060"},
        {"1999-12-31", "31 Dec 1999 Fri 365"},
        {"2000-01-01", "01 Jan 2000 Sat 001"},
        {"2023-02-29", NULL},
        {"2024-13-01", NULL},
        {"2024-00-10", NULL},
        {"2024-1-01", NULL},
        {"2024-01-01x", NULL},
        {"0000-01-01", NULL},
        {"", NULL},
        {"today", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct buf out;
        buf_init(&out, 100);
        int rc = render_source("{{ strftime_now('%d %b %Y %a %j') }}", rows[i].date, &out, &err);
        if (rows[i].want == NULL) {
            assert_err(rc, &err, ERR_INVALID);
        } else {
            assert_ok(rc, &err);
            assert_string_equal(out.data, rows[i].want);
        }
        buf_release(&out);
    }
}

static void refuses_bad_input(void **state)
{
    (void)state;
    static const struct {
        const char *messages, *tools, *extra;
        const char *part;
    } rows[] = {
        {"{}", "null", "null", "messages must be an array"},
        {"[1]", "null", "null", "messages[0] must be an object"},
        {"[{\"role\": \"user\"}, null]", "null", "null", "messages[1] must be an object"},
        {"[{\"role\": \"user\"}, {\"content\": \"x\"}]", "null", "null",
         "messages[1].role must be a string"},
        {"[{\"role\": 5}]", "null", "null", "messages[0].role must be a string"},
        {"[{\"role\": \"user\", \"content\": 5}]", "null", "null",
         "messages[0].content must be a string, an array or null"},
        {"[{\"role\": \"user\", \"content\": {}}]", "null", "null", "messages[0].content must be"},
        {"[]", "{}", "null", "tools must be an array"},
        {"[]", "[{}, \"x\"]", "null", "tools[1] must be an object"},
        {"[]", "null", "[]", "chat_template_kwargs must be an object"},
        {"[]", "null", "{\"messages\": []}", "chat_template_kwargs can't set messages"},
        {"[]", "null", "{\"tools\": []}", "chat_template_kwargs can't set messages"},
        {"[]", "null", "{\"add_generation_prompt\": true}", "chat_template_kwargs can't set"},
    };
    struct template *t = NULL;
    struct err err = {0};
    assert_ok(compile("x", &t, &err), &err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *messages = parse(rows[i].messages);
        json_t *tools = parse(rows[i].tools);
        json_t *extra = parse(rows[i].extra);
        struct template_input input = {.messages = messages, .tools = tools, .extra = extra};
        struct buf out;
        buf_init(&out, 100);
        int rc = template_render(t, &input, &out, &err);
        if (rc != -(int)ERR_INVALID || strstr(err.message, rows[i].part) == NULL)
            fail_msg("want \"%s\", got %d \"%s\"", rows[i].part, rc, err.message);
        err_clear(&err);
        buf_release(&out);
        json_decref(messages);
        json_decref(tools);
        json_decref(extra);
    }
    struct template_input broken = {.messages = NULL};
    struct buf out;
    buf_init(&out, 100);
    assert_err(template_render(t, &broken, &out, &err), &err, ERR_INVALID);
    json_t *messages = parse("[]");
    broken = (struct template_input){.messages = messages, .bos_token = "\xff"};
    assert_err(template_render(t, &broken, &out, &err), &err, ERR_INVALID);
    json_decref(messages);
    buf_release(&out);
    template_free(t);
}

static void offers_reasoning_under_its_names(void **state)
{
    (void)state;
    static const char source[] =
        "{% for m in messages %}{{ m.reasoning_content }}/{{ m.thinking }};{% endfor %}";
    json_t *messages = parse("[{\"role\": \"a\", \"reasoning\": \"r\"},"
                             "{\"role\": \"a\", \"thinking\": \"t\", \"reasoning\": \"r\"},"
                             "{\"role\": \"a\", \"reasoning_content\": null, \"reasoning\": \"r\"},"
                             "{\"role\": \"a\"}]");
    struct template_input input = {.messages = messages};
    struct template *t = NULL;
    struct err err = {0};
    struct buf out;
    buf_init(&out, 100);
    assert_ok(compile(source, &t, &err), &err);
    assert_ok(template_render(t, &input, &out, &err), &err);
    assert_string_equal(out.data, "r/r;t/t;r/r;/;");
    buf_release(&out);
    template_free(t);
    json_decref(messages);
}

/* Nothing changes for a template that knows what to do without a content. */
static void a_message_of_calls_alone_needs_no_content(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"{% for m in messages %}{{ 'x' in m.content }}{% if m.tool_calls %}!{% endif %};"
         "{% endfor %}",
         "True;False!;False!;"},
        {"{% for m in messages %}{{ m.content }};{% endfor %}", "x;None;;"},
    };
    json_t *messages = parse("[{\"role\": \"user\", \"content\": \"x\"},"
                             "{\"role\": \"a\", \"content\": null, \"tool_calls\": [{}]},"
                             "{\"role\": \"a\", \"tool_calls\": [{}]}]");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct template_input input = {.messages = messages, .fill_calls = true};
        struct template *t = NULL;
        struct err err = {0};
        struct buf out;
        buf_init(&out, 100);
        assert_ok(compile(rows[i][0], &t, &err), &err);
        assert_ok(template_render(t, &input, &out, &err), &err);
        assert_string_equal(out.data, rows[i][1]);
        buf_release(&out);
        template_free(t);
    }
    json_decref(messages);
    expect_error("{% for m in messages %}{{ m.tool_calls }}{{ 'x' in none }}{% endfor %}",
                 ERR_INVALID, "argument of type 'NoneType' is not iterable");
}

/* --- errors -------------------------------------------------------------------------------- */
static void errors_name_line_and_message(void **state)
{
    (void)state;
    expect_error("a\nb\n{% if x %}\n{% endfor %}", ERR_INVALID,
                 "template line 4: Encountered unknown tag 'endfor'");
    expect_error("\n\n{{ missing.x }}", ERR_INVALID, "template line 3: 'missing' is undefined");
    expect_error("{% set x = 1 %}\n{% for m in messages %}\n{{ m.content.nope.x }}{% endfor %}",
                 ERR_INVALID, "messages[0]: template line 3: 'str object' has no attribute 'nope'");
    expect_error("{{ raise_exception('Roles must alternate!') }}", ERR_INVALID,
                 "template line 1: Roles must alternate!");
    expect_error("{{ [].append(1) }}", ERR_INVALID,
                 "access to attribute 'append' of 'list' object is unsafe");
}

static void unsupported_is_found_at_compile_time(void **state)
{
    (void)state;
    static const struct {
        const char *source, *part;
    } rows[] = {
        {"{% extends 'x' %}", "the tag 'extends' is not supported"},
        {"{% include 'x' %}", "the tag 'include' is not supported"},
        {"{% import 'x' as y %}", "the tag 'import' is not supported"},
        {"{% from 'x' import y %}", "the tag 'from' is not supported"},
        {"{% block a %}{% endblock %}", "the tag 'block' is not supported"},
        {"{% autoescape true %}{% endautoescape %}", "the tag 'autoescape' is not supported"},
        {"{% if x %}{{ 'a'|urlize }}{% endif %}", "the filter 'urlize' is not supported"},
        {"{{ [1]|random }}", "the filter 'random' is not supported"},
        {"{{ 99999999999999999999 }}", "integers beyond 64 bits"},
        {"{{ '\\N{BULLET}' }}", "is not supported"},
        {"{{ '\\ud800' }}", "surrogates"},
        {"{{ x[1:2, 3] }}", "a slice in a tuple"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct template *t = NULL;
        struct err err = {0};
        int rc = compile(rows[i].source, &t, &err);
        if (rc != -(int)ERR_UNSUPPORTED || strstr(err.message, rows[i].part) == NULL)
            fail_msg("%s: got %d \"%s\"", rows[i].source, rc, err.message);
        assert_null(t);
    }
}

static void unsupported_when_run_says_so(void **state)
{
    (void)state;
    expect_error("{{ 9223372036854775807 + 1 }}", ERR_UNSUPPORTED, "beyond 64 bits");
    expect_error("{{ 2 ** 63 }}", ERR_UNSUPPORTED, "beyond 64 bits");
    expect_error("{{ 3037000500 * 3037000500 }}", ERR_UNSUPPORTED, "beyond 64 bits");
    expect_error("{{ '99999999999999999999'|int }}", ERR_UNSUPPORTED, "beyond 64 bits");
    expect_error("{{ (-8) ** 0.5 }}", ERR_UNSUPPORTED, "complex");
    expect_error("{{ 'a'.encode() }}", ERR_UNSUPPORTED, "str.encode is not supported");
    expect_error("{{ cycler('a') }}", ERR_UNSUPPORTED, "cycler");
    expect_error("{{ messages|map('pprint')|list }}", ERR_UNSUPPORTED, "'pprint'");
    expect_error("{{ messages|map('string') }}", ERR_INVALID, "a generator can't be printed");
}

static void refuses_bad_source(void **state)
{
    (void)state;
    struct template *t = NULL;
    struct err err = {0};
    assert_err(template_new("a\xff", 2, &t, &err), &err, ERR_INVALID);
    assert_err(template_new("\xed\xa0\x80", 3, &t, &err), &err, ERR_INVALID);
    char *big = malloc(TEMPLATE_SOURCE_BYTES_MAX + 1);
    memset(big, 'a', TEMPLATE_SOURCE_BYTES_MAX + 1);
    assert_err(template_new(big, TEMPLATE_SOURCE_BYTES_MAX + 1, &t, &err), &err, ERR_TOO_LARGE);
    assert_ok(template_new(big, TEMPLATE_SOURCE_BYTES_MAX, &t, &err), &err);
    template_free(t);
    free(big);
    assert_null(template_new("", 0, &t, &err) == 0 ? NULL : t);
    template_free(t);
}

/* --- limits -------------------------------------------------------------------------------- */
static void limits_end_in_errors(void **state)
{
    (void)state;
    static const struct {
        const char *source, *part;
    } rows[] = {
        /* steps */
        {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
         "more than 10000000 steps"},
        {"{% set s = 'ab' * 4000000 %}{% for a in range(100000) %}{% if 'ba' * 3 in s %}"
         "{% endif %}{{ s.rfind('c') }}{% endfor %}",
         "more than 10000000 steps"},
        {"{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}"
         "{% endfor %}{% set ns.y = [ns.x[0], ns.x[1]] %}{{ ns.x == [ns.y[1], [ns.y[0]]] }}"
         "{{ ns.x|string|length }}",
         "more than"},
        {"{{ ('a' * 4000000 ~ 'b').count('a' * 2000000 ~ 'b') }}{% set s = 'a' * 8000000 %}"
         "{% for i in range(100) %}{{ s.rfind('b' ~ 'a' * 4000000) }}{% endfor %}",
         "more than 10000000 steps"},
        /* output */
        {"{{ 'a' * 1000000000 }}", "too large"},
        {"{{ 1000000000 * 'a' }}", "too large"},
        {"{% for a in range(100000) %}{{ 'a' * 1000 }}{% endfor %}", "text of more than"},
        {"{% set ns = namespace(s='aaaaaaaa') %}{% for a in range(40) %}"
         "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
         "text of more than"},
        {"{% set s = 'a' * 10000000 %}{{ [s, s, s]|tojson|length }}", "text of more than"},
        {"{% set s = 'a' * 10000000 %}{{ s.replace('a', 'bbb') }}", "text of more than"},
        {"{{ 'a'.center(1000000000) }}", "text of more than"},
        {"{{ 'a'.ljust(1000000000) }}", "text of more than"},
        {"{{ '1'.zfill(1000000000) }}", "text of more than"},
        {"{{ 'a\tb'.expandtabs(1000000000) * 5000 }}", "too large"},
        {"{{ 'a\nb'|indent(1000000000) }}", "too large"},
        {"{{ [[[1]]]|tojson(indent=1000000000) }}", "too large"},
        {"{{ '%999999999d' % 1 }}", "too big"},
        {"{{ '%.999999999f' % 1 }}", "too big"},
        {"{{ '%*d' % (999999999, 1) }}", "too big"},
        {"{{ '{:999999999}'.format('a') }}", "too big"},
        {"{{ '{:.999999999f}'.format(1.0) }}", "too big"},
        /* memory */
        {"{{ [0] * 1000000000 }}", "too large"},
        {"{% set ns = namespace(l=[0]) %}{% for a in range(60) %}{% set ns.l = ns.l + ns.l %}"
         "{% endfor %}",
         "values take more than"},
        {"{% set ns = namespace(l=[]) %}{% for a in range(100000) %}"
         "{% set ns.l = [ns.l, [0] * 100] %}{% endfor %}",
         "values take more than"},
        {"{{ [1]|batch(1000000000, 0)|list|length }}", "too large"},
        {"{{ [1]|slice(1000000000)|list|length }}", "can't cut into"},
        {"{{ ('a,' * 4000000).split(',')|length }}", "more than"},
        {"{{ range(200000) }}", "Range too big"},
        {"{{ range(-9223372036854775807, 9223372036854775807) }}", "Range too big"},
        /* depth */
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls nested deeper"},
        {"{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
         "calls nested deeper"},
        {"{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", "calls nested deeper"},
        {"{% macro m() %}{% call m() %}{% endcall %}{{ caller }}{% endmacro %}{{ m() }}",
         "calls nested deeper"},
        {"{% set ns = namespace(l=[]) %}{% for a in range(5000) %}{% set ns.l = [ns.l] %}"
         "{% endfor %}{{ ns.l }}",
         "nested deeper"},
        {"{% set ns = namespace(l=[]) %}{% for a in range(5000) %}{% set ns.l = [ns.l] %}"
         "{% endfor %}{{ ns.l|tojson }}",
         "nested deeper"},
        {"{% set ns = namespace(l=[], m=[]) %}{% for a in range(5000) %}"
         "{% set ns.l = [ns.l] %}{% set ns.m = [ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
         "nested deeper"},
        {"{% set ns = namespace(l=()) %}{% for a in range(5000) %}{% set ns.l = (ns.l,) %}"
         "{% endfor %}{{ {ns.l: 1} }}",
         "nested deeper"},
        {"{% set ns = namespace(l=[]) %}{% for a in range(5000) %}{% set ns.l = [ns.l] %}"
         "{% endfor %}{{ [ns.l, ns.l]|sort }}",
         ""},
        {"{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}", "nested deeper"},
        {"{% set ns = namespace(g=[1]) %}{% for a in range(5000) %}"
         "{% set ns.g = ns.g|map('string') %}{% endfor %}{{ ns.g|list }}",
         "nested deeper"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        struct buf out;
        buf_init(&out, TEMPLATE_OUTPUT_BYTES_MAX);
        int rc = render_source(rows[i].source, NULL, &out, &err);
        bool free_pass = rows[i].part[0] == '\0'; /* may succeed, must only end */
        if (!free_pass && (rc != -(int)ERR_TOO_LARGE || !strstr(err.message, rows[i].part)))
            fail_msg("%s\n  want \"%s\", got %d \"%s\"", rows[i].source, rows[i].part, rc,
                     err.message);
        buf_release(&out);
    }
}

/* head, then `link` n times, then tail */
static char *repeat(const char *head, const char *link, size_t n, const char *tail)
{
    struct buf text;
    buf_init(&text, TEMPLATE_SOURCE_BYTES_MAX);
    buf_puts(&text, head);
    for (size_t i = 0; i < n; i++)
        buf_puts(&text, link);
    buf_puts(&text, tail);
    return buf_take(&text);
}

static void deep_source_is_refused(void **state)
{
    (void)state;
    static const char *const opens[] = {
        "{{ (",           "{{ [",
        "{{ {1:",         "{{ not ",
        "{{ -",           "{{ x(",
        "{{ x[",          "{{ x|f(",
        "{{ 1 if ",       "{{ 1 if 1 else ",
        "{% if 1 %}",     "{% for a in b %}",
        "{% set a %}",    "{% macro a() %}",
        "{% call a() %}", "{% filter upper %}",
        "{% with %}",     "{% generation %}",
    };
    for (size_t i = 0; i < sizeof opens / sizeof *opens; i++) {
        struct template *t = NULL;
        struct err err = {0};
        bool expression = opens[i][1] == '{';
        char *source = repeat(expression ? "{{ " : "", opens[i] + (expression ? 3 : 0), 20000, "");
        int rc = compile(source, &t, &err);
        if (rc == 0)
            fail_msg("%s… was accepted", opens[i]);
        template_free(t);
        mem_free(source);
    }
}

/* Chains that a parser could nest, but need not. */
static void long_chains_are_fine(void **state)
{
    (void)state;
    static const struct {
        const char *link, *head, *tail, *want;
        size_t n;
    } rows[] = {
        {"1 + ", "{{ ", "1 }}", "20001", 20000},
        {"'' ~ ", "{{ ", "'x' }}", "x", 20000},
        {"true and ", "{{ ", "5 }}", "5", 20000},
        {"false or ", "{{ ", "5 }}", "5", 20000},
        {"1 <= ", "{{ ", "1 }}", "True", 20000},
        {"1, ", "{{ [", "1]|length }}", "20001", 20000},
        {"{% elif 0 %}a", "{% if 0 %}", "{% else %}b{% endif %}", "b", 20000},
        {"{{ '' }}", "", "x", "x", 50000},
        {"{# c #}", "", "x", "x", 50000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *source = repeat(rows[i].head, rows[i].link, rows[i].n, rows[i].tail);
        expect_text(source, rows[i].want);
        mem_free(source);
    }
    char *source = repeat("{{ x", ".a", 20000, " }}");
    expect_error(source, ERR_TOO_LARGE, "expression nested too deeply");
    mem_free(source);
}

/* What a long conversation does: text and lists grow by a little each turn. */
static void growing_text_costs_no_square(void **state)
{
    (void)state;
    struct err err = {0};
    struct buf out;
    buf_init(&out, TEMPLATE_OUTPUT_BYTES_MAX);
    assert_ok(render_source("{% set ns = namespace(s='', l=[]) %}{% for i in range(20000) %}"
                            "{% set ns.s = ns.s + 'twenty bytes of text' %}"
                            "{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.s }}{{ ns.l|length }}",
                            NULL, &out, &err),
              &err);
    assert_int_equal(out.len, 20000 * 20 + 5);
    buf_release(&out);
}

/* --- failing allocations ------------------------------------------------------------------- */

static void every_allocation_may_fail(void **state)
{
    (void)state;
    json_t *messages = parse("[{\"role\": \"user\", \"content\": \"H\\u00e9\", \"c\": 1, "
                             "\"d\": [1, {}], \"e\": 2, \"f\": 3, \"g\": 4, \"h\": 5, \"i\": 6, "
                             "\"reasoning\": \"r\"}]");
    struct template_input input = {
        .messages = messages, .date = "2024-07-26", .bos_token = "<s>", .extra = NULL};
    bool done = false;
    size_t used = mem_used();
    for (uint64_t n = 1; !done; n++) {
        struct template *t = NULL;
        struct err err = {0};
        struct buf out;
        buf_init(&out, 1 << 20);
        fault_arm(FAULT_MALLOC, n, false);
        int rc = compile(worked, &t, &err);
        if (rc == 0)
            rc = template_render(t, &input, &out, &err);
        done = !fault_fired();
        fault_disarm();
        if (done) {
            assert_ok(rc, &err);
        } else {
            assert_int_equal(rc, -(int)ERR_NOMEM);
            assert_int_equal(err.code, ERR_NOMEM);
            assert_int_equal(out.len, 0);
        }
        buf_release(&out);
        template_free(t);
        assert_int_equal(mem_used(), used);
    }
    json_decref(messages);
}

static void steps_may_be_limited_further(void **state)
{
    (void)state;
    struct template *t = NULL;
    struct err err = {0};
    struct buf out;
    json_t *messages = parse("[]");
    struct template_input input = {.messages = messages};
    buf_init(&out, 1000);
    assert_ok(compile("{% for a in range(100) %}{{ a }}{% endfor %}", &t, &err), &err);
    assert_err(jinja_render(t, &input, 100, &out, &err), &err, ERR_TOO_LARGE);
    assert_ok(jinja_render(t, &input, 1000, &out, &err), &err);
    buf_release(&out);
    template_free(t);
    json_decref(messages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_and_appends),
        cmocka_unit_test(keeps_the_ceiling_of_the_buffer),
        cmocka_unit_test(sees_no_more_than_its_input),
        cmocka_unit_test(tells_the_date_it_is_given),
        cmocka_unit_test(refuses_bad_input),
        cmocka_unit_test(offers_reasoning_under_its_names),
        cmocka_unit_test(a_message_of_calls_alone_needs_no_content),
        cmocka_unit_test(errors_name_line_and_message),
        cmocka_unit_test(unsupported_is_found_at_compile_time),
        cmocka_unit_test(unsupported_when_run_says_so),
        cmocka_unit_test(refuses_bad_source),
        cmocka_unit_test(limits_end_in_errors),
        cmocka_unit_test(deep_source_is_refused),
        cmocka_unit_test(long_chains_are_fine),
        cmocka_unit_test(growing_text_costs_no_square),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(steps_may_be_limited_further),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
