/* Settings: one table of names, defaults, kinds and help; where each value came from.
 *
 * A value comes from the command line flag, else MLX_HUB_<NAME>, else <NAME> in the environment,
 * else `.env` in the working folder, else the default; names are case-insensitive. A bad value is
 * ERR_INVALID naming the setting, the value and what is allowed. Read-only after settings_load.
 */
#ifndef BASE_SETTINGS_H
#define BASE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/fs.h"

enum setting_source { SETTING_DEFAULT, SETTING_DOTENV, SETTING_ENV, SETTING_FLAG };

struct settings {
    char app_name[128];
    bool debug;
    char log_level[256]; /* with ",store=DEBUG" when DEBUG is set */
    bool log_json;
    char database_url[1024];                   /* sqlite:///<absolute path> or postgresql://… */
    char mlflow_tracking_uri[1024];            /* "" = the hub's own store */
    char storage_base_path[FS_PATH_BYTES_MAX]; /* absolute, as are the next two */
    char storage_models_path[FS_PATH_BYTES_MAX];
    char storage_datasets_path[FS_PATH_BYTES_MAX];
    double memory_limit_gb;    /* GB of 2^30 bytes */
    bool memory_limit_lowered; /* the default was more than 75% of memory */
    char default_quantization[8];
    char host[256];
    int port;
    char api_key[512];
    char allowed_hosts[1024];
    char allowed_origins[1024];
    int max_sessions;
    int max_queue;
    int max_models;
    int64_t keep_alive_ms; /* -1 = for ever */
    int context_length;    /* 0 = the model's, at most 8192 */
    int prefix_cache_mb;
    bool prefix_cache_disk;
    int max_body_mb;
    int max_connections;
    int workers;
    int64_t job_patience_ms; /* -1 = for ever */
    int checkpoint_days;     /* -1 = for ever */
    char otlp_endpoint[1024];
    char hf_endpoint[1024];
    char hf_token[512];
    char engine[16];
    int threads;                    /* 0 = all cores */
    char isa[16];                   /* "best" or a name */
    enum setting_source source[64]; /* by index in settings_table */
};

/* One row of the table that load, `config` and the docs share. */
struct setting_info {
    const char *name; /* "PORT" */
    const char *fallback;
    const char *allowed; /* for the error and the help: "1-65535" */
    const char *help;
    bool secret; /* masked when shown */
};
const struct setting_info *settings_table(size_t *count);

/* flags: argv-style "--name=value" or "--name value" pairs already collected by the command line as
 * name/value arrays of n_flags. A value from the environment that names no setting is ignored, a
 * flag is ERR_INVALID. */
int settings_load(struct settings *settings, const char *const *names, const char *const *values,
                  size_t n_flags, struct err *err) MUST_CHECK;
/* Makes the storage folders: base, models, datasets and the base's fixed subfolders. */
int settings_make_dirs(const struct settings *settings, struct err *err) MUST_CHECK;
/* What only a server minds: a reachable HOST needs API_KEY, several WORKERS need PostgreSQL. Logs
 * the warning when the memory limit was lowered. */
int settings_check_serve(const struct settings *settings, struct err *err) MUST_CHECK;
/* Row of the setting that a flag's name (without the dashes in front) means, or -1. */
int setting_find(const char *flag);
/* The value of row i as text, secrets masked as "********", passwords in URLs as "****". out ≥ 1100
 * bytes. */
void settings_show(const struct settings *settings, size_t row, char *out, size_t out_bytes);
/* A URL with its password as "****". */
void settings_mask_url(const char *url, char *out, size_t out_bytes);
const char *setting_source_name(enum setting_source source);

#endif
