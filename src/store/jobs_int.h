/* The columns of training_jobs in the order that job_row_read reads. Private to store. */
#ifndef STORE_JOBS_INT_H
#define STORE_JOBS_INT_H

#include "store/jobs.h"

#define JOB_COLUMNS                                                                                \
    "id, seq, kind, model_id, dataset_id, val_dataset_id, dataset_checksum, model_version_id, "    \
    "status, config, result, error_message, waiting_for, resumed_from, cancel_requested, fence, "  \
    "owner, boot_id, worker_host, worker_pid, checkpoint_step, resume_step, resumes, "             \
    "idle_resumes, step, steps, epoch, loss, val_loss, learning_rate, tokens_per_second, "         \
    "memory_bytes, eta_seconds, bytes_per_second, created_at, started_at, completed_at, "          \
    "heartbeat_at"

int job_row_read(struct db_stmt *stmt, struct arena *arena, void *row, struct err *err) MUST_CHECK;

#endif
