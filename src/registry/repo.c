/* How it works: one GET for the list, read through checks that know nothing of the server's good
 * will; then everything else is a choice over checked rows (repo_choose.c).
 */
#include "registry/repo_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"

enum {
    URL_BYTES = 4096,
    LIST_TRIES = 4,
    WAIT_FIRST_MS = 500,
    WAIT_MAX_MS = 30000,
    RETRY_AFTER_SECONDS_MAX = 300,
    WAIT_STEP_MS = 100,
    SEARCH_BYTES_MAX = 8 << 20,
    SEARCH_TIMEOUT_MS = 15000,
    COMMIT_HEX = 40,
};

int repo_server_open(struct repo_server *server, const char *endpoint, const char *token,
                     struct arena *arena, struct err *err)
{
    size_t n = strlen(endpoint);

    while (n > 0 && endpoint[n - 1] == '/')
        n--;
    memset(server, 0, sizeof *server);
    server->endpoint = arena_strndup(arena, endpoint, n);
    server->token = token;
    return server->endpoint ? http_client_new(&server->http, err) : mem_err(err, n);
}

void repo_server_close(struct repo_server *server)
{
    http_client_free(server->http);
    server->http = NULL;
}

/* --- names --- */

static bool is_plain(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("-._", c));
}

/* A part of a path: not empty, not only dots, no bytes but `plain` ones. */
static bool is_part(const char *part, size_t n)
{
    size_t dots = 0;

    for (size_t i = 0; i < n; i++) {
        if (!is_plain(part[i]))
            return false;
        dots += part[i] == '.';
    }
    return n > 0 && dots < n;
}

static bool is_id(const char *id)
{
    const char *slash = strchr(id, '/');

    if (!slash)
        return is_part(id, strlen(id));
    return is_part(id, (size_t)(slash - id)) && is_part(slash + 1, strlen(slash + 1));
}

/* A file's path as a listing may have it: relative, UTF-8, nothing that leads elsewhere. */
static bool is_path(const char *path)
{
    size_t n = strlen(path);
    uint32_t code_point;

    if (n == 0 || n >= REPO_FILE_BYTES || path[0] == '/')
        return false;
    for (size_t i = 0; i < n;) {
        size_t bytes = utf8_decode(path + i, n - i, &code_point);

        if (bytes == 0 || code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0) ||
            code_point == '\\')
            return false;
        i += bytes;
    }
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += *part == '/';
        size_t length = strcspn(part, "/");
        if (length == 0 || length > 255 || (length <= 2 && strspn(part, ".") >= length))
            return false;
    }
    return true;
}

static int set(char *out, size_t out_bytes, const char *text, size_t n, const char *what,
               struct err *err)
{
    if (n >= out_bytes)
        return err_set(err, ERR_UNPROCESSABLE, "%s is longer than %zu bytes", what, out_bytes - 1);
    memcpy(out, text, n);
    out[n] = '\0';
    return 0;
}

int repo_name_set_revision(struct repo_name *name, const char *revision, struct err *err)
{
    int rc = revision ? set(name->revision, sizeof name->revision, revision, strlen(revision),
                            "revision", err)
                      : 0;

    for (const char *at = name->revision; rc == 0 && *at; at++)
        if ((!is_plain(*at) && *at != '/') || strncmp(at, "..", 2) == 0)
            rc = err_set(err, ERR_UNPROCESSABLE, "'%s' is no branch, tag or commit", revision);
    return rc;
}

int repo_name_set_file(struct repo_name *name, const char *file, struct err *err)
{
    int rc = file ? set(name->file, sizeof name->file, file, strlen(file), "file", err) : 0;

    if (rc == 0 && name->file[0] && !is_path(name->file))
        rc = err_set(err, ERR_UNPROCESSABLE, "'%s' is no file of a repository", name->file);
    return rc;
}

bool repo_is_commit(const char *revision)
{
    return strlen(revision) == COMMIT_HEX && strspn(revision, "0123456789abcdef") == COMMIT_HEX;
}

static const char *without_host(const char *text)
{
    static const char *const starts[] = {"https://", "http://", "hf.co/", "huggingface.co/",
                                         "www.huggingface.co/"};

    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        if (strncmp(text, starts[i], strlen(starts[i])) == 0)
            text += strlen(starts[i]);
    return text;
}

int repo_name_parse(const char *text, struct repo_name *name, struct err *err)
{
    const char *id = without_host(text ? text : "");
    size_t n = strcspn(id, "@:");
    const char *rest = id + n;

    memset(name, 0, sizeof *name);
    int rc = set(name->id, sizeof name->id, id, n, "the model's id", err);
    if (rc == 0 && !is_id(name->id))
        rc = err_set(err, ERR_UNPROCESSABLE,
                     "'%.300s' is no model's id: it is written org/name, with @revision or :file "
                     "behind it",
                     text ? text : "");
    if (rc == 0 && *rest == '@') {
        char revision[REPO_REVISION_BYTES];

        n = strcspn(++rest, ":");
        rc = set(revision, sizeof revision, rest, n, "revision", err);
        if (rc == 0)
            rc = repo_name_set_revision(name, revision, err);
        rest += n;
    }
    if (rc == 0 && *rest == ':' && strcmp(rest, ":latest") != 0)
        rc = repo_name_set_file(name, rest + 1, err);
    return rc;
}

/* --- requests --- */

bool repo_may_pass(int rc, int status)
{
    if (rc < 0)
        return rc == -ERR_UNAVAILABLE || rc == -ERR_TIMEOUT || rc == -ERR_CLOSED || rc == -ERR_IO;
    return status == 408 || status == 429 || status >= 500;
}

int repo_wait(const struct repo_server *server, int tries, const struct http_response *response,
              struct err *err)
{
    char text[32];
    int64_t ms = WAIT_FIRST_MS;
    int rc = 0;

    for (int i = 1; i < tries && ms < WAIT_MAX_MS; i++)
        ms *= 2;
    ms = ms < WAIT_MAX_MS ? ms : WAIT_MAX_MS;
    if ((response->status == 429 || response->status == 503) &&
        http_response_find_header(response, "retry-after", text, sizeof text) &&
        isdigit((unsigned char)text[0])) {
        long seconds = strtol(text, NULL, 10);

        ms =
            1000 * (int64_t)(seconds < RETRY_AFTER_SECONDS_MAX ? seconds : RETRY_AFTER_SECONDS_MAX);
    }
    for (int64_t until = clock_monotonic_ns() + ms * 1000000;
         rc == 0 && clock_monotonic_ns() < until;) {
        clock_sleep_ms(WAIT_STEP_MS);
        rc = server->on_wait ? server->on_wait(server->ctx, err) : 0;
    }
    return rc;
}

int repo_refused(const struct repo_server *server, const char *id, const char *revision, int status,
                 struct err *err)
{
    if (status == 404)
        return err_set(err, ERR_NOT_FOUND, "%s has no model '%s' with a revision '%s'",
                       server->endpoint, id, revision[0] ? revision : "main");
    if ((status == 401 || status == 403) && !(server->token && server->token[0]))
        return err_set(err, ERR_FORBIDDEN,
                       "%s answers %d for '%s': it is gated or private, or is not there; ask for "
                       "access on its page and set HF_TOKEN to a token of yours",
                       server->endpoint, status, id);
    if (status == 401 || status == 403)
        return err_set(err, ERR_FORBIDDEN,
                       "%s answers %d for '%s' with the HF_TOKEN that is set: ask for access on "
                       "its page, or set HF_TOKEN to a token that may read it",
                       server->endpoint, status, id);
    return err_set(err, ERR_UNAVAILABLE, "%s answers %d for '%s'", server->endpoint, status, id);
}

static int get(const struct repo_server *server, const char *url, int tries_max, int timeout_ms,
               size_t bytes_max, struct http_response *response, struct err *err)
{
    const struct http_request request = {.url = url,
                                         .bearer = server->token,
                                         .response_bytes_max = bytes_max,
                                         .connect_timeout_ms = REPO_CONNECT_MS,
                                         .timeout_ms = timeout_ms,
                                         .idle_timeout_s = REPO_IDLE_SECONDS,
                                         .follow = true,
                                         .on_wait = server->on_wait,
                                         .ctx = server->ctx};

    for (int tries = 1;; tries++) {
        struct err why = {0};
        int rc = http_request(server->http, &request, response, &why);

        if (tries == tries_max || !repo_may_pass(rc, response->status))
            return rc < 0 ? err_set(err, why.code, "%s", why.message) : 0;
        rc = repo_wait(server, tries, response, err);
        if (rc < 0)
            return rc;
    }
}

int repo_escape_path(const char *path, char *out, size_t out_bytes, struct err *err)
{
    char part[REPO_FILE_BYTES];
    size_t used = 0;

    for (const char *at = path;; at++) {
        size_t n = strcspn(at, "/");
        int rc = set(part, sizeof part, at, n, "a path", err);

        if (rc == 0)
            rc = http_escape(part, out + used, out_bytes - used, err);
        if (rc < 0)
            return rc;
        used += strlen(out + used);
        at += n;
        if (!*at)
            return 0;
        if (used + 2 >= out_bytes)
            return err_set(err, ERR_TOO_LARGE, "'%.100s…' is too long for an address", path);
        out[used++] = '/';
        out[used] = '\0';
    }
}

/* --- listing --- */

static const char *hex_member(const json_t *object, const char *key, size_t digits,
                              struct arena *arena)
{
    const char *text = json_string_value(json_object_get(object, key));

    if (!text || strlen(text) != digits || strspn(text, "0123456789abcdef") != digits)
        return NULL;
    return arena_strdup(arena, text);
}

static int read_file(const json_t *row, struct arena *arena, struct repo_file *file,
                     struct err *err)
{
    const char *path = json_string_value(json_object_get(row, "rfilename"));
    const json_t *lfs = json_object_get(row, "lfs");
    const json_t *size = json_object_get(row, "size");

    if (!path || strlen(path) != json_string_length(json_object_get(row, "rfilename")) ||
        !is_path(path))
        return err_set(err, ERR_CORRUPT, "it names a file that may not be written: '%.200s'",
                       path ? path : "");
    if (!json_is_integer(size))
        size = json_object_get(lfs, "size");
    file->bytes = json_is_integer(size) ? (int64_t)json_integer_value(size) : -1;
    if (json_is_integer(size) && (file->bytes < 0 || file->bytes > REPO_BYTES_MAX))
        return err_set(err, ERR_CORRUPT, "it gives '%s' a size of %lld bytes", path,
                       (long long)file->bytes);
    file->path = arena_strdup(arena, path);
    file->sha256 = hex_member(lfs, "sha256", SHA256_HEX_BYTES - 1, arena);
    file->git = json_is_object(lfs) ? NULL : hex_member(row, "blobId", GIT_HEX_BYTES - 1, arena);
    if (json_is_object(lfs) && !file->sha256)
        return err_set(err, ERR_CORRUPT, "it gives '%s' no SHA-256", path);
    if (!file->path)
        return mem_err(err, strlen(path));
    const char *slash = strrchr(file->path, '/');
    file->name = slash ? slash + 1 : file->path;
    return 0;
}

static int read_files(const json_t *rows, struct arena *arena, struct repo *repo, struct err *err)
{
    size_t i;
    const json_t *row;

    if (!json_is_array(rows))
        return err_set(err, ERR_CORRUPT, "it lists no files");
    if (json_array_size(rows) > REPO_FILES_MAX)
        return err_set(err, ERR_CORRUPT, "it lists %zu files, at most %d are read",
                       json_array_size(rows), REPO_FILES_MAX);
    repo->files = arena_alloc(arena, json_array_size(rows) + 1, sizeof *repo->files);
    if (!repo->files)
        return mem_err(err, 0);
    json_array_foreach(rows, i, row)
    {
        int rc = read_file(row, arena, &repo->files[i], err);

        if (rc < 0)
            return rc;
    }
    repo->n_files = json_array_size(rows);
    return 0;
}

int repo_read(const char *text, size_t n, const struct repo_name *name, struct arena *arena,
              struct repo *repo, struct err *err)
{
    struct err why = {0};
    json_t *tree = json_parse(text, n, &why);
    int rc = tree ? 0 : -(int)why.code;

    memset(repo, 0, sizeof *repo);
    repo->id = arena_strdup(arena, name->id);
    if (rc == 0) {
        repo->commit = hex_member(tree, "sha", COMMIT_HEX, arena);
        rc = repo->commit ? read_files(json_object_get(tree, "siblings"), arena, repo, &why)
                          : err_set(&why, ERR_CORRUPT, "it names no commit");
    }
    json_decref(tree);
    if (rc < 0)
        return err_set(err, why.code == ERR_NOMEM ? ERR_NOMEM : ERR_CORRUPT,
                       "The list of files of '%s' is refused: %s", name->id, why.message);
    return repo->id ? 0 : mem_err(err, 0);
}

int repo_list(const struct repo_server *server, const struct repo_name *name, struct arena *arena,
              struct repo *repo, struct err *err)
{
    char url[URL_BYTES], revision[3 * REPO_REVISION_BYTES];
    struct http_response response;
    int rc =
        http_escape(name->revision[0] ? name->revision : "main", revision, sizeof revision, err);

    if (rc < 0)
        return rc;
    snprintf(url, sizeof url, "%s/api/models/%s/revision/%s?blobs=true", server->endpoint, name->id,
             revision);
    http_response_init(&response);
    rc = get(server, url, LIST_TRIES, 0, REPO_LIST_BYTES_MAX, &response, err);
    if (rc == 0 && (response.status < 200 || response.status > 299))
        rc = repo_refused(server, name->id, name->revision, response.status, err);
    if (rc == 0)
        rc = repo_read(response.body.data ? response.body.data : "", response.body.len, name, arena,
                       repo, err);
    http_response_release(&response);
    return rc;
}

/* --- searching --- */

static bool has_tag(const json_t *row, const char *tag)
{
    size_t i;
    const json_t *value;

    json_array_foreach(json_object_get(row, "tags"), i,
                       value) if (json_is_string(value) &&
                                  strcmp(json_string_value(value), tag) == 0) return true;
    return false;
}

static bool read_hit(const json_t *row, struct arena *arena, struct repo_hit *hit)
{
    const char *id = json_string_value(json_object_get(row, "id"));
    const char *at = json_string_value(json_object_get(row, "lastModified"));
    const json_t *gated = json_object_get(row, "gated");
    int64_t us;

    if (!id || strlen(id) >= REPO_ID_BYTES || !is_id(id))
        return false;
    memset(hit, 0, sizeof *hit);
    hit->id = arena_strdup(arena, id);
    hit->updated_at = at && clock_parse_iso(at, &us, NULL) == 0 ? arena_strdup(arena, at) : NULL;
    hit->downloads = (int64_t)json_integer_value(json_object_get(row, "downloads"));
    hit->likes = (int64_t)json_integer_value(json_object_get(row, "likes"));
    hit->gguf = has_tag(row, "gguf");
    hit->safetensors = has_tag(row, "safetensors");
    hit->mlx = has_tag(row, "mlx");
    hit->gated = gated && !json_is_false(gated) && !json_is_null(gated);
    return hit->id != NULL;
}

static int read_hits(const struct http_response *response, struct arena *arena,
                     struct repo_hit *hits, size_t *count, int limit, struct err *err)
{
    size_t i;
    const json_t *row;
    struct err why = {0};
    json_t *tree =
        json_parse(response->body.data ? response->body.data : "", response->body.len, &why);

    if (!json_is_array(tree)) {
        json_decref(tree);
        return err_set(err, ERR_UNAVAILABLE, "the model hub's answer is no list of models");
    }
    json_array_foreach(tree, i, row) if (*count < (size_t)limit &&
                                         read_hit(row, arena, &hits[*count]))++ *count;
    json_decref(tree);
    return 0;
}

int repo_search(const struct repo_server *server, const char *words, int limit, struct arena *arena,
                struct repo_hit **hits, size_t *count, struct err *err)
{
    char url[URL_BYTES], escaped[URL_BYTES / 2];
    struct http_response response;
    int rc = http_escape(words, escaped, sizeof escaped, err);

    *count = 0;
    limit = limit < REPO_HITS_MAX ? limit : REPO_HITS_MAX;
    *hits = arena_alloc(arena, (size_t)limit + 1, sizeof **hits);
    if (rc == 0 && !*hits)
        rc = mem_err(err, 0);
    if (rc < 0)
        return rc;
    snprintf(url, sizeof url,
             "%s/api/models?search=%s&sort=downloads&direction=-1&limit=%d&full=true",
             server->endpoint, escaped, limit);
    http_response_init(&response);
    rc = get(server, url, 1, SEARCH_TIMEOUT_MS, SEARCH_BYTES_MAX, &response, err);
    if (rc == 0 && (response.status < 200 || response.status > 299))
        rc = err_set(err, ERR_UNAVAILABLE, "%s answers %d to a search%s", server->endpoint,
                     response.status, response.status == 401 ? ": see HF_TOKEN" : "");
    if (rc == 0)
        rc = read_hits(&response, arena, *hits, count, limit, err);
    http_response_release(&response);
    return rc;
}
