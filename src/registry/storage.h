/* Where things lie under STORAGE_BASE_PATH.
 *
 *   blobs/sha256/<hex>                     a base model's file, or a folder of its files
 *   cache/<name>                           may be deleted at any time
 *   checkpoints/<job>/                     of a job, until one of it and its resumes is completed,
 *                                          or all have ended CHECKPOINT_DAYS ago
 *   artifacts/<experiment>/<run>/          logs of jobs: jobs/<job>/; exports: exports/<job>/
 *   datasets/                              or STORAGE_DATASETS_PATH
 *   models/<folder>/versions/<version>/    or under STORAGE_MODELS_PATH; published by one rename
 *
 * Plain paths, absolute, no state: read-only after storage_init and free for any thread. A worker
 * or runner that has no database uses the same functions.
 */
#ifndef REGISTRY_STORAGE_H
#define REGISTRY_STORAGE_H

#include "base/err.h"
#include "base/fs.h"

struct storage {
    char base[FS_PATH_BYTES_MAX];
    char models[FS_PATH_BYTES_MAX];
    char datasets[FS_PATH_BYTES_MAX];
};

/* Makes every folder. models and datasets may be NULL or "": then they lie under base. */
int storage_init(struct storage *storage, const char *base, const char *models,
                 const char *datasets, struct err *err) MUST_CHECK;

int storage_blobs(const struct storage *storage, char out[FS_PATH_BYTES_MAX],
                  struct err *err) MUST_CHECK;
int storage_blob(const struct storage *storage, const char *sha256, char out[FS_PATH_BYTES_MAX],
                 struct err *err) MUST_CHECK;
int storage_cache(const struct storage *storage, const char *name, char out[FS_PATH_BYTES_MAX],
                  struct err *err) MUST_CHECK;
int storage_checkpoints(const struct storage *storage, const char *job_id,
                        char out[FS_PATH_BYTES_MAX], struct err *err) MUST_CHECK;
int storage_artifacts(const struct storage *storage, const char *experiment, const char *run,
                      char out[FS_PATH_BYTES_MAX], struct err *err) MUST_CHECK;
int storage_model(const struct storage *storage, const char *folder, char out[FS_PATH_BYTES_MAX],
                  struct err *err) MUST_CHECK;
int storage_version(const struct storage *storage, const char *folder, const char *version,
                    char out[FS_PATH_BYTES_MAX], struct err *err) MUST_CHECK;

/* Removes what an interrupted import left in blobs/ (every name that is not 64 hex digits, save
 * what a living process takes in) and what requests left in cache/. Only at the start of serve,
 * under the folder's lock. */
int storage_sweep(const struct storage *storage, struct err *err) MUST_CHECK;

/* --- what is being made, and is not there yet ---
 *   blobs/sha256/incoming-<pid>-…           an import's, in that process
 *   cache/[.]{import,adapter,sent}-…        a request's, in serve; a sent file waits for its create
 *   cache/[.]{quantize,pulled}-<job>…       a job's: nothing but the job finds it
 *   artifacts/exports/.<job>.writing        a job's */
int storage_incoming(const struct storage *storage, char out[FS_PATH_BYTES_MAX],
                     struct err *err) MUST_CHECK; /* a new name, of this process */
int storage_quantising(const struct storage *storage, const char *job_id,
                       char out[FS_PATH_BYTES_MAX], struct err *err) MUST_CHECK;
/* Removes what a process that is gone was taking in, and what a job that will not go on was making.
 * What cannot be removed is logged. */
void storage_sweep_process(const struct storage *storage, int64_t pid);
void storage_sweep_job(const struct storage *storage, const char *job_id);

#endif
