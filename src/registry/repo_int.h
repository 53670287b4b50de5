/* Shared by repo.c and repo_fetch.c. Private to registry. */
#ifndef REGISTRY_REPO_INT_H
#define REGISTRY_REPO_INT_H

#include "base/http_client.h"
#include "registry/repo.h"

/* What a status that is no success means for this repository. */
int repo_refused(const struct repo_server *server, const char *id, const char *revision, int status,
                 struct err *err) MUST_CHECK;
/* Whether a failure may pass by itself: a lost or refused connection, or such a status. */
bool repo_may_pass(int rc, int status);
/* Waits before try number `tries` (from 1), or as long as the server asks. on_wait may end it. */
int repo_wait(const struct repo_server *server, int tries, const struct http_response *response,
              struct err *err) MUST_CHECK;
/* Percent-encodes a path, its slashes kept. */
int repo_escape_path(const char *path, char *out, size_t out_bytes, struct err *err) MUST_CHECK;

#endif
