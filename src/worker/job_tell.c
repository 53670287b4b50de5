/* What the trainer tells goes back as heartbeats, progress, series and lines of the job's log.
 *
 * Invariants
 *   1. Every write names the fence. Once one is refused the job is another's: training stops and
 *      nothing is published.
 *   2. A report goes out at least every REPORT_NS while training polls, and a heartbeat every
 *      PULSE_MS while it computes (pulse.h), so silence means death.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "registry/jobs.h"
#include "worker/job_int.h"

#define REPORT_NS 1000000000LL

void job_report(struct job_run *run)
{
    struct err err = {0};
    bool cancel = false;
    const int rc = registry_job_report(run->registry, run->row->id, run->row->fence, &run->progress,
                                       run->metrics, run->n_metrics, &cancel, &err);
    run->reported_ns = clock_monotonic_ns();
    if (rc == 0) {
        run->n_metrics = 0;
        if (cancel) {
            run->cancel = true;
        }
    } else if (rc == -ERR_CONFLICT || rc == -ERR_NOT_FOUND) {
        run->lost = true;
    } else {
        log_event(LOG_WARNING, "worker", "report_failed", "job=%s error=\"%s\"", run->row->id,
                  err.message);
        if (run->n_metrics == JOB_METRICS_PENDING_MAX) {
            run->n_metrics = 0; /* the next steps matter more than a gap in a curve */
        }
    }
}

void job_beat(void *ctx)
{
    struct job_run *run = ctx;
    struct err err = {0};
    bool cancel = false;
    const int rc = registry_job_report(run->registry, run->row->id, run->row->fence, NULL, NULL, 0,
                                       &cancel, &err);
    if (rc == -ERR_CONFLICT || rc == -ERR_NOT_FOUND) {
        run->lost = true;
    } else if (rc != 0) {
        log_event(LOG_WARNING, "worker", "heartbeat_failed", "job=%s error=\"%s\"", run->row->id,
                  err.message);
    } else if (cancel) {
        run->cancel = true;
    }
}

static void add_metric(struct job_run *run, const char *name, int64_t step, double value)
{
    if (!isfinite(value)) {
        return;
    }
    if (run->n_metrics == JOB_METRICS_PENDING_MAX) {
        job_report(run);
    }
    if (run->n_metrics < JOB_METRICS_PENDING_MAX) {
        const size_t i = run->n_metrics++;
        clock_format_iso(clock_wall_us(), run->wall[i]);
        const struct metric_row row = {name, step, value, run->wall[i]};
        run->metrics[i] = row;
    }
}

void job_note(void *ctx, const char *line)
{
    struct job_run *run = ctx;
    char now[CLOCK_ISO_BYTES];
    clock_format_iso(clock_wall_us(), now);
    if (run->log != NULL) {
        fprintf(run->log, "%s %s\n", now, line);
        fflush(run->log);
    }
}

static void on_progress(void *ctx, const struct train_progress *p, bool log)
{
    struct job_run *run = ctx;
    const struct job_progress progress = {.step = p->step,
                                          .steps = p->steps,
                                          .epoch = p->epoch,
                                          .loss = p->loss,
                                          .val_loss = p->val_loss,
                                          .learning_rate = p->learning_rate,
                                          .tokens_per_second = p->tokens_per_second,
                                          .memory_bytes = (int64_t)p->memory_bytes,
                                          .eta_seconds = p->eta_seconds,
                                          .bytes_per_second = (double)NAN};
    run->progress = progress;
    add_metric(run, "loss", p->step, p->loss);
    add_metric(run, "grad_norm", p->step, p->grad_norm);
    if (p->step > 0) {
        add_metric(run, "learning_rate", p->step, p->learning_rate);
    }
    if (p->validated) {
        add_metric(run, "val_loss", p->step, p->val_loss);
    }
    if (log && p->step == 0) { /* what the model knew before: the note says it */
        job_report(run);
    } else if (log) {
        char line[256];
        snprintf(line, sizeof line,
                 "step %lld/%lld loss %.4f lr %.3g grad_norm %.3g tokens/s %.0f memory %.0f MB",
                 (long long)p->step, (long long)p->steps, p->loss, p->learning_rate, p->grad_norm,
                 p->tokens_per_second, (double)p->memory_bytes / 1e6);
        job_note(run, line);
        add_metric(run, "tokens_per_second", p->step, p->tokens_per_second);
        add_metric(run, "memory_bytes", p->step, (double)p->memory_bytes);
        job_report(run);
    }
}

static void on_checkpoint(void *ctx, int64_t step)
{
    struct job_run *run = ctx;
    struct err err = {0};
    const int rc =
        registry_job_checkpoint(run->registry, run->row->id, run->row->fence, step, &err);
    if (rc == -ERR_CONFLICT) {
        run->lost = true;
    }
    if (rc != 0) {
        log_event(LOG_WARNING, "worker", "checkpoint_unrecorded", "job=%s error=\"%s\"",
                  run->row->id, err.message);
    }
}

static enum train_stop on_poll(void *ctx)
{
    struct job_run *run = ctx;
    pulse_polled(&run->pulse);
    if (clock_monotonic_ns() - run->reported_ns >= REPORT_NS) {
        job_report(run);
    }
    if (run->lost || run->cancel) {
        return run->lost ? TRAIN_ABANDON : TRAIN_CANCEL;
    }
    return atomic_load(run->stop) ? TRAIN_CHECKPOINT_AND_STOP : TRAIN_GO_ON;
}

struct train_hooks job_hooks(struct job_run *run)
{
    return (struct train_hooks){.ctx = run,
                                .progress = on_progress,
                                .checkpoint = on_checkpoint,
                                .note = job_note,
                                .poll = on_poll};
}
