/* Estimates come from the trainer's own plan (train_inspect_estimate); what a manifest says of a
 * version stands for the config of jobs that are about it. */
#include "api/memory.h"

#include <string.h>

#include "api/hub.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "formats/manifest.h"
#include "registry/bases.h"
#include "registry/datasets.h"
#include "registry/jobs.h"
#include "registry/models.h"
#include "registry/versions.h"
#include "train/check.h"
#include "train/evaluate.h"
#include "train/train.h"

static uint64_t rows_bytes(struct registry *registry, const char *dataset_id, int64_t tokens_max,
                           struct arena *arena)
{
    struct err err = {0};
    struct dataset_record row;
    if (dataset_id == NULL || dataset_id[0] == '\0' ||
        registry_get_dataset(registry, dataset_id, arena, &row, &err) != 0) {
        return 0;
    }
    return train_rows_estimate(row.rows, row.bytes, tokens_max);
}

static uint64_t estimate(struct registry *registry, const struct memory_asker *asker,
                         const char *model_id, const char *dataset_id,
                         const struct train_config *config, bool evaluate, struct err *refused)
{
    struct err err = {0};
    struct arena arena;
    struct model_row model;
    struct base_row base;
    char path[FS_PATH_BYTES_MAX];
    uint64_t bytes = 0;
    arena_init(&arena, 0);
    int rc = registry_get_model(registry, model_id, &arena, &model, &err);
    if (rc == 0) {
        rc = registry_base_path(registry, model.base_model, &arena, &base, path, &err);
    }
    if (rc == 0 && train_inspect_estimate(asker->program, path, config, evaluate, asker->threads,
                                          &bytes, &err) != 0) {
        log_event(LOG_DEBUG, "api", "no_estimate", "base=%s error=\"%s\"", base.id, err.message);
        bytes = 0;
        if (err.code == ERR_UNSUPPORTED) {
            *refused = err;
        }
    }
    if (bytes > 0) {
        bytes += rows_bytes(registry, dataset_id, config->max_seq_length, &arena) +
                 rows_bytes(registry, config->val_dataset_id, config->max_seq_length, &arena);
    }
    arena_release(&arena);
    return bytes;
}

static uint64_t base_bytes(struct registry *registry, const char *id, struct arena *arena)
{
    struct err err = {0};
    struct base_row base;
    char path[FS_PATH_BYTES_MAX];
    return registry_base_path(registry, id, arena, &base, path, &err) == 0 ? (uint64_t)base.bytes
                                                                           : 0;
}

/* Weights alone: what a job reads that copies them from one form into another. An adapter that is
 * exported as it is needs none. */
static uint64_t weights_bytes(struct registry *registry, const struct job_row *row,
                              struct arena *arena)
{
    struct err err = {0};
    struct model_row model;
    const char *id = NULL;
    uint64_t bytes = 0;
    json_t *config = json_parse(row->config, strlen(row->config), &err);
    if (row->kind == JOB_QUANTIZE) {
        id = json_string_value(json_object_get(config, "base"));
    } else if (json_is_true(json_object_get(config, "merge")) && row->model_id != NULL &&
               registry_get_model(registry, row->model_id, arena, &model, &err) == 0) {
        id = model.base_model;
    }
    bytes = id != NULL ? base_bytes(registry, id, arena) : 0;
    json_decref(config);
    return bytes;
}

int memory_of_training(struct registry *registry, const struct memory_asker *asker,
                       const char *model_id, const char *dataset_id,
                       const struct train_config *config, uint64_t *bytes, struct err *err)
{
    struct err refused = {0};
    *bytes = estimate(registry, asker, model_id, dataset_id, config, false, &refused);
    return refused.code == ERR_NONE ? 0 : err_set(err, refused.code, "%s", refused.message);
}

static uint64_t version_bytes(struct registry *registry, const struct memory_asker *asker,
                              const struct job_row *row, struct arena *arena)
{
    struct err err = {0};
    struct version_row version;
    struct manifest manifest = {0};
    uint64_t bytes = 0;
    if (row->model_version_id != NULL &&
        registry_get_version_by_id(registry, row->model_version_id, arena, &version, &err) == 0 &&
        version.artifact_path != NULL &&
        manifest_read(&manifest, version.artifact_path, &err) == 0 &&
        (row->kind != JOB_EVALUATE || row->config == NULL ||
         train_evaluate_limits(row->config, &manifest.config, &err) == 0)) {
        bytes = estimate(registry, asker, version.model_id, row->dataset_id, &manifest.config,
                         row->kind == JOB_EVALUATE, &err);
    }
    manifest_release(&manifest);
    return bytes;
}

uint64_t memory_of_job(struct registry *registry, const struct memory_asker *asker,
                       const struct job_row *row)
{
    struct err err = {0};
    struct train_config config;
    struct arena arena;
    uint64_t bytes = 0;
    arena_init(&arena, 0);
    switch (row->kind) {
    case JOB_TRAIN:
        if (train_config_parse_text(&config, row->config, &err) == 0) {
            bytes = estimate(registry, asker, row->model_id, row->dataset_id, &config, false, &err);
        }
        break;
    case JOB_EVALUATE:
    case JOB_REPRODUCE:
        bytes = version_bytes(registry, asker, row, &arena);
        break;
    case JOB_EXPORT:
    case JOB_QUANTIZE:
        bytes = weights_bytes(registry, row, &arena);
        break;
    case JOB_PULL:
        break;
    }
    arena_release(&arena);
    return bytes;
}

int memory_check(struct registry *registry, const struct memory_asker *asker,
                 const struct job_row *row, double limit_gb, struct err *err)
{
    const bool writes = row->kind == JOB_EXPORT || row->kind == JOB_QUANTIZE;
    const double gb = writes ? 0.0 : (double)memory_of_job(registry, asker, row) / 1073741824.0;
    if (gb > limit_gb) {
        return err_set(err, ERR_UNPROCESSABLE,
                       "The job (%s) needs %.2f GB and the memory limit is %.2f GB: raise "
                       "MLX_MEMORY_LIMIT_GB",
                       job_kind_name(row->kind), gb, limit_gb);
    }
    return 0;
}

static void explain(const struct infer_memory *memory, uint64_t bytes, char text[MEMORY_TEXT_BYTES])
{
    const uint64_t left = memory->busy < memory->bytes_max ? memory->bytes_max - memory->busy : 0;
    if (bytes > left) {
        (void)snprintf(
            text, MEMORY_TEXT_BYTES,
            "memory: the job needs %.1f MB and %.1f MB are free; %d busy models hold %.1f MB of "
            "the limit of %.1f MB%s",
            (double)bytes / 1e6, (double)left / 1e6, memory->n_busy, (double)memory->busy / 1e6,
            (double)memory->bytes_max / 1e6,
            memory->insisted ? " and take no new requests until it starts" : "");
    } else {
        (void)snprintf(text, MEMORY_TEXT_BYTES,
                       "memory: the job needs %.1f MB of the limit of %.1f MB; idle models that "
                       "hold %.1f MB are being unloaded",
                       (double)bytes / 1e6, (double)memory->bytes_max / 1e6,
                       (double)(memory->models - memory->busy) / 1e6);
    }
}

bool memory_is_short(struct infer *infer, uint64_t bytes, char text[MEMORY_TEXT_BYTES])
{
    struct infer_memory memory;
    infer_memory(infer, &memory);
    if (bytes <= memory.bytes_max && memory.busy <= memory.bytes_max - bytes) {
        return false;
    }
    explain(&memory, bytes, text);
    return true;
}

bool memory_take(struct infer *infer, const char *job_id, uint64_t bytes, bool insist,
                 char text[MEMORY_TEXT_BYTES])
{
    struct infer_memory memory;
    if (infer_reserve(infer, job_id, bytes, insist, &memory)) {
        return true;
    }
    explain(&memory, bytes, text);
    return false;
}

void memory_recheck(void *ctx)
{
    struct hub *hub = ctx;
    struct err err = {0};
    struct arena arena;
    struct job_row row;
    char holder[INFER_ID_BYTES];
    if (!infer_holder(hub->infer, holder)) {
        return;
    }
    arena_init(&arena, 0);
    const int rc = registry_get_job(hub->registry, holder, &arena, &row, &err);
    if (rc == -ERR_NOT_FOUND || (rc == 0 && job_status_final(row.status))) {
        infer_give_back(hub->infer, holder);
    }
    arena_release(&arena);
}
