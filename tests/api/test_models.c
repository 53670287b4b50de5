/* /models and /models/{id}/versions over HTTP. */
#include "api/server.h"

#define NOBODY "11111111-2222-4333-8444-555555555555"

static void a_model_is_made_shown_changed_and_deleted(void **state)
{
    struct hub_fixture *hub = *state;
    char id[64];
    char path[128];
    json_t *model = call(hub, "POST", "/models",
                         "{\"name\":\"Otter\",\"base_model\":\"org/base\","
                         "\"task_type\":\"chat\",\"description\":\"d\",\"tags\":{\"a\":1}}",
                         201);

    assert_members(model, "id name task_type description base_model tags mlflow_experiment_id "
                          "created_at updated_at version_count");
    assert_string_equal(member(model, "task_type"), "chat");
    assert_true(json_is_null(json_object_get(model, "mlflow_experiment_id")));
    assert_int_equal(json_integer_value(json_object_get(model, "version_count")), 0);
    snprintf(id, sizeof id, "%s", member(model, "id"));
    json_decref(model);

    snprintf(path, sizeof path, "/models/%s", id);
    model = call(hub, "GET", path, NULL, 200);
    assert_string_equal(member(model, "name"), "Otter");
    json_decref(model);
    model = call(hub, "PATCH", path, "{\"name\":\"Seal\",\"description\":null}", 200);
    assert_string_equal(member(model, "name"), "Seal");
    assert_true(json_is_null(json_object_get(model, "description")));
    json_decref(model);
    snprintf(path, sizeof path, "/models/%s/history", id);
    model = call(hub, "GET", path, NULL, 200);
    assert_members(model, "runs experiment_id");
    json_decref(model);
    snprintf(path, sizeof path, "/models/%s/lineage", id);
    model = call(hub, "GET", path, NULL, 200);
    assert_members(model, "nodes edges");
    json_decref(model);
    snprintf(path, sizeof path, "/models/%s/versions", id);
    model = call(hub, "GET", path, NULL, 200);
    assert_int_equal(json_array_size(model), 0);
    json_decref(model);
    snprintf(path, sizeof path, "/models/%s", id);
    call_quiet(hub, "DELETE", path, NULL, 204);
    call_quiet(hub, "GET", path, NULL, 404);
}

static void lists_come_in_pages(void **state)
{
    struct hub_fixture *hub = *state;
    char body[128];
    struct answer answer;
    char value[256];

    for (int i = 0; i < 5; i++) {
        snprintf(body, sizeof body, "{\"name\":\"m%d\",\"base_model\":\"b\"}", i);
        call_quiet(hub, "POST", "/models", body, 201);
    }
    json_t *page = call(hub, "GET", "/models?page=2&page_size=2", NULL, 200);
    assert_members(page, "items total page page_size");
    assert_int_equal(json_integer_value(json_object_get(page, "total")), 5);
    assert_string_equal(member(json_array_get(json_object_get(page, "items"), 0), "name"), "m2");
    json_decref(page);
    page = call(hub, "GET", "/models?sort=name&q=M1", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(page, "items")), 1);
    json_decref(page);

    for (int i = 0; i < 3; i++) {
        snprintf(body, sizeof body, "datasets/f%d.jsonl", i);
        char row[64];
        snprintf(row, sizeof row, "{\"text\":\"row %d\"}\n", i);
        hub_write(hub, body, row);
        snprintf(body, sizeof body, "{\"name\":\"d%d\",\"path\":\"f%d.jsonl\"}", i, i);
        call_quiet(hub, "POST", "/datasets", body, 201);
    }
    assert_int_equal(call_raw(hub, "GET", "/datasets?page=2&page_size=1", "", NULL, &answer), 200);
    assert_true(head_value(answer.head, "X-Total-Count", value));
    assert_string_equal(value, "3");
    assert_true(head_value(answer.head, "Link", value));
    assert_string_equal(value, "</datasets?page=1&page_size=1>; rel=\"first\", "
                               "</datasets?page=1&page_size=1>; rel=\"prev\", "
                               "</datasets?page=3&page_size=1>; rel=\"next\", "
                               "</datasets?page=3&page_size=1>; rel=\"last\"");
    answer_free(&answer);
}

static void bad_requests_are_told_what_is_wrong(void **state)
{
    static const struct {
        const char *method, *path, *body;
        int status;
        const char *detail;
    } rows[] = {
        {"POST", "/models", "{}", 422, "body.name: Field required"},
        {"POST", "/models", "[]", 422, "body: Input should be a valid object"},
        {"POST", "/models", "{\"name\":\"x\",\"base_model\":\"b\",\"extra\":1}", 422,
         "body.extra: Extra inputs are not permitted"},
        {"POST", "/models", "{\"name\":7,\"base_model\":\"b\"}", 422,
         "body.name: Input should be a valid string"},
        {"POST", "/models", "{\"name\":\"\",\"base_model\":\"b\"}", 422,
         "body.name: String should have at least 1 character"},
        {"POST", "/models", "{\"name\":\"x\",\"base_model\":\"b\",\"tags\":[]}", 422,
         "body.tags: Input should be a valid object"},
        {"POST", "/models", "{\"name\":\"x\",\"base_model\":\"b\",\"task_type\":\"dance\"}", 422,
         "body.task_type: Input should be 'text-generation', 'classification', 'summarization', "
         "'question-answering' or 'chat'"},
        {"POST", "/models", "{\"name\":\"taken\",\"base_model\":\"b\"}", 409,
         "Model with name 'taken' already exists"},
        {"GET", "/models/" NOBODY, NULL, 404, "Model " NOBODY " not found"},
        {"PATCH", "/models/" NOBODY, "{}", 404, "Model " NOBODY " not found"},
        {"DELETE", "/models/" NOBODY, NULL, 404, "Model " NOBODY " not found"},
        {"GET", "/models/" NOBODY "/history", NULL, 404, "Model " NOBODY " not found"},
        {"GET", "/models/" NOBODY "/versions", NULL, 404, "Model " NOBODY " not found"},
        {"GET", "/models/" NOBODY "/versions/1.0.0", NULL, 404, "Model " NOBODY " not found"},
        {"GET", "/models/seven", NULL, 422, "path.id: Input should be a valid UUID"},
        {"GET", "/models?page=0", NULL, 422,
         "query.page: Input should be greater than or equal to 1"},
        {"GET", "/models?page_size=101", NULL, 422,
         "query.page_size: Input should be less than or equal to 100"},
        {"GET", "/models?sort=size", NULL, 422,
         "query.sort: Input should be '-created_at', 'created_at', 'name', '-name', "
         "'-updated_at' or 'updated_at'"},
        {"GET", "/models?size=3", NULL, 422, "query.size: Extra inputs are not permitted"},
        {"GET", "/models/" NOBODY "?full=1", NULL, 422,
         "query.full: Extra inputs are not permitted"},
        {"PUT", "/models", "{}", 405, "Method Not Allowed"},
        {"GET", "/nothing", NULL, 404, "Not Found"},
    };
    struct hub_fixture *hub = *state;

    call_quiet(hub, "POST", "/models", "{\"name\":\"taken\",\"base_model\":\"b\"}", 201);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        call_refused(hub, rows[i].method, rows[i].path, rows[i].body, rows[i].status,
                     rows[i].detail);
}

static void bodies_of_the_wrong_shape_are_refused(void **state)
{
    struct hub_fixture *hub = *state;
    char deep[1024] = "{\"name\":";
    size_t n = strlen(deep);

    memset(deep + n, '[', 200);
    memset(deep + n + 200, ']', 200);
    deep[n + 400] = '}';
    call_quiet(hub, "POST", "/models", deep, 422);
    call_quiet(hub, "POST", "/models", "{\"name\":\"\xff\"}", 422);
    call_quiet(hub, "POST", "/models", "{\"name\":\"a\",\"name\":\"b\"}", 422);
    call_quiet(hub, "POST", "/models", "{\"name\"", 422);
    assert_int_equal(call_raw(hub, "POST", "/models", "Content-Type: text/plain\r\n", "{}", NULL),
                     415);
    assert_int_equal(ask(hub->port,
                         "POST /models HTTP/1.1\r\n" HOST "Content-Type: application/json\r\n"
                         "Content-Length: 99999999\r\n\r\n",
                         NULL),
                     413);
    json_t *page = call(hub, "GET", "/models", NULL, 200);
    assert_int_equal(json_integer_value(json_object_get(page, "total")), 0);
    json_decref(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_model_is_made_shown_changed_and_deleted, hub_setup,
                                        hub_teardown),
        cmocka_unit_test_setup_teardown(lists_come_in_pages, hub_setup, hub_teardown),
        cmocka_unit_test_setup_teardown(bad_requests_are_told_what_is_wrong, hub_setup,
                                        hub_teardown),
        cmocka_unit_test_setup_teardown(bodies_of_the_wrong_shape_are_refused, hub_setup,
                                        hub_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
