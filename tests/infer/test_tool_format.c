/* Which form of calls a published template stands for, and that what is told of earlier calls is
 * what is looked for in an answer. */
#include "base/json.h"
#include "infer/capabilities.h"
#include "infer/prompt_tools.h"
#include "infer/tool_format.h"
#include "test.h"
#include "text/template.h"

static json_t *templates;

static int setup(void **state)
{
    struct err err = {0};
    (void)state;
    templates = json_parse_file("tests/fixtures/text/templates/published.json", 1 << 24, &err);
    assert_non_null(templates);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(templates);
    return 0;
}

static const char *source_of(const char *name)
{
    size_t i;
    const json_t *row;
    json_array_foreach(templates, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0) {
            return json_string_value(json_object_get(row, "source"));
        }
    }
    fail_msg("no template of %s", name);
    return NULL;
}

static void published_templates_say_what_their_models_can(void **state)
{
    static const struct {
        const char *name;
        bool tools, thinking;
    } rows[] = {
        {"Qwen-Qwen2.5-7B-Instruct", true, false},
        {"Qwen-Qwen3-0.6B", true, true},
        {"HuggingFaceTB-SmolLM3-3B", false, true},
        {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B", false, true},
        {"meta-llama-Llama-3.2-3B-Instruct", true, false},
        {"microsoft-Phi-3.5-mini-instruct", false, false},
        {"google-gemma-2-2b-it", false, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct capabilities c = capabilities_of_template(source_of(rows[i].name));
        assert_int_equal(c.tools, rows[i].tools);
        assert_int_equal(c.thinking, rows[i].thinking);
    }
    assert_false(capabilities_of_template(NULL).tools);
}

static void published_templates_stand_for_their_forms(void **state)
{
    static const char *const rows[][2] = {
        {"Qwen-Qwen2.5-7B-Instruct", "hermes"},
        {"Qwen-Qwen3-0.6B", "hermes"},
        {"NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "hermes"},
        {"ibm-granite-granite-4.0", "hermes"},
        {"meta-llama-Llama-3.1-8B-Instruct", "llama3"},
        {"meta-llama-Llama-3.2-3B-Instruct", "llama3"},
        {"mistralai-Mistral-Nemo-Instruct-2407", "mistral"},
        {"Mistral-Small-3.2-24B-Instruct-2506", "mistral_args"},
        {"unsloth-mistral-Devstral-Small-2507", "mistral_args"},
        {"ibm-granite-granite-3.3-2B-Instruct", "granite"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal(tool_format_of_template(source_of(rows[i][0]))->name, rows[i][1]);
        assert_string_equal(tool_format_named(rows[i][1])->name, rows[i][1]);
    }
    assert_string_equal(tool_format_of_template("{{ messages }}")->name, "hermes");
    assert_string_equal(tool_format_named("none such")->name, "hermes");
    assert_string_equal(tool_format_named(NULL)->name, "hermes");
}

static void calls_are_told_in_the_family_s_form(void **state)
{
    static const char messages[] = "[{\"role\":\"assistant\",\"content\":\"So:\",\"tool_calls\":["
                                   "{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}},"
                                   "{\"function\":{\"name\":\"g\",\"arguments\":{}}}]}]";
    /* templates that know of tools, not of calls */
    static const char *const rows[][2] = {
        {"tools <tool_call>",
         "So:\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1}}\n</tool_call>\n"
         "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>"},
        {"tools <|tool_call|>", "So:\n<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"a\":1}}, "
                                "{\"name\": \"g\", \"arguments\": {}}]"},
        {"tools [TOOL_CALLS][ARGS]", "So:\n[TOOL_CALLS]f[ARGS]{\"a\":1}[TOOL_CALLS]g[ARGS]{}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        json_t *told = NULL;
        json_t *given = json_parse(messages, strlen(messages), &err);
        assert_ok(tools_tell(rows[i][0], given, NULL, &told, &err), &err);
        assert_string_equal(json_string_value(json_object_get(json_array_get(told, 0), "content")),
                            rows[i][1]);
        json_decref(told);
        json_decref(given);
    }
}

static int render(const char *source, const char *messages, bool numbered, struct buf *out,
                  struct err *err)
{
    struct template *t = NULL;
    json_t *others = NULL;
    json_t *given = json_parse(messages, strlen(messages), err);
    assert_ok(template_new(source, strlen(source), &t, err), err);
    if (numbered) {
        assert_ok(tools_number(source, given, &others, err), err);
    }
    const struct template_input input = {.messages = others != NULL ? others : given,
                                         .bos_token = "<s>",
                                         .eos_token = "</s>",
                                         .date = "2024-07-01",
                                         .fill_calls = true};
    const int rc = template_render(t, &input, out, err);
    template_free(t);
    json_decref(others);
    json_decref(given);
    return rc;
}

/* What OpenAI's clients send back, and Ollama's, which know of no ids. */
static void mistral_takes_any_ids(void **state)
{
    static const char *const names[] = {"mistralai-Mistral-Nemo-Instruct-2407",
                                        "Mistral-Small-3.2-24B-Instruct-2506"};
    /* of two calls and of the answers to them, and the order in which the prompt has them */
    static const struct {
        const char *ids[4], *order[4];
    } rows[] = {
        {{"\"id\":\"call_1\",", "\"id\":\"abcdefgh9\",", "\"tool_call_id\":\"abcdefgh9\",",
          "\"tool_call_id\":\"call_1\","},
         {"call00001", "abcdefgh9", "abcdefgh9", "call00001"}},
        {{"", "\"id\":\"abcdefgh9\",", "\"tool_call_id\":\"abcdefgh9\",", ""},
         {"call00001", "abcdefgh9", "abcdefgh9", "call00001"}},
        {{"", "", "", ""}, {"call00001", "call00002", "call00001", "call00002"}},
    };
    (void)state;
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        struct buf text;
        char messages[1024];
        const char *source = source_of(names[i % 2]);
        const char *const *ids = rows[i / 2].ids;
        snprintf(messages, sizeof messages,
                 "[{\"role\":\"user\",\"content\":\"?\"},{\"role\":\"assistant\",\"tool_calls\":["
                 "{%s\"function\":{\"name\":\"f\",\"arguments\":{}}},"
                 "{%s\"function\":{\"name\":\"g\",\"arguments\":{}}}]},"
                 "{\"role\":\"tool\",%s\"content\":\"1\"},{\"role\":\"tool\",%s\"content\":\"2\"}]",
                 ids[0], ids[1], ids[2], ids[3]);
        buf_init(&text, TEMPLATE_OUTPUT_BYTES_MAX);
        assert_int_equal(render(source, messages, false, &text, &err), -ERR_INVALID);
        assert_non_null(strstr(err.message, "length 9"));
        err_clear(&err);
        buf_clear(&text);
        assert_ok(render(source, messages, true, &text, &err), &err);
        const char *at = text.data;
        for (int k = 0; k < 4; k++) {
            at = strstr(at, rows[i / 2].order[k]);
            if (at == NULL) {
                fail_msg("row %zu: no id %d in %s", i, k, text.data);
            }
            at++;
        }
        buf_release(&text);
    }
    json_t *others = NULL;
    struct err err = {0};
    assert_ok(tools_number("tools <tool_call>", NULL, &others, &err), &err);
    assert_null(others);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_templates_say_what_their_models_can),
        cmocka_unit_test(published_templates_stand_for_their_forms),
        cmocka_unit_test(mistral_takes_any_ids),
        cmocka_unit_test(calls_are_told_in_the_family_s_form),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
