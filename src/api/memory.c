#include "api/memory.h"

#include "base/log.h"
#include "base/mem.h"
#include "registry/bases.h"
#include "registry/models.h"
#include "train/check.h"

uint64_t memory_of_training(struct registry *registry, const char *program, const char *model_id,
                            const struct train_config *config)
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
    if (rc == 0 && train_inspect_estimate(program, path, config, &bytes, &err) != 0) {
        log_event(LOG_DEBUG, "api", "no_estimate", "base=%s error=\"%s\"", base.id, err.message);
        bytes = 0;
    }
    arena_release(&arena);
    return bytes;
}

static uint64_t models_bytes(struct infer *infer)
{
    struct err err = {0};
    struct infer_cache cache;
    if (infer == NULL || infer_list(infer, &cache, &err) != 0) {
        return 0;
    }
    mem_free(cache.models);
    return cache.memory_bytes;
}

bool memory_is_short(struct infer *infer, const struct settings *settings, uint64_t bytes,
                     char text[MEMORY_TEXT_BYTES])
{
    const double limit = settings->memory_limit_gb * 1073741824.0;
    const double held = (double)models_bytes(infer);
    const double left = held < limit ? limit - held : 0.0;
    if ((double)bytes <= left) {
        return false;
    }
    (void)snprintf(
        text, MEMORY_TEXT_BYTES,
        "memory: training needs %.1f MB and %.1f MB are free; loaded models hold %.1f MB "
        "of the limit of %.1f MB",
        (double)bytes / 1e6, left / 1e6, held / 1e6, limit / 1e6);
    return true;
}
