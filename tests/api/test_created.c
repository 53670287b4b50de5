/* Models that /api/create and /api/copy make, over a tiny base: their texts and parameters are what
 * a request would say, in each protocol; and conversations that are cut when asked. */
#include "api/server.h"

#define BASE     "tests/fixtures/train/base"
#define TEMPLATE "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
#define WHO      "[{\"role\":\"user\",\"content\":\"Who?\"}]"

static int setup(void **state)
{
    struct hub_fixture *hub = hub_make();

    assert_non_null(getenv("MLX_HUB_BINARY"));
    hub_start(hub, false);
    call_quiet(hub, "POST", "/base-models/import", "{\"path\":\"" BASE "\",\"as\":\"org/tiny\"}",
               201);
    call_quiet(hub, "POST", "/api/create",
               "{\"model\":\"mario\",\"from\":\"org/tiny\",\"stream\":false,"
               "\"template\":\"" TEMPLATE "\",\"system\":\"Be Mario.\",\"license\":\"MIT\","
               "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
               "{\"role\":\"assistant\",\"content\":\"It's me\"}],"
               "\"parameters\":{\"seed\":7,\"num_predict\":3,\"temperature\":1.5,"
               "\"repeat_penalty\":1.2,\"top_k\":5,\"top_p\":1,\"min_p\":0}}",
               200);
    *state = hub;
    return 0;
}

/* One member of an answer, as text that is good until the next call. */
static const char *text_of(struct hub_fixture *hub, const char *path, const char *body,
                           const char *inside, const char *name)
{
    static char text[4096];
    json_t *answer = call(hub, "POST", path, body, 200);
    const json_t *at = inside != NULL ? json_object_get(answer, inside) : answer;

    at = json_is_array(at) ? json_object_get(json_array_get(at, 0), "message") : at;
    snprintf(text, sizeof text, "%s", member(at, name));
    json_decref(answer);
    return text;
}

static void assert_prompt(struct hub_fixture *hub, const char *model, const char *messages,
                          const char *want)
{
    char body[512];

    snprintf(body, sizeof body, "{\"model\":\"%s\",\"messages\":%s}", model, messages);
    assert_string_equal(text_of(hub, "/apply-template", body, NULL, "prompt"), want);
}

static void texts_stand_before_the_request_s(void **state)
{
    struct hub_fixture *hub = *state;

    assert_prompt(hub, "mario", WHO, "[system]Be Mario.[user]Hi[assistant]It's me[user]Who?");
    assert_prompt(hub, "mario:latest",
                  "[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\","
                  "\"content\":\"Who?\"}]",
                  "[system]Be brief.[user]Hi[assistant]It's me[user]Who?");
    call_quiet(hub, "POST", "/api/create",
               "{\"model\":\"toad\",\"from\":\"mario\",\"messages\":[{\"role\":\"system\","
               "\"content\":\"Be Toad.\"},{\"role\":\"user\",\"content\":\"Yo\"}]}",
               200);
    assert_prompt(hub, "toad", WHO, "[system]Be Toad.[user]Yo[user]Who?");
    assert_prompt(hub, "toad", "[{\"role\":\"system\",\"content\":\"No.\"}]",
                  "[system]No.[user]Yo");
}

/* What /apply-template shows is what a chat with the same members would be asked. */
static void a_template_is_applied_as_chats_do(void **state)
{
    struct hub_fixture *hub = *state;
    static const char body[] =
        "{\"model\":\"shy\",\"messages\":[{\"role\":\"developer\",\"content\":[{\"type\":\"text\","
        "\"text\":\"Be \"},{\"type\":\"text\",\"text\":\"brief.\"}]}],"
        "\"chat_template_kwargs\":{\"mood\":\"shy\"},\"reasoning_effort\":\"low\"}";

    call_quiet(hub, "POST", "/api/create",
               "{\"model\":\"shy\",\"from\":\"org/tiny\",\"template\":\"" TEMPLATE
               "({{ mood }}, {{ reasoning_effort }})\"}",
               200);
    assert_string_equal(text_of(hub, "/apply-template", body, NULL, "prompt"),
                        "[system]Be brief.(shy, low)");
    call_quiet(hub, "POST", "/apply-template", "{\"model\":\"shy\",\"messages\":[]}", 400);
    call_quiet(hub, "POST", "/apply-template",
               "{\"model\":\"shy\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
               "\"chat_template_kwargs\":{\"messages\":[]}}",
               400);
}

static void parameters_are_defaults_everywhere(void **state)
{
    struct hub_fixture *hub = *state;
    char want[4096];

    snprintf(want, sizeof want, "%s",
             text_of(hub, "/api/chat",
                     "{\"model\":\"org/tiny\",\"stream\":false,\"messages\":[{\"role\":\"user\","
                     "\"content\":\"x\"}],\"options\":{\"seed\":7,\"num_predict\":3,"
                     "\"temperature\":1.5,\"repeat_penalty\":1.2,\"top_k\":5,\"top_p\":1}}",
                     "message", "content"));
    call_quiet(hub, "POST", "/api/create",
               "{\"model\":\"bare\",\"from\":\"org/tiny\",\"parameters\":{\"seed\":7,"
               "\"num_predict\":3,\"temperature\":1.5,\"repeat_penalty\":1.2,\"top_k\":5,"
               "\"top_p\":1,\"min_p\":0}}",
               200);
#define X "\"model\":\"bare\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"
    assert_string_equal(text_of(hub, "/api/chat", "{" X ",\"stream\":false}", "message", "content"),
                        want);
    assert_string_equal(text_of(hub, "/v1/chat/completions", "{" X "}", "choices", "content"),
                        want);
    assert_string_equal(text_of(hub, "/inference", "{" X "}", NULL, "text"), want);
    static const struct {
        const char *path, *body, *usage, *name;
        int tokens;
    } rows[] = {
        {"/api/chat", "{" X ",\"stream\":false,\"options\":{\"num_predict\":1}}", NULL,
         "eval_count", 1},
        {"/v1/chat/completions", "{" X ",\"max_completion_tokens\":2}", "usage",
         "completion_tokens", 2},
        {"/v1/completions", "{\"model\":\"bare\",\"prompt\":\"x\"}", "usage", "completion_tokens",
         3},
        {"/v1/completions", "{\"model\":\"bare\",\"prompt\":\"x\",\"max_tokens\":1}", "usage",
         "completion_tokens", 1},
        {"/inference", "{" X ",\"max_tokens\":2}", NULL, "tokens_generated", 2},
    };
#undef X
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *answer = call(hub, "POST", rows[i].path, rows[i].body, 200);
        const json_t *at = rows[i].usage != NULL ? json_object_get(answer, rows[i].usage) : answer;
        assert_int_equal(json_integer_value(json_object_get(at, rows[i].name)), rows[i].tokens);
        json_decref(answer);
    }
}

static const json_t *listed(const json_t *answer, const char *name)
{
    size_t i;
    const json_t *model;

    json_array_foreach(json_object_get(answer, "models"), i, model)
    {
        if (strcmp(member(model, "name"), name) == 0)
            return model;
    }
    fail_msg("%s is not listed", name);
    return NULL;
}

static void it_is_shown_listed_copied_and_deleted(void **state)
{
    struct hub_fixture *hub = *state;
    json_t *shown = call(hub, "POST", "/api/show", "{\"model\":\"mario\",\"verbose\":true}", 200);

    assert_string_equal(member(shown, "system"), "Be Mario.");
    assert_string_equal(member(shown, "template"), TEMPLATE);
    assert_string_equal(member(shown, "license"), "MIT");
    assert_non_null(strstr(member(shown, "parameters"), "top_k                          5\n"));
    assert_non_null(strstr(member(shown, "modelfile"), "FROM org/tiny\nTEMPLATE"));
    assert_int_equal(json_array_size(json_object_get(shown, "messages")), 2);
    assert_true(json_array_size(json_object_get(shown, "tensors")) > 4);
    json_decref(shown);
    call_quiet(hub, "POST", "/api/copy",
               "{\"source\":\"mario:latest\",\"destination\":\"org/mario:v2\"}", 200);
    json_t *tags = call(hub, "GET", "/api/tags", NULL, 200);
    const json_t *one = listed(tags, "mario:latest"), *two = listed(tags, "org/mario:v2");
    assert_string_equal(member(one, "digest"), member(two, "digest"));
    assert_string_not_equal(member(one, "digest"),
                            member(listed(tags, "org/tiny:latest"), "digest"));
    assert_string_equal(member(json_object_get(two, "details"), "parent_model"), "org/tiny");
    json_decref(tags);
    call_quiet(hub, "POST", "/api/generate",
               "{\"model\":\"org/mario:v2\",\"prompt\":\"x\",\"stream\":false}", 200);
    json_t *ps = call(hub, "GET", "/api/ps", NULL, 200);
    assert_true(json_integer_value(json_object_get(listed(ps, "org/mario:v2"), "size")) > 0);
    json_decref(ps);
    call_quiet(hub, "DELETE", "/base-models/org/tiny", NULL, 409);
    call_quiet(hub, "DELETE", "/api/delete", "{\"model\":\"org/mario:v2\"}", 200);
    call_quiet(hub, "DELETE", "/api/delete", "{\"model\":\"org/mario:v2\"}", 404);
    call_quiet(hub, "POST", "/api/show", "{\"name\":\"org/mario:v2\"}", 404);
    assert_prompt(hub, "mario", WHO, "[system]Be Mario.[user]Hi[assistant]It's me[user]Who?");
}

/* A model may be called as a base is; then that name is the model's. */
static void a_name_is_listed_once(void **state)
{
    struct hub_fixture *hub = *state;
    int n = 0;
    size_t i;
    const json_t *one;

    call_quiet(hub, "POST", "/base-models/import", "{\"path\":\"" BASE "\",\"as\":\"twice\"}", 201);
    call_quiet(hub, "POST", "/models", "{\"name\":\"twice\",\"base_model\":\"mine\"}", 201);
    json_t *tags = call(hub, "GET", "/api/tags", NULL, 200);
    json_array_foreach(json_object_get(tags, "models"), i, one) n +=
        strcmp(member(one, "name"), "twice:latest") == 0;
    assert_int_equal(n, 1);
    assert_string_equal(member(listed(tags, "twice:latest"), "digest"), "");
    json_decref(tags);
}

static void bad_ones_are_named(void **state)
{
    static const struct {
        const char *members;
        int status;
        const char *part;
    } rows[] = {
        {"\"from\":\"nobody\"", 404, "nobody"},
        {"\"system\":\"x\"", 400, "'from' or 'files'"},
        {"\"from\":\"org/tiny\",\"parameters\":{\"heat\":1}", 400, "'heat'"},
        {"\"from\":\"org/tiny\",\"parameters\":{\"top_p\":\"x\"}", 400, "top_p"},
        {"\"from\":\"org/tiny\",\"parameters\":{\"num_gpu\":true}", 400, "num_gpu"},
        {"\"from\":\"org/tiny\",\"parameters\":{\"num_ctx\":1000000}", 400, "1000000"},
        {"\"from\":\"org/tiny\",\"template\":\"{{ .Prompt }}\"", 400, "Jinja"},
        {"\"from\":\"org/tiny\",\"template\":\"{{- if $x }}\"", 400, "Jinja"},
        {"\"from\":\"org/tiny\",\"template\":\"{% if %}\"", 400, "'template'"},
        {"\"from\":\"org/tiny\",\"messages\":[{\"role\":\"x\",\"content\":\"\"}]", 400, "role"},
        {"\"from\":\"org/tiny\",\"messages\":[{\"role\":\"user\",\"images\":[\"x\"]}]", 400,
         "images"},
        {"\"from\":\"org/tiny\",\"license\":{}", 400, "license"},
        {"\"from\":\"org/tiny\",\"quantize\":\"q3_K\"", 400, "q3_K"},
        {"\"from\":\"org/tiny\",\"adapters\":{\"x.bin\":\"sha256:1\"}", 400, "x.bin"},
        {"\"from\":\"org/tiny\",\"adapters\":{\"x.json\":\"sha256:1\"}", 400, "64 hexa"},
    };
    struct hub_fixture *hub = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char body[1024];
        snprintf(body, sizeof body, "{\"model\":\"bad\",%s}", rows[i].members);
        json_t *answer = call(hub, "POST", "/api/create", body, rows[i].status);
        if (strstr(member(answer, "error"), rows[i].part) == NULL)
            fail_msg("%s: %s", body, member(answer, "error"));
        json_decref(answer);
    }
    call_quiet(hub, "POST", "/api/show", "{\"model\":\"bad\"}", 404);
}

/* A conversation of n turns over TEMPLATE's model, answered with one token. */
static json_t *converse(struct hub_fixture *hub, int n, const char *more, int status)
{
    static char body[1 << 15];
    size_t at = (size_t)snprintf(body, sizeof body,
                                 "{\"model\":\"bare-template\",\"stream\":false,\"messages\":["
                                 "{\"role\":\"system\",\"content\":\"S\"}");

    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(body + at, sizeof body - at,
                               ",{\"role\":\"user\",\"content\":\"ask %03d\"},{\"role\":"
                               "\"assistant\",\"content\":\"say %03d\"}",
                               1000 - n + i, 1000 - n + i);
    snprintf(body + at, sizeof body - at, ",{\"role\":\"user\",\"content\":\"last\"}]%s}", more);
    return call(hub, "POST", "/api/chat", body, status);
}

static int64_t prompt_tokens(json_t *answer)
{
    const int64_t n = json_integer_value(json_object_get(answer, "prompt_eval_count"));

    json_decref(answer);
    return n;
}

#define OPTIONS(n) ",\"options\":{\"num_predict\":1,\"num_ctx\":" #n "}"

static void the_oldest_messages_go(void **state)
{
    struct hub_fixture *hub = *state;
    char text[128];

    call_quiet(hub, "POST", "/api/create",
               "{\"model\":\"bare-template\",\"from\":\"org/tiny\",\"template\":\"" TEMPLATE "\"}",
               200);
    const int64_t none = prompt_tokens(converse(hub, 0, OPTIONS(200), 200));
    const int64_t each = prompt_tokens(converse(hub, 1, OPTIONS(200), 200)) - none;
    const int64_t whole = prompt_tokens(converse(hub, 4, OPTIONS(200), 200));
    assert_true(each > 0 && whole > none);
    const int64_t cut = prompt_tokens(converse(hub, 4, ",\"truncate\":true" OPTIONS(60), 200));
    assert_true(cut < 60 && cut >= none);
    /* num_ctx alone says so, too */
    assert_int_equal(prompt_tokens(converse(hub, 4, OPTIONS(60), 200)), cut);
    json_t *refused = converse(hub, 4, ",\"truncate\":false" OPTIONS(60), 400);
    snprintf(text, sizeof text, "the prompt is %d tokens; the context holds 60 (num_ctx)",
             (int)whole);
    assert_string_equal(member(refused, "error"), text);
    json_decref(refused);
    /* what is left is a conversation of fewer turns */
    int turns = 0;
    while (turns < 4 && prompt_tokens(converse(hub, turns, OPTIONS(200), 200)) != cut)
        turns++;
    assert_true(turns < 4);
    /* … and one turn more would not have fitted */
    assert_true(prompt_tokens(converse(hub, turns + 1, OPTIONS(200), 200)) >= 60);
    /* the last message stays even if it does not fit in num_ctx; in the model's context it must */
    assert_int_equal(prompt_tokens(converse(hub, 4, ",\"truncate\":true" OPTIONS(2), 200)), none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_stand_before_the_request_s),
        cmocka_unit_test(a_template_is_applied_as_chats_do),
        cmocka_unit_test(parameters_are_defaults_everywhere),
        cmocka_unit_test(it_is_shown_listed_copied_and_deleted),
        cmocka_unit_test(a_name_is_listed_once),
        cmocka_unit_test(bad_ones_are_named),
        cmocka_unit_test(the_oldest_messages_go),
    };
    return cmocka_run_group_tests(tests, setup, hub_teardown);
}
