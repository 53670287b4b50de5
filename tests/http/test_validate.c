/* Bodies and queries against tables; errors in each family's shape. */
#include "base/json.h"
#include "http/error_style.h"
#include "http/validate.h"
#include "test.h"

static const char *const task_types[] = {"chat", "classification", "summarization", NULL};

static const struct http_field message_fields[] = {
    {.name = "role", .kind = HTTP_STRING, .flags = HTTP_REQUIRED},
    {.name = "content", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
};
static const struct http_field message = {
    .kind = HTTP_OBJECT, .fields = message_fields, .n_fields = 2};
static const struct http_field config_fields[] = {
    {.name = "rank", .kind = HTTP_INT, .flags = HTTP_MIN | HTTP_MAX, .min = 1, .max = 256},
};
static const struct http_field fields[] = {
    {.name = "name",
     .kind = HTTP_STRING,
     .flags = HTTP_REQUIRED | HTTP_MIN | HTTP_MAX,
     .min = 1,
     .max = 5},
    {.name = "id", .kind = HTTP_UUID},
    {.name = "task", .kind = HTTP_ENUM, .choices = task_types},
    {.name = "n", .kind = HTTP_INT, .flags = HTTP_MIN | HTTP_MAX, .min = 1, .max = 10},
    {.name = "rate", .kind = HTTP_REAL, .flags = HTTP_MIN | HTTP_ABOVE, .min = 0},
    {.name = "on", .kind = HTTP_BOOL},
    {.name = "any", .kind = HTTP_ANY},
    {.name = "tags", .kind = HTTP_OBJECT, .flags = HTTP_MAX | HTTP_NULLABLE, .max = 2},
    {.name = "config", .kind = HTTP_OBJECT, .fields = config_fields, .n_fields = 1},
    {.name = "messages", .kind = HTTP_ARRAY, .flags = HTTP_MIN, .min = 1, .items = &message},
};

enum { FIELDS = sizeof(fields) / sizeof(fields[0]) };

/* The faults of `text` as they stand between the brackets of {"detail":[…]}. */
static void check(const char *text, const char *want)
{
    struct http_issues issues;
    struct err err = {0};
    json_t *body = json_parse(text, strlen(text), &err);

    if (!body)
        fail_msg("%s: %s", text, err.message);
    http_issues_init(&issues);
    http_validate(body, fields, FIELDS, false, &issues);
    assert_string_equal(issues.json.data ? issues.json.data : "", want);
    assert_int_equal(issues.depth, 0);
    http_issues_release(&issues);
    json_decref(body);
}

#define ISSUE(loc, msg, type)                                                                      \
    "{\"loc\":[\"body\"" loc "],\"msg\":\"" msg "\",\"type\":\"" type "\"}"
#define AT_LEAST_1 "Input should be greater than or equal to 1"
#define NOT_STRING "Input should be a valid string"
#define EXTRA      "Extra inputs are not permitted"

static void faults_have_the_known_shapes(void **state)
{
    static const struct {
        const char *body, *want;
    } rows[] = {
        {"{\"name\":\"x\"}", ""},
        {"{\"name\":\"x\",\"n\":3.0,\"rate\":1,\"on\":true,\"any\":[1],\"tags\":null}", ""},
        {"{\"name\":\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\"}", ""},
        {"{\"name\":\"x\",\"id\":\"8664b44b-934d-4b29-9b1f-d398bd63ad96\"}", ""},
        {"{\"name\":\"x\",\"messages\":[{\"role\":\"user\",\"content\":null}]}", ""},
        {"{}", ISSUE(",\"name\"", "Field required", "missing")},
        {"[]", ISSUE("", "Input should be a valid object", "dict_type")},
        {"{\"name\":null}", ISSUE(",\"name\"", NOT_STRING, "string_type")},
        {"{\"name\":1}", ISSUE(",\"name\"", NOT_STRING, "string_type")},
        {"{\"name\":\"\"}",
         ISSUE(",\"name\"", "String should have at least 1 character", "string_too_short")},
        {"{\"name\":\"123456\"}",
         ISSUE(",\"name\"", "String should have at most 5 characters", "string_too_long")},
        {"{\"name\":\"a\\u0000b\"}",
         ISSUE(",\"name\"", "String should not hold a NUL character", "string_nul")},
        {"{\"name\":\"x\",\"id\":\"1\"}",
         ISSUE(",\"id\"", "Input should be a valid UUID", "uuid_parsing")},
        {"{\"name\":\"x\",\"task\":\"fly\"}",
         ISSUE(",\"task\"", "Input should be 'chat', 'classification' or 'summarization'", "enum")},
        {"{\"name\":\"x\",\"n\":\"3\"}",
         ISSUE(",\"n\"", "Input should be a valid integer", "int_type")},
        {"{\"name\":\"x\",\"n\":3.5}",
         ISSUE(",\"n\"", "Input should be a valid integer", "int_type")},
        {"{\"name\":\"x\",\"n\":0}", ISSUE(",\"n\"", AT_LEAST_1, "greater_than_equal")},
        {"{\"name\":\"x\",\"n\":11}",
         ISSUE(",\"n\"", "Input should be less than or equal to 10", "less_than_equal")},
        {"{\"name\":\"x\",\"rate\":0}",
         ISSUE(",\"rate\"", "Input should be greater than 0", "greater_than")},
        {"{\"name\":\"x\",\"rate\":\"1\"}",
         ISSUE(",\"rate\"", "Input should be a valid number", "float_type")},
        {"{\"name\":\"x\",\"on\":1}",
         ISSUE(",\"on\"", "Input should be a valid boolean", "bool_type")},
        {"{\"name\":\"x\",\"tags\":[]}",
         ISSUE(",\"tags\"", "Input should be a valid object", "dict_type")},
        {"{\"name\":\"x\",\"tags\":{\"a\":1,\"b\":2,\"c\":3}}",
         ISSUE(",\"tags\"", "Object should have at most 2 items", "too_long")},
        {"{\"name\":\"x\",\"other\":1}", ISSUE(",\"other\"", EXTRA, "extra_forbidden")},
        {"{\"name\":\"x\",\"config\":{\"rank\":0,\"bad\":1}}",
         ISSUE(",\"config\",\"rank\"", AT_LEAST_1,
               "greater_than_equal") "," ISSUE(",\"config\",\"bad\"", EXTRA, "extra_forbidden")},
        {"{\"name\":\"x\",\"messages\":{}}",
         ISSUE(",\"messages\"", "Input should be a valid list", "list_type")},
        {"{\"name\":\"x\",\"messages\":[]}",
         ISSUE(",\"messages\"", "List should have at least 1 item", "too_short")},
        {"{\"name\":\"x\",\"messages\":[{\"role\":\"a\"},{\"content\":2},3]}",
         ISSUE(",\"messages\",1,\"role\"", "Field required", "missing") "," ISSUE(
             ",\"messages\",1,\"content\"", NOT_STRING,
             "string_type") "," ISSUE(",\"messages\",2", "Input should be a valid object",
                                      "dict_type")},
        {"{\"n\":0,\"on\":2}",
         ISSUE(",\"name\"", "Field required", "missing") "," ISSUE(
             ",\"n\"", AT_LEAST_1,
             "greater_than_equal") "," ISSUE(",\"on\"", "Input should be a valid boolean",
                                             "bool_type")},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        print_message("%s\n", rows[i].body);
        check(rows[i].body, rows[i].want);
    }
}

static void open_tables_take_anything(void **state)
{
    static const char text[] = "{\"name\":\"x\",\"other\":1}";
    struct http_issues issues;
    struct err err = {0};
    json_t *body = json_parse(text, strlen(text), &err);

    (void)state;
    assert_non_null(body);
    http_issues_init(&issues);
    http_validate(body, fields, FIELDS, true, &issues);
    assert_int_equal(issues.count, 0);
    http_issues_release(&issues);
    json_decref(body);
}

static void faults_are_bounded(void **state)
{
    struct http_issues issues;
    struct err err = {0};
    struct buf text;
    json_t *body;

    (void)state;
    buf_init(&text, 1 << 20);
    buf_puts(&text, "{\"messages\":[1");
    for (int i = 0; i < 1000; i++)
        buf_puts(&text, ",1");
    buf_puts(&text, "]}");
    body = json_parse(text.data, text.len, &err);
    assert_non_null(body);
    http_issues_init(&issues);
    http_validate(body, fields, FIELDS, false, &issues);
    assert_int_equal(issues.count, HTTP_ISSUES_MAX);
    assert_int_equal(issues.depth, 0);
    http_issues_release(&issues);
    json_decref(body);
    buf_release(&text);
}

static void queries_are_checked(void **state)
{
    struct http_pair query[] = {{"page", "3"},
                                {"size", "101"},
                                {"low", "0"},
                                {"word", "ten"},
                                {"space", " 1"},
                                {"yes", "TRUE"},
                                {"no", "off"},
                                {"maybe", "2"},
                                {"fly", "fly"},
                                {"bad", "1"},
                                {"task", "chat"},
                                {"huge", "99999999999999999999"},
                                {"id", "8664b44b-934d-4b29-9b1f-d398bd63ad96"}};
    struct http_request request = {.query = query, .n_query = sizeof(query) / sizeof(query[0])};
    struct http_issues issues;

    (void)state;
    http_issues_init(&issues);
    assert_int_equal(http_query_int(&request, "page", 1, 100, 1, &issues), 3);
    assert_int_equal(http_query_int(&request, "absent", 1, 100, 20, &issues), 20);
    assert_true(http_query_bool(&request, "yes", false, &issues));
    assert_false(http_query_bool(&request, "no", true, &issues));
    assert_true(http_query_bool(&request, "absent", true, &issues));
    assert_string_equal(http_query_enum(&request, "task", task_types, NULL, &issues), "chat");
    assert_null(http_query_enum(&request, "absent", task_types, NULL, &issues));
    assert_non_null(http_query_uuid(&request, "id", &issues));
    assert_null(http_query_uuid(&request, "absent", &issues));
    assert_int_equal(issues.count, 0);
    assert_int_equal(http_query_int(&request, "size", 1, 100, 20, &issues), 20);
    assert_int_equal(http_query_int(&request, "low", 1, 100, 20, &issues), 20);
    assert_int_equal(http_query_int(&request, "word", 1, 100, 20, &issues), 20);
    assert_int_equal(http_query_int(&request, "huge", 1, 100, 20, &issues), 20);
    assert_int_equal(http_query_int(&request, "space", 1, 100, 20, &issues), 20);
    assert_false(http_query_bool(&request, "maybe", false, &issues));
    assert_null(http_query_enum(&request, "fly", task_types, NULL, &issues));
    assert_null(http_query_uuid(&request, "bad", &issues));
    assert_int_equal(issues.count, 8);
    assert_string_equal(issues.first, "size: Input should be less than or equal to 100");
    http_issues_release(&issues);
}

#define SAID "No \\\"x\\\""

static void styles_speak_their_clients_language(void **state)
{
    static const struct {
        http_error_style style;
        enum err_code code;
        int status;
        const char *body;
    } rows[] = {
        {NULL, ERR_NOT_FOUND, 404, "{\"detail\":\"" SAID "\"}"},
        {http_error_hub, ERR_UNPROCESSABLE, 422,
         "{\"detail\":[{\"loc\":[\"body\"],\"msg\":\"" SAID "\",\"type\":\"value_error\"}]}"},
        {http_error_openai, ERR_UNPROCESSABLE, 400,
         "{\"error\":{\"code\":400,\"message\":\"" SAID "\",\"type\":\"invalid_request_error\"}}"},
        {http_error_openai, ERR_UNAUTHORIZED, 401,
         "{\"error\":{\"code\":401,\"message\":\"" SAID "\",\"type\":\"authentication_error\"}}"},
        {http_error_openai, ERR_UNAVAILABLE, 503,
         "{\"error\":{\"code\":503,\"message\":\"" SAID "\",\"type\":\"unavailable_error\"}}"},
        {http_error_ollama, ERR_UNPROCESSABLE, 400, "{\"error\":\"" SAID "\"}"},
        {http_error_ollama, ERR_NOT_FOUND, 404, "{\"error\":\"" SAID "\"}"},
        {http_error_mlflow, ERR_NOT_FOUND, 404,
         "{\"error_code\":\"RESOURCE_DOES_NOT_EXIST\",\"message\":\"" SAID "\"}"},
        {http_error_mlflow, ERR_CONFLICT, 400,
         "{\"error_code\":\"RESOURCE_ALREADY_EXISTS\",\"message\":\"" SAID "\"}"},
        {http_error_mlflow, ERR_UNPROCESSABLE, 400,
         "{\"error_code\":\"INVALID_PARAMETER_VALUE\",\"message\":\"" SAID "\"}"},
        {http_error_mlflow, ERR_INTERNAL, 500,
         "{\"error_code\":\"INTERNAL_ERROR\",\"message\":\"" SAID "\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http_response response = {.n_headers = 3};
        struct err err = {0};

        buf_init(&response.body, 4096);
        buf_puts(&response.body, "half an answer");
        (void)err_set(&err, rows[i].code, "No \"x\"");
        http_reply_error(&response, rows[i].style, &err);
        assert_int_equal(response.status, rows[i].status);
        assert_string_equal(response.body.data, rows[i].body);
        assert_int_equal(response.n_headers, rows[i].status == 401 || rows[i].status == 503);
        buf_release(&response.body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_have_the_known_shapes),
        cmocka_unit_test(open_tables_take_anything),
        cmocka_unit_test(faults_are_bounded),
        cmocka_unit_test(queries_are_checked),
        cmocka_unit_test(styles_speak_their_clients_language),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
