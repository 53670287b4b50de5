/* How it works. settings_apply turns the text of one row into its member, by kind; settings_resolve
 * then does what needs several rows. Complaints never quote a secret.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/settings_internal.h"
#include "base/utf8.h"

enum {
    CONTEXT_LENGTH_MIN = 128,
    LOG_LEVEL_BYTES_MAX = 240,
    ALLOWED_BYTES_MAX = 160,
    SHOWN_BYTES_MAX = 1100
};

static const double MEMORY_SHARE_MAX = 0.75;
static const double BYTES_PER_GB = 1024.0 * 1024.0 * 1024.0;

static const struct setting_info *info_of(size_t row)
{
    size_t count;
    return &settings_table(&count)[row];
}

int settings_bad_value(const struct settings *settings, size_t row, const char *text,
                       const char *allowed, struct err *err)
{
    const struct setting_info *info = info_of(row);
    const char *source = setting_source_name(settings->source[row]);
    char shown[SHOWN_BYTES_MAX];
    if (info->secret)
        return err_set(err, ERR_INVALID, "the value of %s (%s) is not allowed; allowed: %s",
                       info->name, source, allowed);
    settings_mask_url(text, shown, sizeof shown);
    return err_set(err, ERR_INVALID, "%s is \"%.200s\" (%s); allowed: %s", info->name, shown,
                   source, allowed);
}

/* --- one row ---------------------------------------------------------------------------------- */

static bool printable(const char *text)
{
    for (const char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7F)
            return false;
    return utf8_valid(text, strlen(text));
}

static bool token(const char *text)
{
    for (const char *at = text; *at; at++)
        if (!isgraph((unsigned char)*at))
            return false;
    return true;
}

static bool parse_bool(const char *text, bool *out)
{
    static const char *const YES[] = {"true", "1", "yes", "on"};
    static const char *const NO[] = {"false", "0", "no", "off"};
    for (size_t i = 0; i < sizeof YES / sizeof *YES; i++) {
        if (strcasecmp(text, YES[i]) == 0 || strcasecmp(text, NO[i]) == 0) {
            *out = strcasecmp(text, YES[i]) == 0;
            return true;
        }
    }
    return false;
}

static bool parse_int(const char *text, const struct setting_row *row, int *out)
{
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)text[0]))
        return false;
    *out = (int)value;
    return (double)value >= row->min && (double)value <= row->max;
}

static bool parse_real(const char *text, const struct setting_row *row, double *out)
{
    char *end = NULL;
    *out = strtod(text, &end);
    return end != text && !*end && isfinite(*out) && *out >= row->min && *out <= row->max;
}

/* Stores the spelling of `allowed`, so that later comparisons are exact. */
static bool parse_choice(const char *text, const char *allowed, char *out, size_t out_bytes)
{
    size_t length = strlen(text);
    for (const char *at = allowed; *at;) {
        size_t n = strcspn(at, "|");
        if (n == length && n < out_bytes && strncasecmp(at, text, n) == 0) {
            memcpy(out, at, n);
            out[n] = '\0';
            return true;
        }
        at += n + (at[n] == '|');
    }
    return false;
}

/* True for json in *out, false for human. */
static bool parse_format(const char *text, bool *out)
{
    char format[8];
    bool ok = parse_choice(text, "human|json", format, sizeof format);
    *out = ok && strcmp(format, "json") == 0;
    return ok;
}

static bool parse_url(const char *text, char *out, size_t out_bytes)
{
    size_t length = strlen(text);
    if (length == 0) {
        out[0] = '\0';
        return true;
    }
    const char *host = strncasecmp(text, "http://", 7) == 0    ? text + 7
                       : strncasecmp(text, "https://", 8) == 0 ? text + 8
                                                               : NULL;
    if (!host || !*host || *host == '/' || !token(text) || length >= out_bytes)
        return false;
    while (text[length - 1] == '/')
        length--;
    memcpy(out, text, length);
    out[length] = '\0';
    return true;
}

static bool parse_text(const char *text, const struct setting_row *row, char *out)
{
    size_t length = strlen(text);
    bool ok = row->kind == KIND_TOKEN ? token(text) : printable(text);
    if (!ok || length >= row->bytes || (double)length < row->min)
        return false;
    memcpy(out, text, length + 1);
    return true;
}

int settings_apply(struct settings *settings, size_t index, const char *text, struct err *err)
{
    const struct setting_row *row = settings_row(index);
    char *member = (char *)settings + row->offset;
    struct err ignored = {0};
    bool ok = false, flag = false;
    int number = 0;
    double real = 0;
    int64_t ms = 0;
    switch (row->kind) {
    case KIND_BOOL:
        ok = parse_bool(text, &flag);
        memcpy(member, &flag, sizeof flag);
        break;
    case KIND_LOG_FORMAT:
        ok = parse_format(text, &flag);
        memcpy(member, &flag, sizeof flag);
        break;
    case KIND_INT:
        ok = parse_int(text, row, &number) &&
             (index != SETTING_CONTEXT_LENGTH || number == 0 || number >= CONTEXT_LENGTH_MIN);
        memcpy(member, &number, sizeof number);
        break;
    case KIND_REAL:
        ok = parse_real(text, row, &real);
        memcpy(member, &real, sizeof real);
        break;
    case KIND_DURATION:
        ok = clock_parse_duration(text, &ms, &ignored) == 0;
        memcpy(member, &ms, sizeof ms);
        break;
    case KIND_CHOICE:
        ok = parse_choice(text, info_of(index)->allowed, member, row->bytes);
        break;
    case KIND_LOG_LEVEL:
        ok = strlen(text) <= LOG_LEVEL_BYTES_MAX && log_check_spec(text, &ignored) == 0 &&
             parse_text(text, row, member);
        break;
    case KIND_URL:
        ok = parse_url(text, member, row->bytes);
        break;
    case KIND_TEXT:
    case KIND_TOKEN:
    case KIND_PATH:
    case KIND_DATABASE:
        ok = parse_text(text, row, member);
        break;
    }
    return ok ? 0 : settings_bad_value(settings, index, text, info_of(index)->allowed, err);
}

/* --- several rows ----------------------------------------------------------------------------- */

/* Makes a path member absolute; an empty one becomes `name` under the base. */
static int resolve_path(char path[FS_PATH_BYTES_MAX], const char *base, const char *name,
                        struct err *err)
{
    char given[FS_PATH_BYTES_MAX];
    memcpy(given, path, sizeof given);
    return given[0] ? fs_absolute(path, given, err) : fs_join(path, base, name, err);
}

static int resolve_sqlite(struct settings *settings, const char *path, struct err *err)
{
    char absolute[FS_PATH_BYTES_MAX];
    if (!path[0] || path[0] == ':')
        return settings_bad_value(settings, SETTING_DATABASE_URL, settings->database_url,
                                  info_of(SETTING_DATABASE_URL)->allowed, err);
    int rc = fs_absolute(absolute, path, err);
    if (rc != 0)
        return rc;
    int n =
        snprintf(settings->database_url, sizeof settings->database_url, "sqlite:///%s", absolute);
    if (n < 0 || (size_t)n >= sizeof settings->database_url)
        return err_set(err, ERR_INVALID, "the database path is too long: %.200s…", absolute);
    return 0;
}

/* "sqlite:///PATH" (also "sqlite+driver:///"), or any spelling of "postgresql://…". */
static int resolve_database(struct settings *settings, struct err *err)
{
    char given[sizeof settings->database_url], file[FS_PATH_BYTES_MAX];
    memcpy(given, settings->database_url, sizeof given);
    if (!given[0]) {
        int rc = fs_join(file, settings->storage_base_path, "hub.db", err);
        return rc == 0 ? resolve_sqlite(settings, file, err) : rc;
    }
    char *rest = strstr(given, "://");
    size_t scheme = rest ? (size_t)(rest - given) : 0;
    char *driver = memchr(given, '+', scheme);
    size_t name = driver ? (size_t)(driver - given) : scheme;
    if (rest && name == 6 && strncasecmp(given, "sqlite", 6) == 0 && rest[3] == '/')
        return resolve_sqlite(settings, rest + 4, err);
    bool postgres = (name == 8 && strncasecmp(given, "postgres", 8) == 0) ||
                    (name == 10 && strncasecmp(given, "postgresql", 10) == 0);
    if (!rest || !postgres || !rest[3])
        return settings_bad_value(settings, SETTING_DATABASE_URL, given,
                                  info_of(SETTING_DATABASE_URL)->allowed, err);
    int n = snprintf(settings->database_url, sizeof settings->database_url, "postgresql%s", rest);
    if (n < 0 || (size_t)n >= sizeof settings->database_url)
        return err_set(err, ERR_INVALID, "DATABASE_URL is too long");
    return 0;
}

static bool loopback(const char *host)
{
    return strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
           strcmp(host, "::1") == 0 || strcmp(host, "[::1]") == 0;
}

/* The hub's own address as tracking server means its embedded store. */
static void resolve_tracking(struct settings *settings)
{
    char *uri = settings->mlflow_tracking_uri;
    if (strncasecmp(uri, "http://", 7) != 0)
        return;
    const char *host = uri + 7, *colon = strrchr(host, ':');
    char name[sizeof settings->host], port[16];
    size_t length = colon ? (size_t)(colon - host) : strlen(host);
    if (length >= sizeof name)
        return;
    memcpy(name, host, length);
    name[length] = '\0';
    snprintf(port, sizeof port, ":%d", settings->port);
    bool same_port = colon ? strcmp(colon, port) == 0 : settings->port == 80;
    bool any = strcmp(settings->host, "0.0.0.0") == 0 || strcmp(settings->host, "::") == 0;
    bool same_host = strcasecmp(name, settings->host) == 0 ||
                     (loopback(name) && (any || loopback(settings->host)));
    if (same_port && same_host)
        uri[0] = '\0';
}

/* DEBUG means the store's statements, unless LOG_LEVEL speaks of the store itself. */
static void resolve_debug(struct settings *settings)
{
    size_t length = strlen(settings->log_level);
    if (settings->debug && !strcasestr(settings->log_level, "store="))
        snprintf(settings->log_level + length, sizeof settings->log_level - length, ",store=DEBUG");
}

static int resolve_memory(struct settings *settings, struct err *err)
{
    double ram_gb = (double)machine_ram_bytes() / BYTES_PER_GB;
    double most = floor(ram_gb * MEMORY_SHARE_MAX * 100) / 100;
    if (settings->memory_limit_gb <= most)
        return 0;
    if (settings->source[SETTING_MLX_MEMORY_LIMIT_GB] == SETTING_DEFAULT) {
        settings->memory_limit_gb = most;
        settings->memory_limit_lowered = true;
        return 0;
    }
    return err_set(
        err, ERR_INVALID,
        "MLX_MEMORY_LIMIT_GB is %.2f (%s); allowed: at most %.2f, 75%% of the %.2f GB of "
        "this machine",
        settings->memory_limit_gb,
        setting_source_name(settings->source[SETTING_MLX_MEMORY_LIMIT_GB]), most, ram_gb);
}

int settings_resolve(struct settings *settings, struct err *err)
{
    char base[FS_PATH_BYTES_MAX];
    memcpy(base, settings->storage_base_path, sizeof base);
    int rc = fs_absolute(settings->storage_base_path, base, err);
    if (rc == 0)
        rc =
            resolve_path(settings->storage_models_path, settings->storage_base_path, "models", err);
    if (rc == 0)
        rc = resolve_path(settings->storage_datasets_path, settings->storage_base_path, "datasets",
                          err);
    if (rc == 0)
        rc = resolve_database(settings, err);
    if (rc == 0)
        rc = resolve_memory(settings, err);
    if (rc == 0) {
        resolve_tracking(settings);
        resolve_debug(settings);
    }
    return rc;
}

int settings_check_serve(const struct settings *settings, struct err *err)
{
    if (!loopback(settings->host) && !settings->api_key[0])
        return err_set(err, ERR_INVALID,
                       "HOST is \"%s\" (%s), which others can reach; allowed without API_KEY: "
                       "127.0.0.1, ::1, localhost",
                       settings->host, setting_source_name(settings->source[SETTING_HOST]));
    if (settings->workers > 1 && strncmp(settings->database_url, "sqlite:", 7) == 0)
        return err_set(err, ERR_INVALID,
                       "WORKERS is %d (%s); allowed on SQLite: 0 or 1, more need PostgreSQL",
                       settings->workers, setting_source_name(settings->source[SETTING_WORKERS]));
    if (settings->memory_limit_lowered)
        log_event(LOG_WARNING, "base", "memory_limit_lowered",
                  "setting=MLX_MEMORY_LIMIT_GB default=%s used=%.2f reason=\"75%% of memory\"",
                  info_of(SETTING_MLX_MEMORY_LIMIT_GB)->fallback, settings->memory_limit_gb);
    return 0;
}

int settings_make_dirs(const struct settings *settings, struct err *err)
{
    static const char *const UNDER_BASE[] = {"blobs/sha256", "cache", "checkpoints", "artifacts"};
    char path[FS_PATH_BYTES_MAX];
    int rc = fs_mkdirs(settings->storage_base_path, err);
    if (rc == 0)
        rc = fs_mkdirs(settings->storage_models_path, err);
    if (rc == 0)
        rc = fs_mkdirs(settings->storage_datasets_path, err);
    for (size_t i = 0; i < sizeof UNDER_BASE / sizeof *UNDER_BASE && rc == 0; i++) {
        rc = fs_join(path, settings->storage_base_path, UNDER_BASE[i], err);
        if (rc == 0)
            rc = fs_mkdirs(path, err);
    }
    return rc;
}
