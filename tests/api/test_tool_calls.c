/* Calls of tools in streamed text: whatever the pieces it comes in, the same calls and the same
 * text. */
#include "api/tool_calls.h"
#include "base/rng.h"
#include "test.h"

enum { SEEN_BYTES = 1024 };

struct seen {
    char text[SEEN_BYTES]; /* texts as they are, calls as [index name arguments] */
    size_t arguments;      /* where the last call's begin */
};

static void on_text(void *ctx, const char *text, size_t n)
{
    struct seen *seen = ctx;
    const size_t at = strlen(seen->text);
    assert_true(at + n < sizeof seen->text);
    memcpy(seen->text + at, text, n);
    seen->text[at + n] = '\0';
}

static void on_call(void *ctx, int index, const char *name)
{
    struct seen *seen = ctx;
    char text[256];
    snprintf(text, sizeof text, "[%d %s ", index, name);
    on_text(ctx, text, strlen(text));
    seen->arguments = strlen(seen->text);
}

static void on_arguments(void *ctx, int index, const char *text, size_t n)
{
    (void)index;
    on_text(ctx, text, n);
}

static void on_call_end(void *ctx, int index, const char *name, const char *arguments)
{
    struct seen *seen = ctx;
    char text[256];
    snprintf(text, sizeof text, "[%d %s ", index, name);
    assert_string_equal(arguments, seen->text + seen->arguments);
    assert_memory_equal(seen->text + seen->arguments - strlen(text), text, strlen(text));
    on_text(ctx, "]", 1);
}

static void push_text(struct tool_parser *parser, const char *text,
                      const struct tool_events *events)
{
    tool_parser_push(parser, text, strlen(text), events);
}

static struct tool_events events_of(struct seen *seen)
{
    memset(seen, 0, sizeof *seen);
    return (struct tool_events){on_text, on_call, on_arguments, on_call_end, seen};
}

static const char HERMES[] = "hermes", LLAMA3[] = "llama3", MISTRAL[] = "mistral",
                  MISTRAL_ARGS[] = "mistral_args", GRANITE[] = "granite";

static const struct row {
    const char *format;
    const char *answer, *want;
} rows[] = {
    {HERMES, "plain text", "plain text"},
    {HERMES, "a < b <tool and </tool_call>", "a < b <tool and </tool_call>"},
    {HERMES, "<tool_call>\n{\"name\":\"f\",\"arguments\":{\"a\":1}}\n</tool_call>",
     "[0 f {\"a\":1}]"},
    {HERMES, "Sure.\n\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n",
     "Sure.[0 f {}]"},
    {HERMES,
     "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"g\","
     "\"parameters\":{\"s\":\"</tool\"}}</tool_call>",
     "[0 f {}][1 g {\"s\":\"</tool\"}]"},
    {HERMES,
     "<tool_call>[{\"name\":\"f\",\"arguments\":{}},{\"name\":\"g\",\"arguments\":{}}]</tool_call>",
     "[0 f {}][1 g {}]"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":2}}", "[0 f {\"x\":2}]"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"argu", "<tool_call>{\"name\":\"f\",\"argu"},
    {HERMES, "<tool_call>no json</tool_call> more", "<tool_call>no json</tool_call> more"},
    {HERMES, "<tool_call>{\"name\":1,\"arguments\":{}}</tool_call>",
     "<tool_call>{\"name\":1,\"arguments\":{}}</tool_call>"},
    {HERMES, "<tool_call>[]</tool_call>", "<tool_call>[]</tool_call>"},
    {HERMES,
     "<tool_call>{\"name\":\"f\",\"arguments\":{}}<tool_call>{\"name\":\"g\",\"arguments\":{}}</"
     "tool_call>",
     "[0 f {}][1 g {}]"},
    {HERMES, "<tool_c", "<tool_c"},
    {HERMES, "  ", "  "},
    {LLAMA3, "{\"name\":\"f\",\"parameters\":{\"a\":\"}\"}}", "[0 f {\"a\":\"}\"}]"},
    {LLAMA3, "{\"name\":\"f\",\"parameters\":{}}; {\"name\":\"g\",\"parameters\":{}}",
     "[0 f {}][1 g {}]"},
    {LLAMA3, "Hello {\"name\":\"f\",\"parameters\":{}}",
     "Hello {\"name\":\"f\",\"parameters\":{}}"},
    {LLAMA3, "{\"answer\":42}", "{\"answer\":42}"},
    {LLAMA3, "{\"name\":\"f\",\"para", "{\"name\":\"f\",\"para"},
    {LLAMA3, "\n{\"name\":\"f\",\"parameters\":{}}\n", "[0 f {}]"},
    /* arguments are what the model wrote */
    {HERMES,
     "<tool_call>\n{ \"name\" : \"f\" , \"arguments\" : { \"a\":\t1e2, \"a\": \"\\u00e9 \\\" }\" } "
     "}"
     "\n</tool_call>",
     "[0 f { \"a\":\t1e2, \"a\": \"\\u00e9 \\\" }\" }]"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{\"s\":\"</tool_call>\"}}</tool_call> so",
     "[0 f {\"s\":\"</tool_call>\"}] so"},
    {LLAMA3, "{\"name\":\"f\",\"arguments\":{\"a\":{\"b\":[{}]}},\"id\":{\"}\":1}}",
     "[0 f {\"a\":{\"b\":[{}]}}]"},
    /* another order or an escape: whole, at its end */
    {HERMES, "<tool_call>{\"arguments\": {\"a\": 1.50}, \"name\": \"f\"}</tool_call>",
     "[0 f {\"a\":1.5}]"},
    {HERMES, "<tool_call>{\"name\":\"\\u0066\",\"arguments\":{ }}</tool_call>", "[0 f {}]"},
    {LLAMA3, "{\"type\":\"function\",\"name\":\"f\",\"parameters\":{ }}", "[0 f {}]"},
    /* broken behind the point of no return: what there is */
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\": [1", "[0 f {\"a\": [1]"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\": oops}}</tool_call> so",
     "[0 f {\"a\": oops}] so"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1</tool_call> so",
     "[0 f {\"a\":1] so"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":\"x</tool_call> so",
     "[0 f {\"a\":\"x</tool_call> so]"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}</tool_call>", "[0 f {\"a\":1}]"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{}}}</tool_call>", "[0 f {}]"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{}}} and", "[0 f {}]} and"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{},\"x\":</tool_call> so", "[0 f {}] so"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{}}\n</tool_c", "[0 f {}]"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool", "[0 f {}]"},
    {MISTRAL_ARGS, "[TOOL_CALLS]f[ARGS]{}[TOOL", "[0 f {}]"},
    {LLAMA3, "{\"name\":\"f\",\"parameters\":{\"a\":", "[0 f {\"a\":]"},
    {LLAMA3, "{\"name\":\"f\",\"parameters\":{} so", "[0 f {}] so"},
    {LLAMA3, "{\"name\":\"f\",\"parameters\":{},\"x\":", "[0 f {}]"},
    /* before it: text, and a call behind it is one */
    {HERMES,
     "<tool_call>{\"name\":\"f</tool_call><tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>",
     "<tool_call>{\"name\":\"f</tool_call>[0 g {}]"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":[]}</tool_call>",
     "<tool_call>{\"name\":\"f\",\"arguments\":[]}</tool_call>"},
    {HERMES, "<tool_call>{\"name\":\"f\",\"arguments\":{}}\n{\"name\":\"g\",\"arguments\":{}}",
     "[0 f {}][1 g {}]"},
    {HERMES, "<tool_call>[{\"name\":\"f\",\"arguments\":{}}, {\"no\": 1}]</tool_call>", "[0 f {}]"},
    {LLAMA3, "{\"name\":\"f\",\"parameters\":{}}; {\"no\": 1}", "[0 f {}]; {\"no\": 1}"},
    /* a list up to the end */
    {MISTRAL,
     "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": [1]}, \"id\": \"a1\"}, {\"name\": "
     "\"g\", "
     "\"arguments\": {}}]",
     "[0 f {\"a\": [1]}][1 g {}]"},
    {MISTRAL, "So: [TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}] done", "So:[0 f {}]done"},
    {MISTRAL, "[TOOL_CALLS]{\"name\": \"f\", \"arguments\": {}}", "[0 f {}]"},
    {MISTRAL, "[1] and [TOOL_CALLS][{\"no\": 1}]", "[1] and[TOOL_CALLS][{\"no\": 1}]"},
    {MISTRAL, "[TOOL_CALLS] no [TOOL_CALLS][{\"name\": \"f\", \"arguments\": {",
     "[TOOL_CALLS] no[0 f {]"},
    {MISTRAL, "[TOOL_CALLS][", "[TOOL_CALLS]["},
    {GRANITE, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\": \"<|\"}}]",
     "[0 f {\"a\": \"<|\"}]"},
    {GRANITE, "<|tool_call|>[{\"arguments\": {}, \"name\": \"f\"}]", "[0 f {}]"},
    {GRANITE, "<|tool_call|>[]", "<|tool_call|>[]"},
    /* bare names */
    {MISTRAL_ARGS, "[TOOL_CALLS]get_it[ARGS]{\"a\": {}}[TOOL_CALLS]g[ARGS]{}",
     "[0 get_it {\"a\": {}}][1 g {}]"},
    {MISTRAL_ARGS, "[TOOL_CALLS]f[CALL_ID]a1B[ARGS]{\"a\": \"}\"} so", "[0 f {\"a\": \"}\"}]so"},
    {MISTRAL_ARGS, "[TOOL_CALLS]f{\"a\":1} and {b}", "[0 f {\"a\":1}]and {b}"},
    {MISTRAL_ARGS, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}]", "[0 f {}]"},
    {MISTRAL_ARGS, "[TOOL_CALLS]f[ARGS]{\"a\":", "[0 f {\"a\":]"},
    {MISTRAL_ARGS, "[TOOL_CALLS]f[AR", "[TOOL_CALLS]f[AR"},
    {MISTRAL_ARGS, "[TOOL_CALLS]f: {} so", "[TOOL_CALLS]f: {} so"},
};

static size_t below(uint64_t *random, size_t n)
{
    return (size_t)(rng_uniform(5, RNG_SAMPLE, 0, (*random)++) * (float)n);
}

/* Pieces of `step` bytes, or of 1 to 9 as `random` says. */
static void parse(struct seen *seen, const char *format, const char *text, size_t n, size_t step,
                  uint64_t *random)
{
    const struct tool_events events = events_of(seen);
    struct tool_parser parser;
    tool_parser_init(&parser);
    parser.format = tool_format_named(format);
    for (size_t at = 0; at < n; at += step) {
        step = random != NULL ? 1 + below(random, 9) : step;
        tool_parser_push(&parser, text + at, n - at < step ? n - at : step, &events);
    }
    tool_parser_end(&parser, &events);
    tool_parser_release(&parser);
}

static void calls_are_found_whatever_the_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const size_t n = strlen(rows[i].answer);
        for (size_t step = 1; step <= n; step++) {
            struct seen seen;
            parse(&seen, rows[i].format, rows[i].answer, n, step, NULL);
            if (strcmp(seen.text, rows[i].want) != 0) {
                fail_msg("row %zu in steps of %zu: %s", i, step, seen.text);
            }
        }
    }
}

/* Whatever the text: rows put behind each other, with some of their bytes changed. */
static void broken_calls_are_the_same_in_all_pieces(void **state)
{
    (void)state;
    enum { N_ROWS = sizeof rows / sizeof rows[0], ROUNDS = 20000 };
    static const char odd[] = "{}[]\"\\<>/, :x\n";
    uint64_t random = 0;
    for (int round = 0; round < ROUNDS; round++) {
        char text[SEEN_BYTES];
        struct seen whole;
        struct seen pieces;
        snprintf(text, sizeof text, "%s%s", rows[below(&random, N_ROWS)].answer,
                 rows[below(&random, N_ROWS)].answer);
        const size_t n = 1 + below(&random, strlen(text));
        for (size_t i = below(&random, 4); i > 0; i--) {
            text[below(&random, n)] = odd[below(&random, sizeof odd - 1)];
        }
        const char *format = rows[below(&random, N_ROWS)].format;
        parse(&whole, format, text, n, n, NULL);
        parse(&pieces, format, text, n, 1, NULL);
        assert_string_equal(pieces.text, whole.text);
        parse(&pieces, format, text, n, 1, &random);
        assert_string_equal(pieces.text, whole.text);
    }
}

static void a_call_is_told_while_it_is_written(void **state)
{
    (void)state;
    struct seen seen;
    const struct tool_events events = events_of(&seen);
    struct tool_parser parser;
    static const struct {
        const char *format, *begin;
    } begins[] = {
        {HERMES, "<tool_call>\n{\"name\": \"f\", \"arguments\":"},
        {LLAMA3, "{\"name\": \"f\", \"parameters\":"},
        {MISTRAL, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\":"},
        {MISTRAL_ARGS, "[TOOL_CALLS]f[ARGS]"},
        {GRANITE, "<|tool_call|>[{\"name\": \"f\", \"arguments\":"},
    };
    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++) {
        seen.text[0] = '\0';
        tool_parser_init(&parser);
        parser.format = tool_format_named(begins[i].format);
        push_text(&parser, begins[i].begin, &events);
        assert_string_equal(seen.text, "");
        push_text(&parser, " {\"ci", &events);
        assert_string_equal(seen.text, "[0 f {\"ci");
        push_text(&parser, "ty\": \"Rome\"", &events);
        assert_string_equal(seen.text, "[0 f {\"city\": \"Rome\"");
        assert_false(parser.cut);
        tool_parser_end(&parser, &events);
        assert_string_equal(seen.text, "[0 f {\"city\": \"Rome\"]");
        assert_true(parser.cut);
        tool_parser_release(&parser);
    }
}

static void plain_text_is_not_held_back(void **state)
{
    (void)state;
    struct seen seen;
    const struct tool_events events = events_of(&seen);
    struct tool_parser parser;
    tool_parser_init(&parser);
    push_text(&parser, "one <", &events);
    assert_string_equal(seen.text, "one");
    push_text(&parser, "two", &events);
    assert_string_equal(seen.text, "one <two");
    tool_parser_end(&parser, &events);
    tool_parser_release(&parser);
}

static void an_endless_call_is_text_in_the_end(void **state)
{
    (void)state;
    static char piece[4096];
    struct seen seen;
    const struct tool_events events = events_of(&seen);
    struct tool_parser parser;
    memset(piece, 'x', sizeof piece);
    tool_parser_init(&parser);
    parser.held.bytes_max = 64;
    push_text(&parser, "<tool_call>", &events);
    tool_parser_push(&parser, piece, 100, &events);
    push_text(&parser, "y", &events);
    tool_parser_end(&parser, &events);
    tool_parser_release(&parser);
    assert_int_equal(strlen(seen.text), 112);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_found_whatever_the_pieces),
        cmocka_unit_test(broken_calls_are_the_same_in_all_pieces),
        cmocka_unit_test(a_call_is_told_while_it_is_written),
        cmocka_unit_test(plain_text_is_not_held_back),
        cmocka_unit_test(an_endless_call_is_text_in_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
