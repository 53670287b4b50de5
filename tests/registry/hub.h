/* A registry on a folder of its own, and the few objects that most tests need. */
#ifndef TESTS_REGISTRY_HUB_H
#define TESTS_REGISTRY_HUB_H

#include "base/log.h"
#include "registry/bases.h"
#include "registry/claims.h"
#include "registry/datasets.h"
#include "registry/jobs.h"
#include "registry/models.h"
#include "registry/versions.h"
#include "test.h"

struct hub {
    char dir[FS_PATH_BYTES_MAX];
    char url[FS_PATH_BYTES_MAX + 32];
    struct registry *registry;
    struct arena arena;
    struct err err;
    const char *model, *dataset; /* ids, after hub_fill */
};

static inline void hub_open(struct hub *hub)
{
    struct registry_options options = {
        .database_url = hub->url, .base_path = hub->dir, .migrate = true};

    assert_ok(registry_open(&hub->registry, &options, &hub->err), &hub->err);
}

static inline int hub_setup(void **state)
{
    struct hub *hub = calloc(1, sizeof *hub);

    assert_non_null(hub);
    assert_ok(log_init("ERROR", false, &hub->err), &hub->err);
    test_dir_make(hub->dir);
    snprintf(hub->url, sizeof hub->url, "sqlite:///%s/hub.db", hub->dir);
    arena_init(&hub->arena, 0);
    hub_open(hub);
    *state = hub;
    return 0;
}

static inline int hub_teardown(void **state)
{
    struct hub *hub = *state;

    fault_disarm();
    registry_close(hub->registry);
    arena_release(&hub->arena);
    test_dir_remove(hub->dir);
    free(hub);
    return 0;
}

static inline const char *hub_path(struct hub *hub, const char *name)
{
    const char *path = arena_printf(&hub->arena, "%s/%s", hub->dir, name);

    assert_non_null(path);
    return path;
}

static inline void hub_write(struct hub *hub, const char *name, const char *text)
{
    assert_ok(fs_write_file(hub_path(hub, name), text, strlen(text), &hub->err), &hub->err);
}

static inline bool hub_has(struct hub *hub, const char *name)
{
    return fs_exists(hub_path(hub, name));
}

static inline int hub_count_one(void *ctx, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(int *)ctx;
    return 0;
}

/* Entries of a folder below the hub's. */
static inline int hub_entries(struct hub *hub, const char *name)
{
    int n = 0;

    assert_ok(fs_list_dir(hub_path(hub, name), hub_count_one, &n, &hub->err), &hub->err);
    return n;
}

static inline const char *hub_model(struct hub *hub, const char *name, const char *base)
{
    struct model_draft draft = {.name = name, .base_model = base};
    struct model_row row;

    assert_ok(registry_create_model(hub->registry, &draft, &hub->arena, &row, &hub->err),
              &hub->err);
    return row.id;
}

static inline const char *hub_dataset(struct hub *hub, const char *name, const char *text)
{
    const char *file = arena_printf(&hub->arena, "%s.jsonl", name);
    struct dataset_draft draft = {.name = name, .path = file};
    struct dataset_record row;

    hub_write(hub, arena_printf(&hub->arena, "datasets/%s", file), text);
    assert_ok(registry_create_dataset(hub->registry, &draft, &hub->arena, &row, &hub->err),
              &hub->err);
    return row.id;
}

static const struct base_facts hub_facts = {
    "gguf", "llama", 135000000, "Q4_1", 2048, "{\"n_layers\":4}", NULL};

static inline void hub_base(struct hub *hub, const char *id, const char *content)
{
    struct base_row row;

    hub_write(hub, "weights.gguf", content);
    assert_ok(registry_import_base(hub->registry, hub_path(hub, "weights.gguf"), id, &hub_facts,
                                   NULL, NULL, &hub->arena, &row, &hub->err),
              &hub->err);
}

#define HUB_ROW "{\"prompt\":\"a\",\"completion\":\"b\"}\n"

/* One base "org/tiny", one model "shop" on it, one dataset "facts". */
static inline void hub_fill(struct hub *hub)
{
    hub_base(hub, "org/tiny", "weights");
    hub->model = hub_model(hub, "shop", "org/tiny");
    hub->dataset = hub_dataset(hub, "facts", HUB_ROW HUB_ROW);
}

static inline struct job_row hub_job(struct hub *hub)
{
    struct job_draft draft = {hub->model, hub->dataset, NULL, 0, NULL};
    char warning[JOB_WARNING_BYTES];
    struct job_row row;

    assert_ok(registry_create_job(hub->registry, &draft, &hub->arena, &row, warning, &hub->err),
              &hub->err);
    return row;
}

static inline struct job_row hub_get_job(struct hub *hub, const char *id)
{
    struct job_row row;

    assert_ok(registry_get_job(hub->registry, id, &hub->arena, &row, &hub->err), &hub->err);
    return row;
}

static inline bool hub_claim_as(struct hub *hub, bool is_child, int64_t pid, struct job_row *row)
{
    struct job_worker worker = {is_child, registry_boot_id(hub->registry), NULL, pid, NULL,
                                LANE_ALL};
    bool claimed = false;

    assert_ok(registry_claim_job(hub->registry, &worker, &hub->arena, row, &claimed, &hub->err),
              &hub->err);
    return claimed;
}

static inline bool hub_claim(struct hub *hub, struct job_row *row)
{
    return hub_claim_as(hub, true, getpid(), row);
}

/* A claimed job's version, published with a file in its folder. */
static inline struct version_row hub_publish(struct hub *hub, const struct job_row *job)
{
    struct version_result result = {"{\"loss\":0.5}", "aa"};
    struct version_row row;
    char path[FS_PATH_BYTES_MAX];

    assert_ok(registry_job_version(hub->registry, job->id, job->fence, &hub->arena, &row, path,
                                   &hub->err),
              &hub->err);
    assert_ok(fs_mkdirs(path, &hub->err), &hub->err);
    assert_ok(registry_job_publish(hub->registry, job->id, job->fence, &result, &hub->err),
              &hub->err);
    assert_ok(
        registry_get_version(hub->registry, hub->model, row.id, &hub->arena, NULL, &row, &hub->err),
        &hub->err);
    return row;
}

/* Submits, claims and publishes. */
static inline struct version_row hub_version(struct hub *hub)
{
    struct job_row job = hub_job(hub);

    assert_true(hub_claim(hub, &job));
    return hub_publish(hub, &job);
}

#define HUB_TEST(name) cmocka_unit_test_setup_teardown(name, hub_setup, hub_teardown)

#endif
