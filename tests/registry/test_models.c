/* Models and versions: create, list, patch, delete, aliases, folders, lineage. */
#include "registry/hub.h"
#include "registry/lineage.h"

static struct model_row get(struct hub *hub, const char *id)
{
    struct model_row row;

    assert_ok(registry_get_model(hub->registry, id, &hub->arena, &row, &hub->err), &hub->err);
    return row;
}

static void test_create_and_get(void **state)
{
    struct hub *hub = *state;
    struct model_draft draft = {"shop", "chat", "a shop", "org/tiny", "{ \"team\": \"x\" }"};
    struct model_row made, row;

    assert_ok(registry_create_model(hub->registry, &draft, &hub->arena, &made, &hub->err),
              &hub->err);
    row = get(hub, made.id);
    assert_string_equal(row.name, "shop");
    assert_string_equal(row.folder, "shop");
    assert_int_equal(row.task_type, TASK_CHAT);
    assert_string_equal(row.description, "a shop");
    assert_string_equal(row.base_model, "org/tiny");
    assert_string_equal(row.tags, "{\"team\":\"x\"}");
    assert_null(row.mlflow_experiment_id);
    assert_string_equal(row.created_at, made.created_at);
    assert_int_equal(row.version_count, 0);
    assert_ok(registry_set_experiment(hub->registry, made.id, "7", &hub->err), &hub->err);
    assert_string_equal(get(hub, made.id).mlflow_experiment_id, "7");
}

static void test_bad_drafts(void **state)
{
    struct hub *hub = *state;
    char description[2002], base[502];
    const struct {
        struct model_draft draft;
        const char *why;
    } rows[] = {
        {{"", NULL, NULL, "b", NULL}, "name"},
        {{"a", "poetry", NULL, "b", NULL}, "task_type must be one of text-generation"},
        {{"a", NULL, description, "b", NULL}, "description has 2001"},
        {{"a", NULL, NULL, "", NULL}, "base_model"},
        {{"a", NULL, NULL, NULL, NULL}, "base_model"},
        {{"a", NULL, NULL, base, NULL}, "base_model has 501"},
        {{"a", NULL, NULL, "b", "[]"}, "tags must be an object"},
        {{"a", NULL, NULL, "b", "{"}, "tags"},
    };
    struct model_row row;

    memset(description, 'd', 2001);
    memset(base, 'b', 501);
    description[2001] = base[501] = '\0';
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(
            registry_create_model(hub->registry, &rows[i].draft, &hub->arena, &row, &hub->err),
            -ERR_UNPROCESSABLE);
        if (!strstr(hub->err.message, rows[i].why))
            fail_msg("row %zu: %s", i, hub->err.message);
        err_clear(&hub->err);
    }
}

static void test_exact_messages(void **state)
{
    struct hub *hub = *state;
    struct model_draft draft = {.name = "shop", .base_model = "b"};
    struct model_row row;

    hub_model(hub, "shop", "b");
    assert_int_equal(registry_create_model(hub->registry, &draft, &hub->arena, &row, &hub->err),
                     -ERR_CONFLICT);
    assert_string_equal(hub->err.message, "Model with name 'shop' already exists");
    err_clear(&hub->err);
    assert_int_equal(registry_get_model(hub->registry, "12345678-1234-1234-1234-123456789012",
                                        &hub->arena, &row, &hub->err),
                     -ERR_NOT_FOUND);
    assert_string_equal(hub->err.message, "Model 12345678-1234-1234-1234-123456789012 not found");
    err_clear(&hub->err);
}

static void test_folders_never_collide(void **state)
{
    struct hub *hub = *state;
    struct model_row a = get(hub, hub_model(hub, "Shop", "b"));
    struct model_row b = get(hub, hub_model(hub, "shop", "b"));

    assert_string_equal(a.folder, "Shop");
    assert_true(strncmp(b.folder, "shop~", 5) == 0);
    /* a leftover folder on disk is not adopted either */
    assert_ok(fs_mkdirs(hub_path(hub, "models/left"), &hub->err), &hub->err);
    struct model_row c = get(hub, hub_model(hub, "left", "b"));
    assert_true(strncmp(c.folder, "left~", 5) == 0);
    /* a rename moves no folder, and the old name is free for another with a folder of its own */
    struct model_patch patch = {.name = "renamed"};
    struct model_row row;
    assert_ok(registry_patch_model(hub->registry, a.id, &patch, &hub->arena, &row, &hub->err),
              &hub->err);
    assert_string_equal(row.folder, "Shop");
    struct model_row d = get(hub, hub_model(hub, "Shop", "b"));
    assert_true(strncmp(d.folder, "Shop~", 5) == 0);
}

static void test_list_filters_and_pages(void **state)
{
    struct hub *hub = *state;
    struct model_filter filter = {.limit = 2};
    struct model_row *rows = NULL;
    size_t count = 0;
    int64_t total = 0;

    hub_model(hub, "alpha", "b");
    hub_model(hub, "beta_1", "b");
    hub_model(hub, "Gamma", "b");
    filter.sort = MODELS_BY_NAME;
    assert_ok(
        registry_list_models(hub->registry, &filter, &hub->arena, &rows, &count, &total, &hub->err),
        &hub->err);
    assert_int_equal(count, 2);
    assert_int_equal(total, 3);
    assert_string_equal(rows[0].name, "Gamma");
    filter.offset = 2;
    assert_ok(
        registry_list_models(hub->registry, &filter, &hub->arena, &rows, &count, &total, &hub->err),
        &hub->err);
    assert_int_equal(count, 1);
    assert_string_equal(rows[0].name, "beta_1");
    filter.offset = 0;
    filter.q = "GAM";
    assert_ok(
        registry_list_models(hub->registry, &filter, &hub->arena, &rows, &count, &total, &hub->err),
        &hub->err);
    assert_int_equal(total, 1);
    filter.q = "a_1"; /* an underscore is itself, not any character */
    assert_ok(
        registry_list_models(hub->registry, &filter, &hub->arena, &rows, &count, &total, &hub->err),
        &hub->err);
    assert_int_equal(total, 1);
    filter.q = "%";
    assert_ok(
        registry_list_models(hub->registry, &filter, &hub->arena, &rows, &count, &total, &hub->err),
        &hub->err);
    assert_int_equal(total, 0);
    filter.q = NULL;
    filter.task_type = "chat";
    assert_ok(
        registry_list_models(hub->registry, &filter, &hub->arena, &rows, &count, &total, &hub->err),
        &hub->err);
    assert_int_equal(total, 0);
}

static void test_patch(void **state)
{
    struct hub *hub = *state;
    struct model_patch patch = {.name = "new",
                                .description = "d",
                                .task_type = "chat",
                                .base_model = "other",
                                .tags = "{\"a\":1}"};
    struct model_row row;

    hub_fill(hub);
    assert_ok(registry_patch_model(hub->registry, hub->model, &patch, &hub->arena, &row, &hub->err),
              &hub->err);
    row = get(hub, hub->model);
    assert_string_equal(row.name, "new");
    assert_string_equal(row.description, "d");
    assert_string_equal(row.base_model, "other");
    assert_string_equal(row.tags, "{\"a\":1}");
    patch = (struct model_patch){.clear_description = true, .base_model = "org/tiny"};
    assert_ok(registry_patch_model(hub->registry, hub->model, &patch, &hub->arena, &row, &hub->err),
              &hub->err);
    assert_null(get(hub, hub->model).description);
    /* with a version, the base stays; naming it again is no change */
    hub_version(hub);
    assert_ok(registry_patch_model(hub->registry, hub->model, &patch, &hub->arena, &row, &hub->err),
              &hub->err);
    patch.base_model = "other";
    assert_err(
        registry_patch_model(hub->registry, hub->model, &patch, &hub->arena, &row, &hub->err),
        &hub->err, ERR_CONFLICT);
    hub_model(hub, "taken", "b");
    patch = (struct model_patch){.name = "taken"};
    assert_err(
        registry_patch_model(hub->registry, hub->model, &patch, &hub->arena, &row, &hub->err),
        &hub->err, ERR_CONFLICT);
    patch = (struct model_patch){.name = "a/b"};
    assert_err(
        registry_patch_model(hub->registry, hub->model, &patch, &hub->arena, &row, &hub->err),
        &hub->err, ERR_UNPROCESSABLE);
}

static void test_delete(void **state)
{
    struct hub *hub = *state;
    struct model_row row;
    struct job_row job;

    hub_fill(hub);
    hub_version(hub);
    assert_true(hub_has(hub, "models/shop/versions/1.0.0"));
    job = hub_job(hub);
    assert_err(registry_delete_model(hub->registry, hub->model, &hub->err), &hub->err,
               ERR_CONFLICT);
    assert_true(hub_claim(hub, &job));
    assert_err(registry_delete_model(hub->registry, hub->model, &hub->err), &hub->err,
               ERR_CONFLICT);
    assert_ok(registry_job_fail(hub->registry, job.id, job.fence, "no", &hub->err), &hub->err);
    assert_ok(fs_mkdirs(arena_printf(&hub->arena, "%s/checkpoints/%s/step-1", hub->dir, job.id),
                        &hub->err),
              &hub->err);
    assert_ok(
        fs_mkdirs(arena_printf(&hub->arena, "%s/artifacts/jobs/%s", hub->dir, job.id), &hub->err),
        &hub->err);
    hub_write(hub, arena_printf(&hub->arena, "artifacts/jobs/%s/train.log", job.id), "a line");
    assert_ok(registry_delete_model(hub->registry, hub->model, &hub->err), &hub->err);
    assert_false(hub_has(hub, "models/shop"));
    assert_int_equal(hub_entries(hub, "checkpoints"), 0);
    assert_int_equal(hub_entries(hub, "artifacts/jobs"), 0);
    assert_err(registry_get_model(hub->registry, hub->model, &hub->arena, &row, &hub->err),
               &hub->err, ERR_NOT_FOUND);
    assert_err(registry_get_job(hub->registry, job.id, &hub->arena, &job, &hub->err), &hub->err,
               ERR_NOT_FOUND);
    assert_err(registry_delete_model(hub->registry, hub->model, &hub->err), &hub->err,
               ERR_NOT_FOUND);
}

static void test_versions_number_and_order(void **state)
{
    struct hub *hub = *state;
    struct version_row *rows = NULL, row;
    size_t count = 0;
    int64_t total = 0;

    hub_fill(hub);
    row = hub_version(hub);
    assert_string_equal(row.version, "1.0.0");
    assert_int_equal(row.number, 1);
    assert_int_equal(row.status, VERSION_READY);
    assert_string_equal(row.metrics, "{\"loss\":0.5}");
    assert_string_equal(row.checksum, "aa");
    assert_string_equal(row.artifact_path, hub_path(hub, "models/shop/versions/1.0.0"));
    row = hub_version(hub);
    assert_string_equal(row.version, "1.1.0");
    assert_ok(registry_delete_version(hub->registry, hub->model, "1.1.0", &hub->err), &hub->err);
    assert_false(hub_has(hub, "models/shop/versions/1.1.0"));
    row = hub_version(hub); /* a number is never given twice */
    assert_string_equal(row.version, "1.2.0");
    assert_ok(registry_list_versions(hub->registry, hub->model, 10, 0, &hub->arena, &rows, &count,
                                     &total, &hub->err),
              &hub->err);
    assert_int_equal(total, 2);
    assert_string_equal(rows[0].version, "1.2.0");
    assert_string_equal(rows[1].version, "1.0.0");
    assert_int_equal(get(hub, hub->model).version_count, 2);
    assert_int_equal(registry_get_version(hub->registry, hub->model, "9.9.9", &hub->arena, NULL,
                                          &row, &hub->err),
                     -ERR_NOT_FOUND);
    assert_non_null(strstr(hub->err.message, "Version 9.9.9 of model"));
    err_clear(&hub->err);
}

static void test_aliases_move(void **state)
{
    struct hub *hub = *state;
    static const char *const both[] = {"production", "best"}, *const one[] = {"production"},
                             *const latest[] = {"latest"};
    struct version_patch patch = {.aliases = both, .n_aliases = 2, .notes = "good"};
    struct version_row row;

    hub_fill(hub);
    hub_version(hub);
    hub_version(hub);
    assert_ok(registry_patch_version(hub->registry, hub->model, "1.0.0", &patch, &hub->arena, &row,
                                     &hub->err),
              &hub->err);
    assert_int_equal(row.n_aliases, 2);
    assert_string_equal(row.aliases[0], "best");
    assert_string_equal(row.notes, "good");
    patch = (struct version_patch){.aliases = one, .n_aliases = 1, .status = "archived"};
    assert_ok(registry_patch_version(hub->registry, hub->model, "1.1.0", &patch, &hub->arena, &row,
                                     &hub->err),
              &hub->err);
    assert_int_equal(row.status, VERSION_ARCHIVED);
    assert_ok(registry_get_version(hub->registry, hub->model, "1.0.0", &hub->arena, NULL, &row,
                                   &hub->err),
              &hub->err);
    assert_int_equal(row.n_aliases, 1);
    patch = (struct version_patch){.aliases = latest, .n_aliases = 1};
    assert_err(registry_patch_version(hub->registry, hub->model, "1.0.0", &patch, &hub->arena, &row,
                                      &hub->err),
               &hub->err, ERR_UNPROCESSABLE);
    patch = (struct version_patch){.status = "training"};
    assert_err(registry_patch_version(hub->registry, hub->model, "1.0.0", &patch, &hub->arena, &row,
                                      &hub->err),
               &hub->err, ERR_UNPROCESSABLE);
}

static void test_a_version_in_use_stays(void **state)
{
    struct hub *hub = *state;
    struct version_row made, row;
    struct job_row job;
    char warning[JOB_WARNING_BYTES], path[FS_PATH_BYTES_MAX];
    json_t *config = json_pack("{s:s}", "init_from", "shop@1.0.0");
    struct version_patch patch = {.status = "ready"};

    hub_fill(hub);
    made = hub_version(hub);
    struct job_draft draft = {hub->model, hub->dataset, config, 0, NULL};
    assert_ok(registry_create_job(hub->registry, &draft, &hub->arena, &job, warning, &hub->err),
              &hub->err);
    assert_non_null(strstr(job.config, made.id)); /* init_from became an id */
    assert_err(registry_delete_version(hub->registry, hub->model, "1.0.0", &hub->err), &hub->err,
               ERR_CONFLICT);
    assert_true(hub_claim(hub, &job));
    assert_ok(
        registry_job_version(hub->registry, job.id, job.fence, &hub->arena, &row, path, &hub->err),
        &hub->err);
    assert_err(registry_delete_version(hub->registry, hub->model, "1.1.0", &hub->err), &hub->err,
               ERR_CONFLICT);
    assert_err(registry_patch_version(hub->registry, hub->model, "1.1.0", &patch, &hub->arena, &row,
                                      &hub->err),
               &hub->err, ERR_CONFLICT);
    json_decref(config);
}

static void test_evaluations_and_run(void **state)
{
    struct hub *hub = *state;
    struct version_row row;

    hub_fill(hub);
    row = hub_version(hub);
    assert_ok(registry_add_evaluation(hub->registry, row.id, "{\"a\":1}", &hub->err), &hub->err);
    assert_ok(registry_add_evaluation(hub->registry, row.id, "{\"b\":2}", &hub->err), &hub->err);
    assert_err(registry_add_evaluation(hub->registry, row.id, "3", &hub->err), &hub->err,
               ERR_UNPROCESSABLE);
    assert_ok(registry_set_run(hub->registry, row.id, "run1", &hub->err), &hub->err);
    assert_ok(registry_get_version(hub->registry, hub->model, "1.0.0", &hub->arena, NULL, &row,
                                   &hub->err),
              &hub->err);
    assert_string_equal(row.evaluations, "[{\"a\":1},{\"b\":2}]");
    assert_string_equal(row.mlflow_run_id, "run1");
}

static size_t node(const struct lineage *lineage, const char *kind)
{
    for (size_t i = 0; i < lineage->n_nodes; i++)
        if (strcmp(lineage->nodes[i].kind, kind) == 0)
            return i;
    fail_msg("no %s", kind);
    return 0;
}

static bool edge(const struct lineage *lineage, const char *from, const char *to)
{
    for (size_t i = 0; i < lineage->n_edges; i++)
        if (lineage->edges[i].from == node(lineage, from) &&
            lineage->edges[i].to == node(lineage, to))
            return true;
    return false;
}

static void test_lineage(void **state)
{
    struct hub *hub = *state;
    struct lineage lineage;
    struct version_row row;

    hub_fill(hub);
    row = hub_version(hub);
    assert_ok(registry_set_run(hub->registry, row.id, "run1", &hub->err), &hub->err);
    assert_ok(registry_lineage(hub->registry, hub->model, &hub->arena, &lineage, &hub->err),
              &hub->err);
    assert_int_equal(lineage.n_nodes, 5);
    assert_true(edge(&lineage, "dataset", "job"));
    assert_true(edge(&lineage, "base", "job"));
    assert_true(edge(&lineage, "job", "run"));
    assert_true(edge(&lineage, "run", "version"));
    assert_string_equal(lineage.nodes[node(&lineage, "dataset")].label, "facts");
    /* the dataset's row goes, its trace stays */
    assert_ok(registry_delete_dataset(hub->registry, hub->dataset, &hub->err), &hub->err);
    assert_ok(registry_lineage(hub->registry, hub->model, &hub->arena, &lineage, &hub->err),
              &hub->err);
    assert_int_equal(strlen(lineage.nodes[node(&lineage, "dataset")].checksum), 64);
}

static void test_allocations_fail(void **state)
{
    struct hub *hub = *state;
    struct model_draft draft = {"n", "chat", "d", "b", "{}"};

    for (uint64_t n = 1;; n++) {
        struct arena arena;
        struct model_row row;
        struct err err = {0};

        arena_init(&arena, 0);
        fault_arm(FAULT_MALLOC, n, false);
        int rc = registry_create_model(hub->registry, &draft, &arena, &row, &err);
        bool fired = fault_fired();
        fault_disarm();
        arena_release(&arena);
        struct model_filter filter = {.limit = 10};
        struct model_row *rows = NULL;
        size_t count = 0;
        int64_t total = 0;
        assert_ok(registry_list_models(hub->registry, &filter, &hub->arena, &rows, &count, &total,
                                       &hub->err),
                  &hub->err);
        assert_int_equal(total, rc == 0 ? 1 : 0);
        if (rc < 0)
            assert_true(err.code == ERR_NOMEM || err.code == ERR_UNAVAILABLE);
        if (rc == 0 && !fired)
            break;
        if (rc == 0)
            assert_ok(registry_delete_model(hub->registry, rows[0].id, &hub->err), &hub->err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HUB_TEST(test_create_and_get),
        HUB_TEST(test_bad_drafts),
        HUB_TEST(test_exact_messages),
        HUB_TEST(test_folders_never_collide),
        HUB_TEST(test_list_filters_and_pages),
        HUB_TEST(test_patch),
        HUB_TEST(test_delete),
        HUB_TEST(test_versions_number_and_order),
        HUB_TEST(test_aliases_move),
        HUB_TEST(test_a_version_in_use_stays),
        HUB_TEST(test_evaluations_and_run),
        HUB_TEST(test_lineage),
        HUB_TEST(test_allocations_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
