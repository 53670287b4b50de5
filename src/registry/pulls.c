/* A pull is a job without a model; whoever asks for one that is under way joins it. Looked up and
 * inserted in one write transaction. */
#include "registry/pulls.h"

#include <string.h>

#include "registry/jobs_int.h"
#include "registry/names.h"
#include "registry/registry_int.h"

enum { CONFIG_BYTES_MAX = 8 << 10, ACTIVE_MAX = 1 << 20 };

static int write_config(const struct pull_draft *draft, struct arena *arena, const char **out,
                        struct err *err)
{
    struct buf buf;
    struct json_out json;
    int rc;

    buf_init(&buf, CONFIG_BYTES_MAX);
    json_out_init(&json, &buf);
    json_out_object(&json);
    json_out_kv_string(&json, "id", draft->name->id);
    json_out_kv_string(&json, "revision", draft->name->revision);
    json_out_kv_string(&json, "file", draft->name->file);
    json_out_kv_string(&json, "as", draft->as);
    json_out_kv_string(&json, "quantization", draft->quantization);
    json_out_object_end(&json);
    rc = buf_check(&buf, "config", err);
    *out = rc == 0 ? arena_strndup(arena, buf.data, buf.len) : NULL;
    buf_release(&buf);
    return rc == 0 && !*out ? mem_err(err, 0) : rc;
}

int pull_config_read(const json_t *tree, struct pull_config *config, struct err *err)
{
    const char *id = "", *revision = "", *file = "";
    int rc;

    if ((rc = json_get_string(tree, "id", "", &id, err)) != 0 ||
        (rc = json_get_string(tree, "revision", "", &revision, err)) != 0 ||
        (rc = json_get_string(tree, "file", "", &file, err)) != 0 ||
        (rc = json_get_string(tree, "as", id, &config->as, err)) != 0 ||
        (rc = json_get_string(tree, "quantization", NULL, &config->quantization, err)) != 0 ||
        (rc = repo_name_parse(id, &config->name, err)) != 0 ||
        (rc = repo_name_set_revision(&config->name, revision, err)) != 0)
        return rc;
    return repo_name_set_file(&config->name, file, err);
}

/* The job that pulls this already. */
static int find_active(struct db *db, const char *config, const char *as, struct arena *arena,
                       struct job_row *row, bool *found, struct err *err)
{
    static const char *const states[] = {"running", "queued"};
    int rc = 0;

    *found = false;
    for (size_t s = 0; s < 2 && rc == 0 && !*found; s++) {
        struct job_filter filter = {
            .status = states[s], .lane = LANE_PULLS, .oldest_first = true, .limit = ACTIVE_MAX};
        struct job_row *rows = NULL;
        size_t count = 0;

        rc = job_row_list(db, &filter, arena, &rows, &count, err);
        for (size_t i = 0; i < count && rc == 0 && !*found; i++) {
            if (rows[i].cancel_requested)
                continue;
            *found = strcmp(rows[i].config, config) == 0;
            if (*found)
                *row = rows[i];
            else if (jobs_make_base(rows[i].config, as))
                rc = err_set(err, ERR_CONFLICT,
                             "Something else is being pulled as '%s' (job %s): wait for it, cancel "
                             "it, or choose another name",
                             as, rows[i].id);
        }
    }
    return rc;
}

int registry_create_pull(struct registry *registry, const struct pull_draft *draft,
                         struct arena *arena, struct job_row *row, bool *joined, struct err *err)
{
    struct db *db = NULL;
    const char *config = NULL;
    int rc = name_check_base("as", draft->as, err);

    *joined = false;
    if (rc == 0)
        rc = write_config(draft, arena, &config, err);
    if (rc == 0)
        rc = registry_json_object("config", config, "{}", arena, &config, err);
    if (rc == 0)
        rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = find_active(db, config, draft->as, arena, row, joined, err);
    if (rc == 0 && !*joined)
        rc = registry_check_no_preset(db, draft->as, arena, err);
    if (rc == 0 && !*joined)
        rc = jobs_new_row(JOB_PULL, arena, row, err);
    if (rc == 0 && !*joined) {
        row->config = config;
        rc = jobs_insert(db, draft->queue_max, arena, row, err);
    }
    return registry_end(db, rc, err);
}
