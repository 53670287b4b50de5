/* /datasets over HTTP. */
#include "api/server.h"

#define NOBODY "11111111-2222-4333-8444-555555555555"
#define ROWS   "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"text\":\"c\"}\n"

static int upload(struct hub_fixture *hub, const char *query, const char *body,
                  struct answer *answer)
{
    char path[256];

    snprintf(path, sizeof path, "/datasets/upload%s", query);
    return call_raw(hub, "POST", path, "Content-Type: application/jsonl\r\n", body, answer);
}

static void a_file_is_registered_verified_and_forgotten(void **state)
{
    struct hub_fixture *hub = *state;
    char id[64];
    char path[128];
    char absolute[FS_PATH_BYTES_MAX + 32];

    hub_write(hub, "datasets/a.jsonl", ROWS);
    json_t *row = call(hub, "POST", "/datasets",
                       "{\"name\":\"A\",\"path\":\"a.jsonl\",\"schema_info\":{\"k\":[1]}}", 201);
    assert_members(row, "id name path checksum schema_info rows created_at");
    assert_int_equal(json_integer_value(json_object_get(row, "rows")), 2);
    snprintf(absolute, sizeof absolute, "%s/datasets/a.jsonl", hub->dir);
    assert_string_equal(member(row, "path"), absolute);
    snprintf(id, sizeof id, "%s", member(row, "id"));
    json_decref(row);

    snprintf(path, sizeof path, "/datasets/%s/verify", id);
    row = call(hub, "POST", path, NULL, 200);
    assert_members(row, "valid expected actual");
    assert_true(json_is_true(json_object_get(row, "valid")));
    json_decref(row);
    hub_write(hub, "datasets/a.jsonl", "{\"text\":\"other\"}\n");
    row = call(hub, "POST", path, NULL, 200);
    assert_false(json_is_true(json_object_get(row, "valid")));
    json_decref(row);
    snprintf(path, sizeof path, "/datasets/%s", id);
    call_quiet(hub, "GET", path, NULL, 200);
    call_quiet(hub, "DELETE", path, NULL, 204);
    call_quiet(hub, "GET", path, NULL, 404);
    assert_int_equal(hub_entries(hub, "datasets"), 1);
}

static void a_file_is_uploaded(void **state)
{
    struct hub_fixture *hub = *state;
    struct answer answer;
    struct err err = {0};

    assert_int_equal(upload(hub, "?name=Up%20here", ROWS, &answer), 201);
    json_t *row = json_parse(answer.body, answer.body_bytes, &err);
    assert_string_equal(member(row, "name"), "Up here");
    assert_true(fs_exists(member(row, "path")));
    json_decref(row);
    answer_free(&answer);
    assert_int_equal(hub_entries(hub, "datasets"), 1);
}

static void refused_uploads_leave_nothing(void **state)
{
    static const struct {
        const char *query, *body;
        int status;
        const char *part;
    } rows[] = {
        {"", ROWS, 422, "\"loc\":[\"query\",\"name\"]"},
        {"?name=a/b", ROWS, 422, "name"},
        {"?name=x", "not json\n", 400, ":1: "},
        {"?name=x", "{\"text\":\"fine\"}\n{\"messages\":[]}\n", 400, ":2: "},
        {"?name=x", "", 400, "no rows"},
        {"?name=x&columns=[", ROWS, 422, "columns"},
        {"?name=taken", "{\"text\":\"y\"}\n", 409, "Dataset with name 'taken' already exists"},
        {"?name=again", ROWS, 409, "Dataset with same content already exists: 'taken'"},
    };
    struct hub_fixture *hub = *state;
    struct answer answer;

    assert_int_equal(upload(hub, "?name=taken", ROWS, NULL), 201);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const int status = upload(hub, rows[i].query, rows[i].body, &answer);
        if (status != rows[i].status || strstr(answer.body, rows[i].part) == NULL)
            fail_msg("%s: %d %s", rows[i].query, status, answer.body);
        answer_free(&answer);
    }
    assert_int_equal(call_raw(hub, "POST", "/datasets/upload?name=m",
                              "Content-Type: multipart/form-data; boundary=x\r\n", "--x--", NULL),
                     415);
    assert_int_equal(hub_entries(hub, "datasets"), 1);
}

static void bad_requests_are_told_what_is_wrong(void **state)
{
    static const struct {
        const char *path, *body;
        int status;
        const char *detail;
    } rows[] = {
        {"/datasets", "{\"name\":\"x\"}", 422, "body.path: Field required"},
        {"/datasets", "{\"name\":\"x\",\"path\":\"a.jsonl\",\"columns\":{\"prompt\":1}}", 422,
         "body.columns.prompt: Input should be a valid string"},
        {"/datasets", "{\"name\":\"x\",\"path\":\"a.jsonl\",\"more\":true}", 422,
         "body.more: Extra inputs are not permitted"},
        {"/datasets", "{\"name\":\"x\",\"path\":\"gone.jsonl\"}", 400,
         "Dataset file not found: gone.jsonl"},
        {"/datasets", "{\"name\":\"x\",\"path\":\"folder\"}", 400, "Not a file: folder"},
        {"/datasets", "{\"name\":\"x\",\"path\":\"text.jsonl\"}", 400,
         "text.jsonl:1: not JSON: JSON is not valid: invalid token near 'oops' at line 1 column 4"},
        {"/datasets", "{\"name\":\"taken\",\"path\":\"b.jsonl\"}", 409,
         "Dataset with name 'taken' already exists"},
        {"/datasets", "{\"name\":\"x\",\"path\":\"copy.jsonl\"}", 409,
         "Dataset with same content already exists: 'taken'"},
        {"/datasets/" NOBODY "/verify", NULL, 404, "Dataset " NOBODY " not found"},
    };
    struct hub_fixture *hub = *state;
    char outside[FS_PATH_BYTES_MAX + 64];
    char link[FS_PATH_BYTES_MAX + 64];
    struct err err = {0};

    hub_write(hub, "secret.jsonl", ROWS);
    hub_write(hub, "datasets/a.jsonl", ROWS);
    hub_write(hub, "datasets/b.jsonl", "{\"text\":\"b\"}\n");
    hub_write(hub, "datasets/copy.jsonl", ROWS);
    hub_write(hub, "datasets/text.jsonl", "oops\n");
    snprintf(link, sizeof link, "%s/datasets/folder", hub->dir);
    assert_ok(fs_mkdirs(link, &err), &err);
    call_quiet(hub, "POST", "/datasets", "{\"name\":\"taken\",\"path\":\"a.jsonl\"}", 201);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        call_refused(hub, "POST", rows[i].path, rows[i].body, rows[i].status, rows[i].detail);

    snprintf(outside, sizeof outside, "Dataset path must be within %s/datasets", hub->dir);
    call_refused(hub, "POST", "/datasets", "{\"name\":\"x\",\"path\":\"../secret.jsonl\"}", 400,
                 outside);
    call_refused(hub, "POST", "/datasets", "{\"name\":\"x\",\"path\":\"/etc/passwd\"}", 400,
                 outside);
    snprintf(link, sizeof link, "%s/datasets/link.jsonl", hub->dir);
    assert_int_equal(symlink("../secret.jsonl", link), 0);
    call_refused(hub, "POST", "/datasets", "{\"name\":\"x\",\"path\":\"link.jsonl\"}", 400,
                 outside);
    json_t *list = call(hub, "GET", "/datasets", NULL, 200);
    assert_int_equal(json_array_size(list), 1);
    json_decref(list);
}

static void rows_are_looked_at_as_training_would(void **state)
{
    struct hub_fixture *hub = *state;
    char id[64], path[192];

    hub_write(hub, "datasets/a.jsonl", ROWS);
    json_t *row = call(hub, "POST", "/datasets", "{\"name\":\"A\",\"path\":\"a.jsonl\"}", 201);
    snprintf(id, sizeof id, "%s", member(row, "id"));
    json_decref(row);
    call_quiet(hub, "POST", "/base-models/import",
               "{\"path\":\"tests/fixtures/train/base\",\"as\":\"org/tiny\"}", 201);
    snprintf(path, sizeof path, "/datasets/%s/check?base_model=org/tiny&max_seq_length=64", id);
    row = call(hub, "GET", path, NULL, 200);
    assert_int_equal(json_integer_value(json_object_get(row, "rows")), 2);
    assert_int_equal(json_array_size(json_object_get(row, "samples")), 2);
    assert_members(row, "rows chat completion text bytes sha256 base_model_template max_seq_length "
                        "mask_prompt tokens targets histogram truncated dropped empty "
                        "last_turn_only duplicate_of duplicates bad_rows bad samples");
    json_decref(row);
    snprintf(path, sizeof path, "/datasets/%s/check", id);
    call_refused(hub, "GET", path, NULL, 422, "query.base_model: Field required");
    snprintf(path, sizeof path, "/datasets/%s/check?base_model=org/tiny&row=9", id);
    call_refused(hub, "GET", path, NULL, 404, "there is no row 9: the file has 2");
    call_refused(hub, "GET", "/datasets/" NOBODY "/check?base_model=org/tiny", NULL, 404,
                 "Dataset " NOBODY " not found");
    snprintf(path, sizeof path, "/datasets/%s/check?base_model=other", id);
    call_quiet(hub, "GET", path, NULL, 409);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_is_registered_verified_and_forgotten, hub_setup,
                                        hub_teardown),
        cmocka_unit_test_setup_teardown(rows_are_looked_at_as_training_would, hub_setup,
                                        hub_teardown),
        cmocka_unit_test_setup_teardown(a_file_is_uploaded, hub_setup, hub_teardown),
        cmocka_unit_test_setup_teardown(refused_uploads_leave_nothing, hub_setup, hub_teardown),
        cmocka_unit_test_setup_teardown(bad_requests_are_told_what_is_wrong, hub_setup,
                                        hub_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
