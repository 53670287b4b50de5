/* Fetching one file of a model hub, so that an interruption costs nothing that had come.
 *
 * Bytes go to PATH.part, which stays when the fetch ends early, be it by an error, a cancel or a
 * kill: the next fetch asks for the rest (Range). A lost connection, 408, 429 and 5xx are tried
 * again with growing pauses, or as long as Retry-After says, for as long as bytes come in between;
 * a file is given up after REPO_FETCH_TRIES tries that brought nothing. PATH appears, flushed, once
 * size and digest are what the listing says; a part that turns out wrong is removed.
 */
#ifndef REGISTRY_REPO_FETCH_H
#define REGISTRY_REPO_FETCH_H

#include "base/fs.h"
#include "registry/repo.h"

enum { REPO_FETCH_TRIES = 7 };

struct repo_sink {
    /* Bytes that are there, n more of them (or less: a server that cannot go on made the file
     * begin anew); came: how many of these came over the network. ctx is the server's. */
    void (*on_bytes)(void *ctx, int64_t n, int64_t came);
    void (*on_retry)(void *ctx, const char *why); /* or NULL */
};

/* ERR_CORRUPT when it is not what the listing says, ERR_NOSPACE, on_wait's code; others as
 * repo_list. A file that is there already is not looked at again. */
int repo_fetch(const struct repo_server *server, const struct repo *repo,
               const struct repo_file *file, const char *path, const struct repo_sink *sink,
               struct err *err) MUST_CHECK;

/* How many bytes of the file lie at path or in its part. */
int64_t repo_fetched(const struct repo_file *file, const char *path);

/* Whether the file at path is this one, by size and digest; reads all of it. */
bool repo_file_is(const struct repo_file *file, const char *path);

#endif
