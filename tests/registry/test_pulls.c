/* Pulls in the queue: who joins whom, and that they run beside what computes. And taking in what
 * the hub has made itself. */
#include "registry/hub.h"

#include <sys/stat.h>

#include "registry/pulls.h"

static int create(struct hub *hub, const char *text, const char *as, struct job_row *row,
                  bool *joined)
{
    struct repo_name name;
    struct pull_draft draft = {.name = &name, .as = as};

    assert_ok(repo_name_parse(text, &name, &hub->err), &hub->err);
    return registry_create_pull(hub->registry, &draft, &hub->arena, row, joined, &hub->err);
}

static struct job_row pull(struct hub *hub, const char *text, const char *as)
{
    struct job_row row;
    bool joined = true;

    assert_ok(create(hub, text, as, &row, &joined), &hub->err);
    assert_false(joined);
    return row;
}

static bool claim(struct hub *hub, enum job_lane lane, struct job_row *row)
{
    struct job_worker worker = {
        .boot_id = registry_boot_id(hub->registry), .pid = getpid(), .lane = lane};
    bool claimed = false;

    assert_ok(registry_claim_job(hub->registry, &worker, &hub->arena, row, &claimed, &hub->err),
              &hub->err);
    return claimed;
}

static void test_the_same_pull_is_joined(void **state)
{
    struct hub *hub = *state;
    struct job_row first = pull(hub, "org/name@v1:Q8_0", "mine"), row;
    struct pull_config config;
    bool joined = false;

    assert_int_equal(first.kind, JOB_PULL);
    json_t *tree = json_parse(first.config, strlen(first.config), &hub->err);
    assert_ok(pull_config_read(tree, &config, &hub->err), &hub->err);
    assert_string_equal(config.name.id, "org/name");
    assert_string_equal(config.name.revision, "v1");
    assert_string_equal(config.name.file, "Q8_0");
    assert_string_equal(config.as, "mine");
    assert_null(config.quantization);
    json_decref(tree);

    assert_ok(create(hub, "org/name@v1:Q8_0", "mine", &row, &joined), &hub->err);
    assert_true(joined);
    assert_string_equal(row.id, first.id);
    assert_err(create(hub, "org/other", "mine", &row, &joined), &hub->err, ERR_CONFLICT);
    assert_err(create(hub, "org/other", "a:b", &row, &joined), &hub->err, ERR_UNPROCESSABLE);
    pull(hub, "org/other", "other");
    /* running is joined, too; what is asked to stop or has ended is not */
    assert_true(claim(hub, LANE_PULLS, &row));
    assert_ok(create(hub, "org/name@v1:Q8_0", "mine", &row, &joined), &hub->err);
    assert_true(joined);
    assert_ok(registry_cancel_job(hub->registry, first.id, &hub->arena, &row, &hub->err),
              &hub->err);
    assert_string_not_equal(pull(hub, "org/name@v1:Q8_0", "mine").id, first.id);
}

static void test_a_pull_runs_beside_what_computes(void **state)
{
    struct hub *hub = *state;
    struct job_row row, train;
    bool found = false;

    hub_fill(hub);
    struct job_row first = pull(hub, "org/a", "a"), second = pull(hub, "org/b", "b");
    struct job_row work = hub_job(hub);
    assert_true(claim(hub, LANE_WORK, &train));
    assert_string_equal(train.id, work.id);
    assert_false(claim(hub, LANE_WORK, &row));
    assert_true(claim(hub, LANE_PULLS, &row));
    assert_string_equal(row.id, first.id);
    assert_false(claim(hub, LANE_PULLS, &row)); /* one at a time */
    assert_false(claim(hub, LANE_ALL, &row));
    assert_ok(registry_active_job(hub->registry, &hub->arena, &row, &found, &hub->err), &hub->err);
    assert_true(found);
    assert_string_equal(row.id, work.id);

    row = hub_get_job(hub, first.id);
    assert_ok(registry_job_tell(hub->registry, row.id, row.fence, "{\"bytes\":1}", &hub->err),
              &hub->err);
    assert_string_equal(hub_get_job(hub, first.id).result, "{\"bytes\":1}");
    assert_err(registry_job_tell(hub->registry, row.id, row.fence + 1, "{}", &hub->err), &hub->err,
               ERR_CONFLICT);
    assert_ok(registry_job_fail(hub->registry, row.id, row.fence, "why", &hub->err), &hub->err);
    assert_true(claim(hub, LANE_ALL, &row)); /* a worker on its own takes pulls, too */
    assert_string_equal(row.id, second.id);

    assert_ok(registry_resume_job(hub->registry, first.id, 0, &hub->arena, &row, &hub->err),
              &hub->err);
    assert_int_equal(row.kind, JOB_PULL);
    assert_string_equal(row.config, first.config);
    assert_string_equal(row.resumed_from, first.id);
}

static ino_t inode(struct hub *hub, const char *path)
{
    struct stat info;

    assert_int_equal(stat(path, &info), 0);
    (void)hub;
    return info.st_ino;
}

static void take(struct hub *hub, const char *name, const char *id, struct base_row *row)
{
    assert_ok(registry_take_base(hub->registry, hub_path(hub, name), id, &hub_facts, NULL, NULL,
                                 &hub->arena, row, &hub->err),
              &hub->err);
}

static void test_what_is_the_hubs_own_becomes_the_blob(void **state)
{
    struct hub *hub = *state;
    struct base_row file, folder, copy;
    char path[FS_PATH_BYTES_MAX];

    hub_write(hub, "cache/m.gguf", "weights");
    ino_t was = inode(hub, hub_path(hub, "cache/m.gguf"));
    take(hub, "cache/m.gguf", "file", &file);
    assert_false(hub_has(hub, "cache/m.gguf"));
    assert_ok(registry_base_path(hub->registry, "file", &hub->arena, &file, path, &hub->err),
              &hub->err);
    assert_int_equal(inode(hub, path), was);
    assert_int_equal(file.bytes, 7);

    assert_ok(fs_mkdirs(hub_path(hub, "cache/f"), &hub->err), &hub->err);
    hub_write(hub, "cache/f/config.json", "{}");
    hub_write(hub, "cache/f/model.safetensors", "weights");
    was = inode(hub, hub_path(hub, "cache/f/model.safetensors"));
    take(hub, "cache/f", "folder", &folder);
    assert_false(hub_has(hub, "cache/f"));
    assert_true(folder.is_folder);
    assert_int_equal(folder.bytes, 9);
    assert_ok(registry_base_path(hub->registry, "folder", &hub->arena, &folder, path, &hub->err),
              &hub->err);
    assert_int_equal(inode(hub, arena_printf(&hub->arena, "%s/model.safetensors", path)), was);

    /* an import of the same bytes is the same content, and a second taking leaves what it was given
     */
    hub_write(hub, "again.gguf", "weights");
    take(hub, "again.gguf", "second", &copy);
    assert_string_equal(copy.sha256, file.sha256);
    assert_true(hub_has(hub, "again.gguf"));
    hub_base(hub, "third", "weights");
    assert_int_equal(hub_entries(hub, "blobs/sha256"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HUB_TEST(test_the_same_pull_is_joined),
        HUB_TEST(test_a_pull_runs_beside_what_computes),
        HUB_TEST(test_what_is_the_hubs_own_becomes_the_blob),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
