/* The private half of settings: how each row is stored, and the steps of settings_load.
 *
 * For settings*.c only.
 */
#ifndef BASE_SETTINGS_INTERNAL_H
#define BASE_SETTINGS_INTERNAL_H

#include "base/settings.h"

enum setting_kind {
    KIND_TEXT,       /* any printable text, may be empty */
    KIND_TOKEN,      /* printable ASCII without spaces: keys, host names */
    KIND_BOOL,       /* bool */
    KIND_INT,        /* int within min…max */
    KIND_REAL,       /* double within min…max */
    KIND_CHOICE,     /* one of `allowed`, separated by | */
    KIND_LOG_LEVEL,  /* a spec of log.h */
    KIND_LOG_FORMAT, /* bool: json */
    KIND_DURATION,   /* int64 ms */
    KIND_PATH,       /* made absolute when resolved */
    KIND_URL,        /* http(s), or empty */
    KIND_DATABASE,   /* sqlite or postgresql, or empty */
};

struct setting_row {
    enum setting_kind kind;
    size_t offset; /* of the member of struct settings */
    size_t bytes;  /* of the member */
    double min, max;
};

enum setting_index {
    SETTING_APP_NAME,
    SETTING_DEBUG,
    SETTING_LOG_LEVEL,
    SETTING_LOG_FORMAT,
    SETTING_DATABASE_URL,
    SETTING_MLFLOW_TRACKING_URI,
    SETTING_STORAGE_BASE_PATH,
    SETTING_STORAGE_MODELS_PATH,
    SETTING_STORAGE_DATASETS_PATH,
    SETTING_MLX_MEMORY_LIMIT_GB,
    SETTING_MLX_DEFAULT_QUANTIZATION,
    SETTING_HOST,
    SETTING_PORT,
    SETTING_API_KEY,
    SETTING_ALLOWED_HOSTS,
    SETTING_ALLOWED_ORIGINS,
    SETTING_MAX_SESSIONS,
    SETTING_MAX_QUEUE,
    SETTING_MAX_MODELS,
    SETTING_KEEP_ALIVE,
    SETTING_CONTEXT_LENGTH,
    SETTING_PREFIX_CACHE_MB,
    SETTING_PREFIX_CACHE_DISK,
    SETTING_MAX_BODY_MB,
    SETTING_MAX_CONNECTIONS,
    SETTING_WORKERS,
    SETTING_JOB_PATIENCE,
    SETTING_CHECKPOINT_DAYS,
    SETTING_OTLP_ENDPOINT,
    SETTING_HF_ENDPOINT,
    SETTING_HF_TOKEN,
    SETTING_ENGINE,
    SETTING_MLX_HUB_THREADS,
    SETTING_MLX_HUB_ISA,
    SETTING_COUNT
};

const struct setting_row *settings_row(size_t row);

/* Checks `text` and stores it in the row's member. ERR_INVALID names the setting, the value (unless
 * secret) and what is allowed. */
int settings_apply(struct settings *settings, size_t row, const char *text,
                   struct err *err) MUST_CHECK;

/* What depends on more than one row: absolute paths, the database's default, the memory limit. */
int settings_resolve(struct settings *settings, struct err *err) MUST_CHECK;

/* The complaint about a row's value, secrets and passwords left out. */
int settings_bad_value(const struct settings *settings, size_t row, const char *text,
                       const char *allowed, struct err *err);

/* Copies a URL with the password of its user:password@ part as "****". */

#endif
