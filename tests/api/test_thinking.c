/* Thoughts are told apart from answers, however the text is cut into pieces. */
#include "api/thinking.h"
#include "test.h"

struct heard {
    char thought[256], text[256];
};

static void add(char to[256], const char *text, size_t n)
{
    const size_t at = strlen(to);
    assert_true(at + n < 256);
    memcpy(to + at, text, n);
    to[at + n] = '\0';
}

static void on_thought(void *ctx, const char *text, size_t n)
{
    add(((struct heard *)ctx)->thought, text, n);
}

static void on_text(void *ctx, const char *text, size_t n)
{
    add(((struct heard *)ctx)->text, text, n);
}

static const struct {
    const char *said;
    bool open; /* by the prompt */
    const char *thought, *text;
} rows[] = {
    {"Paris.", false, "", "Paris."},
    {"<think>\nWhere? France.\n</think>\n\nParis.", false, "Where? France.", "Paris."},
    {" \n<think>a</think>b", false, "a", "b"},
    {"Where?\n</think>\n\nParis.", true, "Where?", "Paris."},
    {"<think>\n\n</think>\n\nParis.", false, "", "Paris."},
    {"<think>never closed ", false, "never closed ", ""},
    {"<think>a </thin b</think>c", false, "a </thin b", "c"},
    {"<thin", false, "", "<thin"},
    {"  x <think>y</think>", false, "", "  x <think>y</think>"},
    {"<think>a</think>b<think>c</think>", false, "a", "b<think>c</think>"},
    {"<thinking>x", false, "", "<thinking>x"},
    {"", false, "", ""},
    {"  ", false, "", "  "},
};

static void thoughts_are_told_apart_in_pieces_of_any_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const size_t n = strlen(rows[i].said);
        for (size_t piece = 1; piece <= n + 1; piece++) {
            struct heard heard = {{0}, {0}};
            struct think_parser parser;
            const struct think_events events = {on_thought, on_text, &heard};
            think_parser_init(&parser);
            if (rows[i].open) {
                think_parser_open(&parser);
            }
            for (size_t at = 0; at < n; at += piece) {
                const size_t length = at + piece < n ? piece : n - at;
                think_parser_push(&parser, rows[i].said + at, length, false, &events);
            }
            think_parser_push(&parser, "", 0, true, &events);
            think_parser_release(&parser);
            if (strcmp(heard.thought, rows[i].thought) != 0 ||
                strcmp(heard.text, rows[i].text) != 0) {
                fail_msg("row %zu in pieces of %zu: '%s' and '%s'", i, piece, heard.thought,
                         heard.text);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thoughts_are_told_apart_in_pieces_of_any_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
