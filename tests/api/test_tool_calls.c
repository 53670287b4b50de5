/* Calls of tools in streamed text: whatever the pieces it comes in, the same calls and the same
 * text. */
#include "api/tool_calls.h"
#include "base/json.h"
#include "test.h"

enum { SEEN_BYTES = 1024 };

struct seen {
    char text[SEEN_BYTES]; /* texts as they are, calls as [name arguments] */
};

static void on_text(void *ctx, const char *text, size_t n)
{
    struct seen *seen = ctx;
    const size_t at = strlen(seen->text);
    assert_true(at + n < sizeof seen->text);
    memcpy(seen->text + at, text, n);
    seen->text[at + n] = '\0';
}

static void on_call(void *ctx, int index, const char *name, const json_t *arguments)
{
    char text[256];
    char *json = json_dumps(arguments, JSON_COMPACT);
    snprintf(text, sizeof text, "[%d %s %s]", index, name, json);
    mem_free(json);
    on_text(ctx, text, strlen(text));
}

static const struct row {
    bool llama3;
    const char *answer, *want;
} rows[] = {
    {false, "plain text", "plain text"},
    {false, "a < b <tool and </tool_call>", "a < b <tool and </tool_call>"},
    {false, "<tool_call>\n{\"name\":\"f\",\"arguments\":{\"a\":1}}\n</tool_call>",
     "[0 f {\"a\":1}]"},
    {false, "Sure.\n\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n", "Sure.[0 f {}]"},
    {false,
     "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"g\","
     "\"parameters\":{\"s\":\"</tool\"}}</tool_call>",
     "[0 f {}][1 g {\"s\":\"</tool\"}]"},
    {false,
     "<tool_call>[{\"name\":\"f\",\"arguments\":{}},{\"name\":\"g\",\"arguments\":{}}]</tool_call>",
     "[0 f {}][1 g {}]"},
    {false, "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":2}}", "[0 f {\"x\":2}]"},
    {false, "<tool_call>{\"name\":\"f\",\"argu", "<tool_call>{\"name\":\"f\",\"argu"},
    {false, "<tool_call>no json</tool_call> more", "<tool_call>no json</tool_call> more"},
    {false, "<tool_call>{\"name\":1,\"arguments\":{}}</tool_call>",
     "<tool_call>{\"name\":1,\"arguments\":{}}</tool_call>"},
    {false, "<tool_call>[]</tool_call>", "<tool_call>[]</tool_call>"},
    {false, "<tool_c", "<tool_c"},
    {false, "  ", "  "},
    {true, "{\"name\":\"f\",\"parameters\":{\"a\":\"}\"}}", "[0 f {\"a\":\"}\"}]"},
    {true, "{\"name\":\"f\",\"parameters\":{}}; {\"name\":\"g\",\"parameters\":{}}",
     "[0 f {}][1 g {}]"},
    {true, "Hello {\"name\":\"f\",\"parameters\":{}}", "Hello {\"name\":\"f\",\"parameters\":{}}"},
    {true, "{\"answer\":42}", "{\"answer\":42}"},
    {true, "{\"name\":\"f\",\"para", "{\"name\":\"f\",\"para"},
    {true, "\n{\"name\":\"f\",\"parameters\":{}}\n", "[0 f {}]"},
};

static void calls_are_found_whatever_the_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const size_t n = strlen(rows[i].answer);
        for (size_t step = 1; step <= n; step++) {
            struct seen seen = {""};
            const struct tool_events events = {on_text, on_call, &seen};
            struct tool_parser parser;
            tool_parser_init(&parser, rows[i].llama3);
            for (size_t at = 0; at < n; at += step) {
                tool_parser_push(&parser, rows[i].answer + at, n - at < step ? n - at : step,
                                 &events);
            }
            tool_parser_end(&parser, &events);
            tool_parser_release(&parser);
            if (strcmp(seen.text, rows[i].want) != 0) {
                fail_msg("row %zu in steps of %zu: %s", i, step, seen.text);
            }
        }
    }
}

static void plain_text_is_not_held_back(void **state)
{
    (void)state;
    struct seen seen = {""};
    const struct tool_events events = {on_text, on_call, &seen};
    struct tool_parser parser;
    tool_parser_init(&parser, false);
    tool_parser_push(&parser, "one <", 5, &events);
    assert_string_equal(seen.text, "one");
    tool_parser_push(&parser, "two", 3, &events);
    assert_string_equal(seen.text, "one <two");
    tool_parser_end(&parser, &events);
    tool_parser_release(&parser);
}

static void an_endless_call_is_text_in_the_end(void **state)
{
    (void)state;
    static char piece[4096];
    struct seen seen = {""};
    struct tool_parser parser;
    memset(piece, 'x', sizeof piece);
    const struct tool_events events = {on_text, on_call, &seen};
    tool_parser_init(&parser, false);
    parser.held.bytes_max = 64;
    tool_parser_push(&parser, "<tool_call>", 11, &events);
    tool_parser_push(&parser, piece, 100, &events);
    tool_parser_push(&parser, "y", 1, &events);
    tool_parser_end(&parser, &events);
    tool_parser_release(&parser);
    assert_int_equal(strlen(seen.text), 112);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_found_whatever_the_pieces),
        cmocka_unit_test(plain_text_is_not_held_back),
        cmocka_unit_test(an_endless_call_is_text_in_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
