/* Walks the model's jobs once. A node is added when it is first met, found again by kind and id;
 * each job adds at most its own, a dataset, a run and an edge to each, so arrays of a fixed number
 * per job and version hold everything. */
#include "registry/lineage.h"

#include <string.h>

#include "base/json.h"
#include "formats/train_config.h"
#include "registry/registry_int.h"
#include "store/base_models.h"
#include "store/datasets.h"
#include "store/jobs.h"
#include "store/models.h"
#include "store/versions.h"

enum { NODES_PER_JOB = 6, EDGES_PER_JOB = 6 };

struct walk {
    struct db *db;
    struct arena *arena;
    struct lineage *out;
    struct err *err;
    size_t base; /* index of the base's node */
};

static size_t add_node(struct walk *walk, const struct lineage_node *node)
{
    struct lineage *out = walk->out;

    for (size_t i = 0; i < out->n_nodes; i++)
        if (strcmp(out->nodes[i].kind, node->kind) == 0 && strcmp(out->nodes[i].id, node->id) == 0)
            return i;
    out->nodes[out->n_nodes] = *node;
    return out->n_nodes++;
}

static void add_edge(struct walk *walk, size_t from, size_t to)
{
    walk->out->edges[walk->out->n_edges++] = (struct lineage_edge){from, to};
}

static int add_dataset(struct walk *walk, const struct job_row *job, size_t to)
{
    struct lineage_node node = {.kind = "dataset"};
    struct dataset_record dataset;

    if (job->dataset_id) {
        int rc = dataset_record_get(walk->db, job->dataset_id, walk->arena, &dataset, walk->err);

        if (rc < 0)
            return rc;
        node.id = dataset.id;
        node.label = dataset.name;
        node.checksum = dataset.checksum;
        node.created_at = dataset.created_at;
    } else if (job->dataset_checksum) {
        node.id = node.label = node.checksum = job->dataset_checksum;
    } else {
        return 0;
    }
    add_edge(walk, add_node(walk, &node), to);
    return 0;
}

static size_t add_version(struct walk *walk, const struct version_row *version)
{
    return add_node(walk, &(struct lineage_node){"version", version->id, version->version,
                                                 version_status_name(version->status),
                                                 version->checksum, version->created_at});
}

/* init_from was turned into an id when the job was submitted; the version may be gone since. */
static int add_start(struct walk *walk, const struct job_row *job, size_t to)
{
    struct train_config config;
    struct version_row version;
    struct err why = {0};
    int rc;

    if (job->kind != JOB_TRAIN)
        return 0;
    rc = train_config_parse_text(&config, job->config, walk->err);
    if (rc < 0 || !config.init_from[0])
        return rc;
    rc = version_row_get(walk->db, config.init_from, walk->arena, &version, &why);
    if (rc == 0)
        add_edge(walk, add_version(walk, &version), to);
    else if (rc != -ERR_NOT_FOUND)
        return err_set(walk->err, why.code, "%s", why.message);
    return 0;
}

/* What an export job wrote: its label is the format, its checksum that of the files. */
static int add_export(struct walk *walk, const struct job_row *job, size_t from)
{
    struct lineage_node node = {.kind = "export", .id = job->id, .created_at = job->completed_at};
    struct err ignored = {0};
    json_t *result = job->result ? json_parse(job->result, strlen(job->result), &ignored) : NULL;
    const char *format = json_string_value(json_object_get(result, "format"));
    const char *sha256 = json_string_value(json_object_get(result, "sha256"));
    int rc = 0;

    node.label = arena_strdup(walk->arena, format ? format : "export");
    node.checksum = sha256 ? arena_strdup(walk->arena, sha256) : NULL;
    if (!node.label || (sha256 && !node.checksum))
        rc = mem_err(walk->err, 0);
    else
        add_edge(walk, from, add_node(walk, &node));
    json_decref(result);
    return rc;
}

static int add_result(struct walk *walk, const struct job_row *job, size_t from)
{
    struct version_row version;
    size_t run = from;
    int rc;

    if (!job->model_version_id)
        return 0;
    rc = version_row_get(walk->db, job->model_version_id, walk->arena, &version, walk->err);
    if (rc < 0)
        return rc;
    if (job->kind != JOB_TRAIN) { /* it is about the version and made nothing of it */
        const size_t at = add_version(walk, &version);

        add_edge(walk, at, from);
        return job->kind == JOB_EXPORT && job->status == JOB_COMPLETED ? add_export(walk, job, from)
                                                                       : 0;
    }
    if (version.mlflow_run_id) {
        run = add_node(walk, &(struct lineage_node){"run", version.mlflow_run_id,
                                                    version.mlflow_run_id, NULL, NULL, NULL});
        add_edge(walk, from, run);
    }
    add_edge(walk, run, add_version(walk, &version));
    return 0;
}

static int add_job(struct walk *walk, const struct job_row *job)
{
    size_t at =
        add_node(walk, &(struct lineage_node){"job", job->id, job_kind_name(job->kind),
                                              job_status_name(job->status), NULL, job->created_at});
    int rc = add_dataset(walk, job, at);

    if (rc == 0)
        rc = add_start(walk, job, at);
    if (rc == 0)
        rc = add_result(walk, job, at);
    if (rc == 0)
        add_edge(walk, walk->base, at);
    return rc;
}

static int add_base(struct walk *walk, const struct model_row *model)
{
    struct base_row base;
    bool found = false;
    int rc = base_row_find(walk->db, model->base_model, walk->arena, &base, &found, walk->err);

    if (rc == 0)
        walk->base =
            add_node(walk, &(struct lineage_node){"base", model->base_model, model->base_model,
                                                  NULL, found ? base.sha256 : NULL,
                                                  found ? base.created_at : NULL});
    return rc;
}

static int room(struct walk *walk, size_t jobs, size_t versions)
{
    struct lineage *out = walk->out;

    out->nodes = arena_alloc(walk->arena, 1 + versions + jobs * NODES_PER_JOB, sizeof *out->nodes);
    out->edges = arena_alloc(walk->arena, 1 + jobs * EDGES_PER_JOB, sizeof *out->edges);
    return out->nodes && out->edges ? 0 : mem_err(walk->err, 0);
}

static int walk_model(struct walk *walk, const char *model_id)
{
    struct job_filter filter = {.model_id = model_id, .limit = LINEAGE_JOBS_MAX};
    struct model_row model;
    struct version_row *versions = NULL;
    struct job_row *jobs = NULL;
    size_t n_versions = 0, n_jobs = 0;
    int rc = model_row_get(walk->db, model_id, walk->arena, &model, walk->err);

    if (rc == 0)
        rc = version_row_list(walk->db, model_id, INT64_MAX, 0, walk->arena, &versions, &n_versions,
                              walk->err);
    if (rc == 0)
        rc = job_row_list(walk->db, &filter, walk->arena, &jobs, &n_jobs, walk->err);
    if (rc == 0)
        rc = room(walk, n_jobs, n_versions);
    if (rc == 0)
        rc = add_base(walk, &model);
    for (size_t i = 0; i < n_versions && rc == 0; i++)
        (void)add_version(walk, &versions[i]);
    for (size_t i = 0; i < n_jobs && rc == 0; i++)
        rc = add_job(walk, &jobs[i]);
    return rc;
}

int registry_lineage(struct registry *registry, const char *model_id, struct arena *arena,
                     struct lineage *out, struct err *err)
{
    struct walk walk = {NULL, arena, out, err, 0};
    int rc = registry_begin_read(registry, &walk.db, err);

    memset(out, 0, sizeof *out);
    if (rc == 0)
        rc = walk_model(&walk, model_id);
    return registry_end(walk.db, rc, err);
}
