/* Shared by claims.c and deaths.c. Private to registry. */
#ifndef REGISTRY_CLAIMS_INT_H
#define REGISTRY_CLAIMS_INT_H

#include "registry/claims.h"

/* 0 when a change touched a row, else ERR_CONFLICT: the worker does not hold the job. */
int claims_held(int64_t changed, const char *id, struct err *err) MUST_CHECK;
/* The name of this machine; "" when it has none. */
void claims_host(char host[256]);
/* The version of a job that will not finish. */
int claims_fail_version(struct db *db, const struct job_row *job, struct arena *arena,
                        struct err *err) MUST_CHECK;
/* Ends a running job under its fence, and its version when it did not complete. */
int claims_finish(struct db *db, const struct job_row *job, enum job_status status,
                  const char *message, const char *result, struct arena *arena,
                  struct err *err) MUST_CHECK;

#endif
