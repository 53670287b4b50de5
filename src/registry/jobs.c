/* How it works: a job is a row. Everything that it refers to is looked at in the same transaction
 * that inserts it, so nothing can be deleted in between; from then on deletes see the job.
 */
#include "registry/jobs.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "formats/manifest.h"
#include "formats/train_config.h"
#include "registry/datasets.h"
#include "registry/jobs_int.h"
#include "registry/registry_int.h"
#include "store/base_models.h"
#include "store/datasets.h"
#include "store/models.h"
#include "store/versions.h"

enum { CONFIG_BYTES_MAX = 16 << 10 };

static int check_queue(struct db *db, int64_t queue_max, struct err *err)
{
    struct job_filter filter = {.status = "queued"};
    int64_t queued = 0;
    int rc = job_row_count(db, &filter, &queued, err);

    if (rc == 0 && queue_max > 0 && queued >= queue_max)
        rc = err_set(err, ERR_BUSY, "The queue is full: %lld jobs wait, at most %lld may",
                     (long long)queued, (long long)queue_max);
    return rc;
}

static int check_weights(const struct registry *registry, struct db *db, const char *base_model,
                         struct arena *arena, struct err *err)
{
    struct base_row base;
    char path[FS_PATH_BYTES_MAX];
    bool found = false;
    int rc = base_row_find(db, base_model, arena, &base, &found, err);

    if (rc == 0 && found)
        rc = storage_blob(&registry->storage, base.sha256, path, err);
    if (rc == 0 && (!found || !fs_exists(path)))
        rc =
            err_set(err, ERR_CONFLICT,
                    "The weights of '%s' are missing; run: mlx-hub import PATH --as %s, or mlx-hub "
                    "pull %s",
                    base_model, base_model, base_model);
    return rc;
}

/* init_from is a version's id, or name@version; *id is its id. */
static int find_start(struct db *db, const char *text, struct arena *arena, struct version_row *row,
                      struct err *err)
{
    const char *at = strrchr(text, '@');
    struct model_row model;
    bool found = false;
    int rc;

    if (!at)
        return version_row_get(db, text, arena, row, err);
    char *name = arena_strndup(arena, text, (size_t)(at - text));
    if (!name)
        return mem_err(err, strlen(text));
    rc = model_row_find(db, name, arena, &model, &found, err);
    if (rc == 0 && found)
        rc = version_row_find(db, model.id, at + 1, arena, row, &found, err);
    if (rc == 0 && !found)
        rc = err_set(err, ERR_NOT_FOUND, "Version %s not found", text);
    return rc;
}

static void warn(char warning[JOB_WARNING_BYTES], const char *fmt, ...) PRINTF_LIKE(2, 3);

static void warn(char warning[JOB_WARNING_BYTES], const char *fmt, ...)
{
    const size_t n = strlen(warning);
    va_list args;
    int sep = n > 0 ? snprintf(warning + n, JOB_WARNING_BYTES - n, "; ") : 0;

    if (sep < 0 || n + (size_t)sep >= JOB_WARNING_BYTES)
        return;
    va_start(args, fmt);
    (void)vsnprintf(warning + n + sep, JOB_WARNING_BYTES - n - (size_t)sep, fmt, args);
    va_end(args);
}

/* "q_proj, v_proj" */
static const char *name_targets(unsigned targets, struct arena *arena)
{
    const char *names = "";

    for (int bit = 0; bit < TRAIN_TARGET_COUNT && names; bit++)
        if (targets & (1u << bit))
            names =
                arena_printf(arena, "%s%s%s", names, *names ? ", " : "", train_target_name(bit));
    return names ? names : "other layers";
}

/* The blocks that have factors, of a base of n_layers (0: not known). */
static int64_t count_layers(const struct train_config *config, int64_t n_layers)
{
    return config->num_layers < 0 || (n_layers > 0 && config->num_layers > n_layers)
               ? n_layers
               : config->num_layers;
}

/* Factors go on only as they are: of the same rank, on the same matrices of the same blocks. */
static int compare_factors(const char *version, const struct train_config *was,
                           const struct train_config *now, int64_t n_layers, struct arena *arena,
                           struct err *err)
{
    const int64_t had = count_layers(was, n_layers), has = count_layers(now, n_layers);

    if (was->lora_rank != now->lora_rank)
        return err_set(err, ERR_UNPROCESSABLE,
                       "Version %s has factors of rank %lld, which a run of rank %lld cannot go on "
                       "from: set lora_rank %lld",
                       version, (long long)was->lora_rank, (long long)now->lora_rank,
                       (long long)was->lora_rank);
    if (was->lora_targets != now->lora_targets)
        return err_set(err, ERR_UNPROCESSABLE,
                       "Version %s has factors on %s, which a run on %s cannot go on from: name "
                       "the same lora_targets",
                       version, name_targets(was->lora_targets, arena),
                       name_targets(now->lora_targets, arena));
    if (had != has && (n_layers > 0 || (had > 0 && has > 0)))
        return err_set(err, ERR_UNPROCESSABLE,
                       "Version %s has factors on the last %lld layers, which a run on the last "
                       "%lld cannot go on from: set num_layers %lld",
                       version, (long long)had, (long long)has, (long long)was->num_layers);
    return 0;
}

/* Whether the config's factors are those of the version. A version that cannot be read is for the
 * job to say. */
static int compare_start(const struct version_row *start, const struct train_config *config,
                         int64_t n_layers, struct arena *arena, char warning[JOB_WARNING_BYTES],
                         struct err *err)
{
    struct manifest manifest = {0};
    struct err unread = {0};

    if (!start->artifact_path || manifest_read(&manifest, start->artifact_path, &unread) < 0)
        return 0;
    const double scale = train_config_scale(config);
    int rc = compare_factors(start->version, &manifest.config, config, n_layers, arena, err);
    if (rc == 0 && (float)manifest.lora_scale != (float)scale)
        warn(warning,
             "version %s was trained with its factors scaled by %g, this run scales them by %g: "
             "set lora_alpha %g to go on from what it does",
             start->version, manifest.lora_scale, scale,
             config->lora_alpha * manifest.lora_scale / scale);
    manifest_release(&manifest);
    return rc;
}

static int check_start(struct db *db, struct train_config *config, const struct model_row *model,
                       int64_t n_layers, struct arena *arena, char warning[JOB_WARNING_BYTES],
                       struct err *err)
{
    struct version_row start;
    struct model_row other;
    int rc;

    if (!config->init_from[0])
        return 0;
    rc = find_start(db, config->init_from, arena, &start, err);
    if (rc == 0)
        rc = model_row_get(db, start.model_id, arena, &other, err);
    if (rc == 0 && start.status != VERSION_READY && start.status != VERSION_ARCHIVED)
        rc = err_set(err, ERR_CONFLICT, "Version %s is %s: there is nothing to start from yet",
                     start.version, version_status_name(start.status));
    if (rc == 0 && strcmp(other.base_model, model->base_model) != 0)
        rc = err_set(err, ERR_CONFLICT, "Version %s was trained on '%s', not on '%s'",
                     start.version, other.base_model, model->base_model);
    if (rc == 0)
        rc = compare_start(&start, config, n_layers, arena, warning, err);
    if (rc == 0)
        snprintf(config->init_from, sizeof config->init_from, "%s", start.id);
    return rc;
}

static int write_config(const struct train_config *config, struct arena *arena, const char **out,
                        struct err *err)
{
    struct buf buf;
    struct json_out json;
    int rc;

    buf_init(&buf, CONFIG_BYTES_MAX);
    json_out_init(&json, &buf);
    train_config_write(config, &json);
    rc = buf_check(&buf, "config", err);
    if (rc == 0) {
        *out = arena_strndup(arena, buf.data, buf.len);
        rc = *out ? 0 : mem_err(err, buf.len);
    }
    buf_release(&buf);
    return rc;
}

int jobs_new_row(enum job_kind kind, struct arena *arena, struct job_row *row, struct err *err)
{
    memset(row, 0, sizeof *row);
    row->kind = kind;
    row->id = registry_uuid(arena, err);
    row->created_at = registry_now(arena, err);
    return row->id && row->created_at ? 0 : mem_err(err, 0);
}

int jobs_insert(struct db *db, int64_t queue_max, struct arena *arena, struct job_row *row,
                struct err *err)
{
    const char *id = row->id;
    int rc = check_queue(db, queue_max, err);

    if (rc == 0)
        rc = job_row_insert(db, row, err);
    return rc < 0 ? rc : job_row_get(db, id, arena, row, err);
}

bool jobs_make_base(const char *config, const char *as)
{
    const char *other = "";
    json_t *tree = json_parse(config, strlen(config), NULL);
    bool same = json_get_string(tree, "as", "", &other, NULL) == 0 && strcmp(other, as) == 0;

    json_decref(tree);
    return same;
}

static int settle(struct db *db, const struct job_draft *draft, struct train_config *config,
                  struct arena *arena, struct job_row *row, char warning[JOB_WARNING_BYTES],
                  struct err *err)
{
    struct dataset_record dataset, other = {0};
    struct train_plan plan;
    int rc = dataset_record_get(db, draft->dataset_id, arena, &dataset, err);

    if (rc == 0 && config->val_dataset_id[0])
        rc = dataset_record_get(db, config->val_dataset_id, arena, &other, err);
    if (rc < 0)
        return rc;
    train_config_plan(config, dataset.rows, &plan);
    config->warmup_steps = plan.warmup_steps;
    (void)train_config_warning(config, &plan, warning, JOB_WARNING_BYTES);
    row->waiting_for = draft->waiting_for;
    row->model_id = draft->model_id;
    row->dataset_id = draft->dataset_id;
    row->dataset_checksum = dataset.checksum;
    row->val_dataset_id = config->val_dataset_id[0] ? other.id : NULL;
    return 0;
}

/* What the files of a job's datasets are now; read before the transaction, judged inside it. */
struct job_files {
    struct dataset_verdict train, validation;
    bool has_train, has_validation;
};

/* A dataset that is not there is for the transaction to say. */
static int look_at_files(struct registry *registry, const char *dataset_id,
                         const char *val_dataset_id, struct job_files *files, struct err *err)
{
    struct err gone = {0};
    int rc = registry_verify_dataset(registry, dataset_id, &files->train, &gone);

    files->has_train = rc == 0;
    if ((rc == 0 || rc == -ERR_NOT_FOUND) && val_dataset_id && val_dataset_id[0]) {
        struct err none = {0};

        rc = registry_verify_dataset(registry, val_dataset_id, &files->validation, &none);
        files->has_validation = rc == 0;
        gone = none;
    }
    return rc == 0 || rc == -ERR_NOT_FOUND ? 0 : err_set(err, gone.code, "%s", gone.message);
}

static int check_file(struct db *db, const char *id, const struct dataset_verdict *verdict,
                      struct arena *arena, struct err *err)
{
    struct dataset_record row;
    int rc = verdict->valid ? 0 : dataset_record_get(db, id, arena, &row, err);

    if (rc < 0 || verdict->valid)
        return rc;
    if (!verdict->actual[0])
        return err_set(err, ERR_INVALID,
                       "Dataset file not found: %s; put the file of dataset '%s' back, or register "
                       "another one",
                       row.path, row.name);
    return err_set(err, ERR_CONFLICT,
                   "Dataset '%s' has changed since it was registered: the checksum of %s was %s "
                   "and is %s; register it again under a new name to use what it holds now",
                   row.name, row.path, verdict->expected, verdict->actual);
}

static int check_files(struct db *db, const struct job_row *row, const struct job_files *files,
                       struct arena *arena, struct err *err)
{
    int rc = files->has_train ? check_file(db, row->dataset_id, &files->train, arena, err) : 0;

    if (rc == 0 && files->has_validation && row->val_dataset_id)
        rc = check_file(db, row->val_dataset_id, &files->validation, arena, err);
    return rc;
}

/* The config as it takes effect on this base: no more layers than there are (*n_layers; 0 = not
 * known), no longer rows than the context. */
static int fit_config(struct db *db, const char *base_model, struct train_config *config,
                      int64_t *n_layers, struct arena *arena, char warning[JOB_WARNING_BYTES],
                      struct err *err)
{
    struct base_row base;
    struct err ignored = {0};
    bool found = false;
    int rc = base_row_find(db, base_model, arena, &base, &found, err);

    if (rc < 0 || !found)
        return rc;
    json_t *details = json_parse(base.details, strlen(base.details), &ignored);
    if (details)
        rc = json_get_int(details, "n_layers", 0, n_layers, err);
    json_decref(details);
    if (base.context_length > 0 && config->max_seq_length > base.context_length) {
        warn(warning, "max_seq_length %lld is more than the model's context: %lld is used",
             (long long)config->max_seq_length, (long long)base.context_length);
        config->max_seq_length = base.context_length;
    }
    if (*n_layers > 0 && config->num_layers > *n_layers) {
        warn(warning, "num_layers %lld is more than the model has: %lld is used",
             (long long)config->num_layers, (long long)*n_layers);
        config->num_layers = *n_layers;
    }
    return rc;
}

static int create(struct registry *registry, struct db *db, const struct job_draft *draft,
                  const struct job_files *files, struct train_config *config, struct arena *arena,
                  struct job_row *row, char warning[JOB_WARNING_BYTES], struct err *err)
{
    struct model_row model;
    int64_t n_layers = 0;
    int rc = model_row_get(db, draft->model_id, arena, &model, err);

    if (rc == 0)
        rc = settle(db, draft, config, arena, row, warning, err);
    if (rc == 0)
        rc = check_files(db, row, files, arena, err);
    if (rc == 0)
        rc = check_weights(registry, db, model.base_model, arena, err);
    if (rc == 0)
        rc = fit_config(db, model.base_model, config, &n_layers, arena, warning, err);
    if (rc == 0)
        rc = check_start(db, config, &model, n_layers, arena, warning, err);
    if (rc == 0)
        rc = write_config(config, arena, &row->config, err);
    return rc < 0 ? rc : jobs_insert(db, draft->queue_max, arena, row, err);
}

int registry_create_job(struct registry *registry, const struct job_draft *draft,
                        struct arena *arena, struct job_row *row, char warning[JOB_WARNING_BYTES],
                        struct err *err)
{
    struct db *db = NULL;
    struct train_config config;
    struct job_files files = {.has_train = false};
    int rc = train_config_parse(&config, draft->config, err);

    warning[0] = '\0';
    if (rc == 0)
        rc = look_at_files(registry, draft->dataset_id, config.val_dataset_id, &files, err);
    if (rc == 0)
        rc = jobs_new_row(JOB_TRAIN, arena, row, err);
    if (rc == 0)
        rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = create(registry, db, draft, &files, &config, arena, row, warning, err);
    return registry_end(db, rc, err);
}

/* What the job is about, in the transaction that makes it. */
static int find_task(struct registry *registry, struct db *db, const struct task_draft *draft,
                     struct arena *arena, struct job_row *row, struct err *err)
{
    struct model_row model = {0};
    struct version_row version = {0};
    struct dataset_record dataset = {0};
    int rc = 0;

    if (draft->version)
        rc = versions_find(db, draft->model_id, draft->version, arena, &model, &version, err);
    else if (draft->model_id)
        rc = model_row_get(db, draft->model_id, arena, &model, err);
    if (rc == 0 && draft->dataset_id)
        rc = dataset_record_get(db, draft->dataset_id, arena, &dataset, err);
    if (rc == 0 && draft->version && version.status != VERSION_READY &&
        version.status != VERSION_ARCHIVED)
        rc = err_set(err, ERR_CONFLICT, "Version %s is %s", version.version,
                     version_status_name(version.status));
    if (rc == 0 && draft->version)
        rc = check_weights(registry, db, model.base_model, arena, err);
    row->model_id = draft->model_id;
    row->model_version_id = version.id;
    row->dataset_id = draft->dataset_id;
    row->dataset_checksum = dataset.checksum;
    return rc;
}

int registry_create_task(struct registry *registry, const struct task_draft *draft,
                         struct arena *arena, struct job_row *row, struct err *err)
{
    struct db *db = NULL;
    struct job_files files = {.has_train = false};
    int rc = draft->dataset_id ? look_at_files(registry, draft->dataset_id, NULL, &files, err) : 0;

    if (rc == 0)
        rc = jobs_new_row(draft->kind, arena, row, err);
    if (rc == 0)
        rc = registry_json_object("config", draft->config, "{}", arena, &row->config, err);
    if (rc == 0)
        rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = find_task(registry, db, draft, arena, row, err);
    if (rc == 0)
        rc = check_files(db, row, &files, arena, err);
    if (rc == 0)
        rc = jobs_insert(db, draft->queue_max, arena, row, err);
    return registry_end(db, rc, err);
}

/* --- looking --- */

int registry_get_job(struct registry *registry, const char *id, struct arena *arena,
                     struct job_row *row, struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = job_row_get(db, id, arena, row, err);
    return registry_end(db, rc, err);
}

int registry_list_jobs(struct registry *registry, const struct job_filter *filter,
                       struct arena *arena, struct job_row **rows, size_t *count, int64_t *total,
                       struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = job_row_list(db, filter, arena, rows, count, err);
    if (rc == 0)
        rc = job_row_count(db, filter, total, err);
    return registry_end(db, rc, err);
}

int registry_job_queue(struct registry *registry, struct arena *arena, struct job_row **rows,
                       size_t *count, struct err *err)
{
    struct job_filter filter = {.status = "queued", .oldest_first = true, .limit = INT64_MAX};
    int64_t total = 0;

    return registry_list_jobs(registry, &filter, arena, rows, count, &total, err);
}

int registry_active_job(struct registry *registry, struct arena *arena, struct job_row *row,
                        bool *found, struct err *err)
{
    struct job_filter filter = {
        .status = "running", .lane = LANE_WORK, .oldest_first = true, .limit = 1};
    struct job_row *rows = NULL;
    size_t count = 0;
    int64_t total = 0;
    int rc = registry_list_jobs(registry, &filter, arena, &rows, &count, &total, err);

    *found = rc == 0 && count > 0;
    if (*found)
        *row = rows[0];
    return rc;
}

static int by_name_and_step(const void *left, const void *right)
{
    const struct metric_row *a = left, *b = right;
    const int order = strcmp(a->name, b->name);

    return order != 0 ? order : a->step < b->step ? -1 : a->step > b->step;
}

/* An answer that is full ends with a whole step. -1: there is no more. */
static int64_t cut_metrics(const struct metric_row *rows, size_t *count)
{
    size_t n = *count;

    if (n < JOB_METRICS_MAX)
        return -1;
    while (n > 0 && rows[n - 1].step == rows[*count - 1].step)
        n--;
    *count = n;
    return n > 0 ? rows[n - 1].step : -1;
}

int registry_job_metrics(struct registry *registry, const char *id, const char *name,
                         int64_t after_step, struct arena *arena, struct metric_row **rows,
                         size_t *count, int64_t *more, struct err *err)
{
    struct db *db = NULL;
    struct job_row job;
    int rc = registry_begin_read(registry, &db, err);

    if (rc == 0)
        rc = job_row_get(db, id, arena, &job, err);
    if (rc == 0)
        rc = metric_row_list(db, id, name, after_step, JOB_METRICS_MAX, arena, rows, count, err);
    if (rc == 0) {
        const int64_t cut = cut_metrics(*rows, count);

        if (more)
            *more = cut;
        if (*count > 0)
            qsort(*rows, *count, sizeof **rows, by_name_and_step);
    }
    return registry_end(db, rc, err);
}

/* --- cancel and resume --- */

static int cancel(struct db *db, const char *id, struct arena *arena, struct job_row *row,
                  struct err *err)
{
    int64_t changed = 0;
    int rc = job_row_get(db, id, arena, row, err);
    const char *now = rc == 0 ? registry_now(arena, err) : NULL;

    if (rc < 0)
        return rc;
    if (!now)
        return mem_err(err, 0);
    if (job_status_final(row->status))
        return err_set(err, ERR_CONFLICT, "Training job %s is already %s", id,
                       job_status_name(row->status));
    rc = row->status == JOB_QUEUED ? job_row_cancel_queued(db, id, now, &changed, err)
                                   : job_row_ask_cancel(db, id, &changed, err);
    /* A job that was taken up before has a version that nobody will finish. */
    if (rc == 0 && row->status == JOB_QUEUED && row->model_version_id) {
        struct version_row version;

        rc = version_row_get(db, row->model_version_id, arena, &version, err);
        if (rc == 0 && version.status == VERSION_TRAINING) {
            version.status = VERSION_FAILED;
            rc = version_row_update(db, &version, err);
        }
    }
    return rc < 0 ? rc : job_row_get(db, id, arena, row, err);
}

int registry_cancel_job(struct registry *registry, const char *id, struct arena *arena,
                        struct job_row *row, struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_write(registry, &db, err);

    if (rc == 0)
        rc = cancel(db, id, arena, row, err);
    rc = registry_end(db, rc, err);
    if (rc == 0 && row->status == JOB_CANCELLED) /* a worker that died may have left something */
        storage_sweep_job(&registry->storage, row->id);
    return rc;
}

static int check_resumable(struct db *db, const struct job_row *old, struct arena *arena,
                           struct err *err)
{
    struct dataset_record dataset;

    if (old->kind != JOB_TRAIN && old->kind != JOB_PULL)
        return err_set(err, ERR_CONFLICT,
                       "Training job %s is of kind %s: only training and pulls resume", old->id,
                       job_kind_name(old->kind));
    if (old->status != JOB_FAILED && old->status != JOB_CANCELLED)
        return err_set(err, ERR_CONFLICT,
                       "Training job %s is %s: only a failed or cancelled one can be resumed",
                       old->id, job_status_name(old->status));
    if (old->kind == JOB_PULL)
        return 0;
    if (!old->dataset_id)
        return err_set(err, ERR_CONFLICT, "The dataset of training job %s was deleted", old->id);
    int rc = dataset_record_get(db, old->dataset_id, arena, &dataset, err);
    if (rc == 0 && old->dataset_checksum && strcmp(dataset.checksum, old->dataset_checksum) != 0)
        rc = err_set(err, ERR_CONFLICT, "The dataset of training job %s has changed", old->id);
    return rc;
}

static int resume(struct registry *registry, struct db *db, const char *id,
                  const struct job_files *files, int64_t queue_max, struct arena *arena,
                  struct job_row *row, struct err *err)
{
    struct job_row old;
    struct model_row model;
    int rc = job_row_get(db, id, arena, &old, err);

    if (rc == 0)
        rc = check_resumable(db, &old, arena, err);
    if (rc == 0)
        rc = check_files(db, &old, files, arena, err);
    if (rc == 0 && old.kind == JOB_TRAIN)
        rc = model_row_get(db, old.model_id, arena, &model, err);
    if (rc == 0 && old.kind == JOB_TRAIN)
        rc = check_weights(registry, db, model.base_model, arena, err);
    if (rc < 0)
        return rc;
    row->kind = old.kind;
    row->model_id = old.model_id;
    row->dataset_id = old.dataset_id;
    row->val_dataset_id = old.val_dataset_id;
    row->dataset_checksum = old.dataset_checksum;
    row->config = old.config;
    row->resumed_from = old.id;
    return jobs_insert(db, queue_max, arena, row, err);
}

int registry_resume_job(struct registry *registry, const char *id, int64_t queue_max,
                        struct arena *arena, struct job_row *row, struct err *err)
{
    struct db *db = NULL;
    struct job_files files = {.has_train = false};
    struct job_row old = {.id = NULL};
    int rc = registry_get_job(registry, id, arena, &old, err);

    if (rc == 0 && old.dataset_id)
        rc = look_at_files(registry, old.dataset_id, old.val_dataset_id, &files, err);
    if (rc == 0)
        rc = jobs_new_row(JOB_TRAIN, arena, row, err);
    if (rc == 0)
        rc = registry_begin_write(registry, &db, err);
    if (rc == 0)
        rc = resume(registry, db, id, &files, queue_max, arena, row, err);
    return registry_end(db, rc, err);
}

int registry_job_waiting(struct registry *registry, const char *id, const char *waiting_for,
                         struct err *err)
{
    struct db *db = NULL;
    int rc = registry_begin_write(registry, &db, err);

    if (rc == 0)
        rc = job_row_waiting(db, id, waiting_for, err);
    return registry_end(db, rc, err);
}
