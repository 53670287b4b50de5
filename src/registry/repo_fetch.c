/* How it works: the part is opened at its end and hashed once; each try asks for what lies behind
 * it and writes what comes. The digest runs along, so a file is read once at most (and only when a
 * part was there).
 *
 *   open part ─▶ try ─▶ whole? ─▶ check digest ─▶ flush, rename
 *                 ↑  └─ lost ─▶ wait ─┐
 *                 └───────────────────┘
 */
#include "registry/repo_fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "registry/repo_int.h"

enum { URL_BYTES = 8192, CHUNK_BYTES = 1 << 18 };

struct fetch {
    const struct repo_server *server;
    const struct repo *repo;
    const struct repo_file *file;
    const struct repo_sink *sink;
    struct http_response response;
    struct fs_writer part;
    struct sha256 hash; /* of what is in the part, where the listing has a SHA-256 */
    bool begun;         /* this try has brought bytes */
    bool ours;          /* what went wrong is on this side */
};

static int hash_begin(struct fetch *f, struct err *err)
{
    sha256_release(&f->hash);
    return f->file->sha256 ? sha256_init(&f->hash, err) : 0;
}

/* From the beginning. */
static int start_over(struct fetch *f, struct err *err)
{
    int64_t had = (int64_t)f->part.written;
    int rc = fs_writer_restart(&f->part, err);

    if (rc == 0)
        rc = hash_begin(f, err);
    if (rc == 0)
        f->sink->on_bytes(f->server->ctx, -had, 0);
    return rc;
}

/* What an earlier fetch left goes into the digest. */
static int take_up(struct fetch *f, struct err *err)
{
    int rc = hash_begin(f, err);
    char *chunk = rc == 0 ? mem_alloc(CHUNK_BYTES) : NULL;
    int fd = chunk ? open(f->part.temp, O_RDONLY | O_CLOEXEC) : -1;
    uint64_t left = f->part.written;

    if (rc == 0 && !chunk)
        rc = mem_err(err, CHUNK_BYTES);
    if (rc == 0 && fd < 0)
        rc = err_set_errno(err, errno, "cannot read %s", f->part.temp);
    while (rc == 0 && left > 0 && f->file->sha256) {
        ssize_t got = read(fd, chunk, CHUNK_BYTES);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            rc = err_set_errno(err, got < 0 ? errno : EIO, "cannot read %s", f->part.temp);
        if (rc == 0)
            rc = sha256_update(&f->hash, chunk, (size_t)got, err);
        if (rc == 0 && f->server->on_wait)
            rc = f->server->on_wait(f->server->ctx, err);
        left -= rc == 0 ? (uint64_t)got : 0;
    }
    if (fd >= 0)
        close(fd);
    mem_free(chunk);
    if (rc == 0)
        f->sink->on_bytes(f->server->ctx, (int64_t)f->part.written, 0);
    return rc;
}

/* The first bytes of a try: do they go on where the part ends? */
static int begin(struct fetch *f, struct err *err)
{
    char range[128];
    uint64_t from = 0;
    bool partial =
        f->response.headers.data && f->response.headers.len > 12 &&
        strncmp(strchr(f->response.headers.data, ' ') ? strchr(f->response.headers.data, ' ') : "",
                " 206", 4) == 0;

    f->begun = true;
    if (!partial)
        return f->part.written > 0 ? start_over(f, err) : 0;
    if (!http_response_find_header(&f->response, "content-range", range, sizeof range) ||
        strncmp(range, "bytes ", 6) != 0)
        return err_set(err, ERR_CORRUPT, "the answer for '%s' does not say which bytes it holds",
                       f->file->path);
    from = strtoull(range + 6, NULL, 10);
    if (from != f->part.written)
        return err_set(err, ERR_CORRUPT,
                       "the answer for '%s' begins at byte %" PRIu64 " instead of %" PRIu64,
                       f->file->path, from, f->part.written);
    return 0;
}

static int on_data(void *ctx, const char *bytes, size_t n, struct err *err)
{
    struct fetch *f = ctx;
    int rc = f->begun ? 0 : begin(f, err);

    f->ours = true;
    if (rc == 0 && n > (uint64_t)f->file->bytes - f->part.written)
        rc = err_set(err, ERR_CORRUPT, "'%s' of '%s' is longer than the %lld bytes listed",
                     f->file->path, f->repo->id, (long long)f->file->bytes);
    if (rc == 0)
        rc = fs_writer_write(&f->part, bytes, n, err);
    if (rc == 0 && f->file->sha256)
        rc = sha256_update(&f->hash, bytes, n, err);
    if (rc == 0)
        f->sink->on_bytes(f->server->ctx, (int64_t)n, (int64_t)n);
    f->ours = rc < 0;
    return rc;
}

static int on_wait(void *ctx, struct err *err)
{
    struct fetch *f = ctx;
    int rc = f->server->on_wait ? f->server->on_wait(f->server->ctx, err) : 0;

    f->ours = f->ours || rc < 0;
    return rc;
}

static int one_try(struct fetch *f, const char *url, struct err *err)
{
    char range[64];
    const char *const headers[] = {"Accept-Encoding: identity", f->part.written > 0 ? range : NULL,
                                   NULL};
    const struct http_request request = {.url = url,
                                         .headers = headers,
                                         .bearer = f->server->token,
                                         .connect_timeout_ms = REPO_CONNECT_MS,
                                         .idle_timeout_s = REPO_IDLE_SECONDS,
                                         .follow = true,
                                         .on_data = on_data,
                                         .on_wait = on_wait,
                                         .ctx = f};

    snprintf(range, sizeof range, "Range: bytes=%" PRIu64 "-", f->part.written);
    f->begun = f->ours = false;
    return http_request(f->server->http, &request, &f->response, err);
}

/* What a try that did not bring the rest means: 0 = try again. */
static int judge(struct fetch *f, int rc, const struct err *why, struct err *err)
{
    int status = f->response.status;

    if (rc < 0 && (f->ours || !repo_may_pass(rc, status)))
        return err_set(err, why->code, "%s", why->message);
    if (rc < 0 || (status >= 200 && status <= 299) || repo_may_pass(0, status))
        return 0;
    if (status == 416 && f->part.written > 0)
        return start_over(f, err);
    return repo_refused(f->server, f->repo->id, f->repo->commit, status, err);
}

static int give_up(const struct fetch *f, int rc, const struct err *why, struct err *err)
{
    if (rc < 0)
        return err_set(err, why->code == ERR_IO ? ERR_UNAVAILABLE : why->code, "%s", why->message);
    if (f->response.status < 200 || f->response.status > 299)
        return repo_refused(f->server, f->repo->id, f->repo->commit, f->response.status, err);
    return err_set(err, ERR_CLOSED, "the answer for '%s' stops after %" PRIu64 " of %lld bytes",
                   f->file->path, f->part.written, (long long)f->file->bytes);
}

static void tell_retry(const struct fetch *f, int rc, const struct err *why)
{
    char line[ERR_MESSAGE_BYTES_MAX + 64];

    if (!f->sink->on_retry)
        return;
    if (rc < 0)
        snprintf(line, sizeof line, "%s", why->message);
    else if (f->response.status > 299)
        snprintf(line, sizeof line, "the server answers %d for %s", f->response.status,
                 f->file->path);
    else
        snprintf(line, sizeof line, "the answer for %s stopped short", f->file->path);
    f->sink->on_retry(f->server->ctx, line);
}

static int fetch_all(struct fetch *f, const char *url, struct err *err)
{
    int fruitless = 0;

    while (f->part.written < (uint64_t)f->file->bytes) {
        struct err why = {0};
        uint64_t before = f->part.written;
        int tried = one_try(f, url, &why);

        if (tried == 0 && f->part.written == (uint64_t)f->file->bytes)
            break;
        int rc = judge(f, tried, &why, err);
        fruitless = f->part.written > before ? 1 : fruitless + 1;
        if (rc == 0 && fruitless == REPO_FETCH_TRIES)
            rc = give_up(f, tried, &why, err);
        if (rc == 0) {
            tell_retry(f, tried, &why);
            rc = repo_wait(f->server, fruitless, &f->response, err);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check_digest(struct fetch *f, struct err *err)
{
    char sha256[SHA256_HEX_BYTES], git[GIT_HEX_BYTES];
    const char *wanted = f->file->sha256 ? f->file->sha256 : f->file->git;
    int rc = f->file->sha256 ? sha256_final_hex(&f->hash, sha256, err)
                             : git_blob_hex(f->part.temp, git, err);
    const char *got = f->file->sha256 ? sha256 : git;

    if (rc < 0 || strcmp(got, wanted) == 0)
        return rc;
    fs_writer_abandon(&f->part);
    f->sink->on_bytes(f->server->ctx, -f->file->bytes, 0);
    return err_set(err, ERR_CORRUPT,
                   "'%s' of '%s' came with the digest %s, and %s is listed: it was thrown away",
                   f->file->path, f->repo->id, got, wanted);
}

static int part_name(const char *path, char out[FS_PATH_BYTES_MAX], struct err *err)
{
    int n = snprintf(out, FS_PATH_BYTES_MAX, "%s.part", path);

    return n > 0 && n < FS_PATH_BYTES_MAX ? 0 : err_set(err, ERR_INVALID, "path is too long");
}

int64_t repo_fetched(const struct repo_file *file, const char *path)
{
    char part[FS_PATH_BYTES_MAX];
    uint64_t bytes = 0;

    if (fs_size(path, &bytes, NULL) == 0 && bytes == (uint64_t)file->bytes)
        return file->bytes;
    if (part_name(path, part, NULL) < 0 || fs_size(part, &bytes, NULL) < 0 ||
        bytes > (uint64_t)file->bytes)
        return 0;
    return (int64_t)bytes;
}

bool repo_file_is(const struct repo_file *file, const char *path)
{
    char sha256[SHA256_HEX_BYTES], git[GIT_HEX_BYTES];
    uint64_t bytes = 0;

    if (fs_size(path, &bytes, NULL) < 0 || bytes != (uint64_t)file->bytes)
        return false;
    if (file->sha256)
        return sha256_file_hex(path, sha256, NULL) == 0 && strcmp(sha256, file->sha256) == 0;
    return git_blob_hex(path, git, NULL) == 0 && strcmp(git, file->git) == 0;
}

int repo_fetch(const struct repo_server *server, const struct repo *repo,
               const struct repo_file *file, const char *path, const struct repo_sink *sink,
               struct err *err)
{
    char url[URL_BYTES], escaped[3 * REPO_FILE_BYTES], part[FS_PATH_BYTES_MAX];
    struct fetch f = {.server = server, .repo = repo, .file = file, .sink = sink};
    uint64_t bytes = 0;
    int rc = 0;

    if (fs_size(path, &bytes, NULL) == 0 && bytes == (uint64_t)file->bytes) {
        sink->on_bytes(server->ctx, file->bytes, 0);
        return 0;
    }
    http_response_init(&f.response);
    if ((rc = repo_escape_path(file->path, escaped, sizeof escaped, err)) == 0 &&
        (rc = part_name(path, part, err)) == 0 &&
        (rc = fs_writer_resume(&f.part, path, part, err)) == 0) {
        snprintf(url, sizeof url, "%s/%s/resolve/%s/%s", server->endpoint, repo->id, repo->commit,
                 escaped);
        if (f.part.written > (uint64_t)file->bytes)
            rc = fs_writer_restart(&f.part, err);
    }
    if (rc == 0)
        rc = take_up(&f, err);
    if (rc == 0)
        rc = fetch_all(&f, url, err);
    if (rc == 0)
        rc = check_digest(&f, err);
    if (rc == 0)
        rc = fs_writer_publish(&f.part, err);
    fs_writer_leave(&f.part);
    sha256_release(&f.hash);
    http_response_release(&f.response);
    return rc;
}
