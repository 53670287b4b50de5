/* What of a conversation stays when it is longer than what it is to fit in. */
#include "base/json.h"
#include "infer/prompt.h"
#include "test.h"

enum { TOKENS_MAX = 1 << 16 };

#define TEMPLATE         "{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% endfor %}"
#define M(role, content) "{\"role\":\"" role "\",\"content\":\"" content "\"}"
#define LONG             "a story that is long, and goes on, and on, and comes to no end, for it is long"

static json_t *request_of(const char *messages, int fit_in)
{
    char text[4096];
    struct err err = {0};

    snprintf(text, sizeof text,
             "{\"messages\":[%s],\"template\":\"%s\",\"truncate\":%s,\"context_tokens\":%d}",
             messages, TEMPLATE, fit_in > 0 ? "true" : "false", fit_in);
    json_t *request = json_parse(text, strlen(text), &err);
    if (request == NULL)
        fail_msg("%s", err.message);
    return request;
}

static void tokens_of(struct prompter *p, const char *messages, int fit_in, struct token_ids *out)
{
    struct err err = {0};
    json_t *request = request_of(messages, fit_in);

    token_ids_init(out, TOKENS_MAX);
    assert_ok(prompter_fit(p, request, out, &err), &err);
    json_decref(request);
}

static void a_conversation_begins_with_the_users(void **state)
{
    /* what fits is the last column; 20 tokens more than that are allowed, or 2 where nothing fits
     */
    static const struct {
        const char *messages, *kept;
        bool fits;
    } rows[] = {
        {M("user", LONG) "," M("assistant", "b") "," M("user", "c"), M("user", "c"), true},
        {M("system", "s") "," M("user", LONG) "," M("assistant", "b") "," M("user", "c"),
         M("system", "s") "," M("user", "c"), true},
        {M("user", LONG) "," M("user", "b") "," M("assistant", "call") "," M("tool", "c"),
         M("user", "b") "," M("assistant", "call") "," M("tool", "c"), true},
        {M("user", LONG) "," M("user", "b") "," M("assistant", "call") "," M("tool", LONG),
         M("user", "b") "," M("assistant", "call") "," M("tool", LONG), false},
        {M("user", LONG) "," M("assistant", "call") "," M("tool", "c"),
         M("user", LONG) "," M("assistant", "call") "," M("tool", "c"), false},
        {M("assistant", LONG) "," M("assistant", "b"), M("assistant", LONG) "," M("assistant", "b"),
         false},
    };
    const struct engine_options options = {.threads = 1, .isa = "best", .context_length = 8192};
    struct engine_model *model = NULL;
    struct prompter p;
    struct err err = {0};

    (void)state;
    assert_ok(engine_model_open(&model, "tests/fixtures/train/base", &options, &err), &err);
    prompter_init(&p, model);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct token_ids want, got;

        tokens_of(&p, rows[i].kept, 0, &want);
        tokens_of(&p, rows[i].messages, rows[i].fits ? (int)want.n + 20 : 2, &got);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.ids, want.ids, want.n * sizeof *want.ids);
        token_ids_release(&got);
        token_ids_release(&want);
    }
    prompter_release(&p);
    engine_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_begins_with_the_users),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
