/* Other people's protocols: every kind of request that is refused, with a sentence that names what
 * is wrong, in each protocol's shape of errors; and a schema over a tiny model. */
#include "api/server.h"

#define BASE   "tests/fixtures/train/base"
#define USER   "\"messages\":[{\"role\":\"user\",\"content\":\"Who?\"}]"
#define PROMPT "\"prompt\":\"Who?\""
#define CHAT   "/v1/chat/completions"
#define TEXT   "/v1/completions"

static int setup(void **state)
{
    struct hub_fixture *hub = hub_make();

    assert_non_null(getenv("MLX_HUB_BINARY"));
    hub_start(hub, false);
    call_quiet(hub, "POST", "/base-models/import", "{\"path\":\"" BASE "\",\"as\":\"org/tiny\"}",
               201);
    *state = hub;
    return 0;
}

/* The sentence of an error, wherever its protocol puts it. */
static const char *sentence(const json_t *answer)
{
    const json_t *error = json_object_get(answer, "error");

    return json_is_string(error) ? json_string_value(error) : member(error, "message");
}

static void bad_requests_are_named(void **state)
{
    static const struct {
        const char *path, *members;
        int status;
        const char *part;
    } rows[] = {
        {CHAT, "\"model\":\"nobody\"," USER, 404, "nobody"},
        {"/v1/responses", "\"model\":\"org/tiny\",\"input\":\"x\"", 404, "Not Found"},
        {"/v1/models", "\"model\":\"org/tiny\"", 405, "Method Not Allowed"},
        {"/api/nothing", "\"model\":\"org/tiny\"", 404, "Not Found"},
        {"/api/tags", "\"model\":\"org/tiny\"", 405, "Method Not Allowed"},
        {CHAT, USER, 400, "model"},
        {CHAT, "\"model\":\"org/tiny\"", 400, "messages"},
        {CHAT, "\"model\":\"org/tiny\",\"messages\":[]", 400, "messages"},
        {CHAT, "\"model\":\"org/tiny\",\"messages\":[{\"content\":\"x\"}]", 400, "role"},
        {CHAT, "\"model\":\"org/tiny\",\"messages\":[{\"role\":\"user\",\"content\":5}]", 400,
         "messages[0]"},
        {CHAT,
         "\"model\":\"org/tiny\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
         "\"input_audio\"}]}]",
         400, "input_audio"},
        {CHAT, "\"model\":\"org/tiny\",\"stream\":1," USER, 400, "stream"},
        {CHAT, "\"model\":\"org/tiny\",\"temperature\":\"hot\"," USER, 400, "temperature"},
        {CHAT, "\"model\":\"org/tiny\",\"temperature\":-1," USER, 400, "temperature"},
        {CHAT, "\"model\":\"org/tiny\",\"n\":0," USER, 400, "'n'"},
        {CHAT, "\"model\":\"org/tiny\",\"stop\":[1]," USER, 400, "stop"},
        {CHAT, "\"model\":\"org/tiny\",\"logit_bias\":{\"a\":1}," USER, 400, "logit_bias"},
        {CHAT, "\"model\":\"org/tiny\",\"logit_bias\":{\"1\":5000}," USER, 400, "bias"},
        {CHAT, "\"model\":\"org/tiny\",\"logprobs\":true,\"top_logprobs\":21," USER, 400,
         "top_logprobs"},
        {CHAT, "\"model\":\"org/tiny\",\"mirostat\":2," USER, 400, "'mirostat'"},
        {CHAT, "\"model\":\"org/tiny\",\"tools\":[{\"type\":\"web\"}]," USER, 400, "tools[0]"},
        {CHAT, "\"model\":\"org/tiny\",\"tool_choice\":\"required\"," USER, 400, "tool_choice"},
        {CHAT, "\"model\":\"org/tiny\",\"tool_choice\":7," USER, 400, "tool_choice"},
        {CHAT, "\"model\":\"org/tiny\",\"response_format\":{\"type\":\"xml\"}," USER, 400, "xml"},
        {CHAT, "\"model\":\"org/tiny\",\"response_format\":{\"type\":\"json_schema\"}," USER, 400,
         "no schema"},
        {CHAT,
         "\"model\":\"org/tiny\",\"stream\":true,\"response_format\":{\"type\":\"json_schema\","
         "\"json_schema\":{\"schema\":{\"not\":{}}}}," USER,
         400, "'not'"},
        {TEXT, "\"model\":\"org/tiny\"", 400, "prompt"},
        {TEXT, "\"model\":\"org/tiny\",\"prompt\":{}", 400, "prompt"},
        {TEXT, "\"model\":\"org/tiny\",\"prompt\":[]", 400, "prompt"},
        {TEXT, "\"model\":\"org/tiny\",\"prompt\":[-1]", 400, "prompt"},
        {TEXT, "\"model\":\"org/tiny\",\"prompt\":[99999999]", 400, "the vocabulary holds"},
        {TEXT, "\"model\":\"org/tiny\",\"prompt\":[[1],\"x\",5]", 400, "prompt"},
        {TEXT, "\"model\":\"org/tiny\",\"max_tokens\":0," PROMPT, 400, "max_tokens"},
        {TEXT, "\"model\":\"org/tiny\",\"best_of\":3," PROMPT, 400, "'best_of'"},
        {TEXT, "\"model\":\"org/tiny\",\"n\":64,\"prompt\":[\"a\",\"b\"]", 400, "at most 64"},
        {"/v1/embeddings", "\"model\":\"org/tiny\",\"input\":7", 400, "input"},
        {"/v1/embeddings", "\"model\":\"org/tiny\",\"input\":[\"\"]", 400, "input"},
        {"/api/generate", PROMPT, 400, "model is required"},
        {"/api/generate", "\"name\":\"nobody\"," PROMPT, 404, "nobody"},
        {"/api/generate", "\"model\":\"org/tiny\",\"format\":\"xml\"," PROMPT, 400, "format"},
        {"/api/generate", "\"model\":\"org/tiny\",\"keep_alive\":\"soon\"," PROMPT, 400, "soon"},
        {"/api/generate", "\"model\":\"org/tiny\",\"template\":\"{{\"," PROMPT, 400,
         "template line 1"},
        {"/api/generate", "\"model\":\"org/tiny\",\"options\":{\"tfs_z\":0.5}," PROMPT, 400,
         "'tfs_z'"},
        {"/api/generate", "\"model\":\"org/tiny\",\"options\":{\"top_k\":-3}," PROMPT, 400,
         "top_k"},
        {"/api/chat",
         "\"model\":\"org/tiny\",\"messages\":[{\"role\":\"user\",\"images\":[\"x\"]}]", 400,
         "images"},
        {"/api/show", "\"verbose\":true", 400, "model is required"},
        {"/api/copy", "\"source\":\"org/tiny\"", 400, "destination"},
        {"/api/push", "\"model\":\"x\"", 501, "not served"},
        {"/api/pull", "\"model\":\"x\"", 400, "org/name"},
        {"/api/pull", "\"model\":\"../x\"", 400, "no model's id"},
        {"/api/pull", "\"stream\":false", 400, "model is required"},
    };
    struct hub_fixture *hub = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[1024];
        snprintf(body, sizeof body, "{%s}", rows[i].members);
        json_t *answer = call(hub, "POST", rows[i].path, body, rows[i].status);
        if (strstr(sentence(answer), rows[i].part) == NULL)
            fail_msg("%s %s: %s", rows[i].path, body, sentence(answer));
        json_decref(answer);
    }
}

static void what_is_unknown_passes(void **state)
{
    struct hub_fixture *hub = *state;

    call_quiet(hub, "POST", CHAT,
               "{\"model\":\"org/tiny\",\"max_tokens\":2,\"nobody_knows\":[1],\"user\":\"me\","
               "\"mirostat\":0,\"suffix\":null," USER "}",
               200);
    call_quiet(hub, "POST", "/api/generate",
               "{\"model\":\"org/tiny:latest\",\"stream\":false,\"options\":{\"num_predict\":2,"
               "\"num_ctx\":128,\"num_thread\":4}," PROMPT "}",
               200);
}

static void a_schema_is_kept(void **state)
{
    struct hub_fixture *hub = *state;
    struct err err = {0};
    json_t *answer =
        call(hub, "POST", CHAT,
             "{\"model\":\"org/tiny\",\"seed\":3,\"temperature\":2,\"response_format\":{\"type\":"
             "\"json_schema\",\"json_schema\":{\"schema\":{\"properties\":{\"a\":{\"enum\":[1,2]}"
             "},\"required\":[\"a\"]}}}," USER "}",
             200);
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const char *text = member(json_object_get(choice, "message"), "content");
    json_t *kept = json_parse(text, strlen(text), &err);

    assert_true(json_is_integer(json_object_get(kept, "a")));
    assert_string_equal(member(choice, "finish_reason"), "stop");
    json_decref(kept);
    json_decref(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_requests_are_named),
        cmocka_unit_test(what_is_unknown_passes),
        cmocka_unit_test(a_schema_is_kept),
    };
    return cmocka_run_group_tests(tests, setup, hub_teardown);
}
