/* Models on a hub that speaks Hugging Face's API: how they are named, what one holds, which of its
 * files are needed, and looking for one. Fetching files is repo_fetch.h.
 *
 * The server is not trusted. Answers have a ceiling, a listing is refused whole when one of its
 * names is not a plain relative path (control characters, "..", a leading slash, a backslash), when
 * there are more than REPO_FILES_MAX files, or when a size or digest is not one. Weights that are
 * pickled are never taken.
 *
 * No state but the caller's; calls block for as long as the network takes.
 */
#ifndef REGISTRY_REPO_H
#define REGISTRY_REPO_H

#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"

enum {
    REPO_ID_BYTES = 256,
    REPO_REVISION_BYTES = 256,
    REPO_FILE_BYTES = 512, /* of a file's path */
    REPO_FILES_MAX = 20000,
    REPO_LIST_BYTES_MAX = 32 << 20,
    REPO_CONNECT_MS = 10000,
    REPO_IDLE_SECONDS = 60,
    REPO_HITS_MAX = 100,
};
#define REPO_BYTES_MAX (INT64_C(1) << 46) /* of one file */

struct http_client; /* of base/, whose names and http/'s exclude each other */

struct repo_server {
    const char *endpoint; /* "https://huggingface.co", no slash at its end */
    const char *token;    /* sent to the endpoint's host alone; NULL or "" = none */
    struct http_client *http;
    int (*on_wait)(void *ctx, struct err *err); /* asked several times a second; or NULL */
    void *ctx;
};
/* endpoint as it is set, a slash at its end or not; token is borrowed, the rest is the caller's. */
int repo_server_open(struct repo_server *server, const char *endpoint, const char *token,
                     struct arena *arena, struct err *err) MUST_CHECK;
void repo_server_close(struct repo_server *server); /* safe on a zeroed struct */

/* What a person asks for. */
struct repo_name {
    char id[REPO_ID_BYTES];             /* "org/name", or "name" alone */
    char revision[REPO_REVISION_BYTES]; /* a branch, tag or commit; "" = main */
    char file[REPO_FILE_BYTES];         /* a GGUF file or a quantization; "" = not said */
};
/* "[https://][hf.co/|huggingface.co/]org/name[@revision][:file]", ":latest" meaning nothing.
 * ERR_UNPROCESSABLE says what is wrong. */
int repo_name_parse(const char *text, struct repo_name *name, struct err *err) MUST_CHECK;
/* The same checks for members that came apart; "" and NULL are fine. */
int repo_name_set_revision(struct repo_name *name, const char *revision,
                           struct err *err) MUST_CHECK;
int repo_name_set_file(struct repo_name *name, const char *file, struct err *err) MUST_CHECK;
/* Whether a revision can only mean one commit. */
bool repo_is_commit(const char *revision);

struct repo_file {
    const char *path; /* in the repository */
    const char *name; /* behind its last slash */
    int64_t bytes;
    const char *sha256; /* of its bytes, or NULL */
    const char *git;    /* git's name of its bytes when there is no sha256, or NULL */
};

struct repo {
    const char *id, *commit;
    struct repo_file *files;
    size_t n_files;
};

/* The files at a revision. ERR_NOT_FOUND names id and revision; ERR_FORBIDDEN tells of HF_TOKEN;
 * ERR_UNAVAILABLE … when the server cannot be reached, after a few tries; ERR_CORRUPT for an answer
 * that is refused. Texts live in the arena. */
int repo_list(const struct repo_server *server, const struct repo_name *name, struct arena *arena,
              struct repo *repo, struct err *err) MUST_CHECK;
/* The same from an answer's text. */
int repo_read(const char *text, size_t n, const struct repo_name *name, struct arena *arena,
              struct repo *repo, struct err *err) MUST_CHECK;

struct repo_pick {
    bool is_folder;
    const struct repo_file **files; /* one GGUF, or all of a folder */
    size_t n_files;
    const struct repo_file *largest;
    int64_t bytes;
};
/* What of a repository makes a model: with `wanted` ("" = not said) that GGUF file, or the one in
 * that quantization; else config, tokenizer, template and safetensors at its top; else its one
 * GGUF, or the one in Q4_K_M. ERR_INVALID lists what there is, ERR_UNSUPPORTED names files that the
 * hub does not read: pickles, and GGUF in several parts. */
int repo_choose(const struct repo *repo, const char *wanted, struct arena *arena,
                struct repo_pick *pick, struct err *err) MUST_CHECK;

/* Whether the name of a GGUF file, without ".gguf" and a part's number, ends in this quantization.
 */
bool repo_gguf_is_in(const char *name, const char *quantization);

struct repo_hit {
    const char *id, *updated_at; /* updated_at may be NULL */
    int64_t downloads, likes;
    bool gguf, safetensors, mlx, gated;
};
/* The most downloaded models for these words. */
int repo_search(const struct repo_server *server, const char *words, int limit, struct arena *arena,
                struct repo_hit **hits, size_t *count, struct err *err) MUST_CHECK;

#endif
