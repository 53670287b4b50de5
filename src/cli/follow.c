/* The stream tells every change; should it break off, the row is asked for, and unless the job is
 * over a new stream goes on. */
#include "cli/follow.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/interrupt.h"
#include "cli/lookup.h"
#include "cli/print.h"

enum {
    PATH_BYTES = 256,
    STATUS_BYTES = 16,
    LINE_BYTES = PROGRESS_LINE_BYTES,
    WAITING_BYTES = 256,
    AGAIN_MS = 500,
    AGAIN_MAX = 20 /* streams in a row that told nothing */
};

struct follower {
    struct progress bar;
    bool quiet;
    bool told; /* something came since the last stream was opened */
    char status[STATUS_BYTES];
    char waiting[WAITING_BYTES]; /* for what, as last shown */
};

static bool is_final(const char *status)
{
    return strcmp(status, "completed") == 0 || strcmp(status, "failed") == 0 ||
           strcmp(status, "cancelled") == 0;
}

/* A pull counts bytes. */
static void show_bytes(struct follower *f, const json_t *p)
{
    char text[LINE_BYTES], came[32], all[32], rate[32], eta[32];
    const double step = (double)row_int(p, "step");
    const double steps = (double)row_int(p, "steps");
    if (steps <= 0.0) {
        return;
    }
    format_bytes(step, came);
    format_bytes(steps, all);
    format_bytes(row_real(p, "bytes_per_second", 0.0), rate);
    int n = snprintf(text, sizeof text, "%s of %s", came, all);
    if (row_real(p, "bytes_per_second", 0.0) > 0.0) {
        n += snprintf(text + n, sizeof text - (size_t)n, "  %s/s", rate);
    }
    if (step < steps && row_real(p, "eta_seconds", -1.0) >= 0.0) {
        format_seconds(row_real(p, "eta_seconds", 0.0), eta);
        snprintf(text + n, sizeof text - (size_t)n, "  ETA %s", eta);
    }
    progress_show(&f->bar, step / steps, text);
}

static void show_step(struct follower *f, const json_t *p)
{
    char text[LINE_BYTES];
    char eta[32], memory[32];
    const double step = (double)row_int(p, "step");
    const double steps = (double)row_int(p, "steps");
    const double loss = row_real(p, "loss", NAN);
    const double val = row_real(p, "val_loss", NAN);
    if (json_is_number(json_object_get(p, "bytes_per_second"))) {
        show_bytes(f, p);
        return;
    }
    if (steps > 0.0 && isnan(loss)) { /* a job that writes weights counts megabytes */
        snprintf(text, sizeof text, "%.0f of %.0f MB", step, steps);
        progress_show(&f->bar, step / steps, text);
    }
    if (steps <= 0.0 || isnan(loss)) {
        return;
    }
    format_seconds(row_real(p, "eta_seconds", -1.0), eta);
    int n = snprintf(text, sizeof text, "step %.0f/%.0f  loss %.4f", step, steps, loss);
    if (isfinite(val)) {
        n += snprintf(text + n, sizeof text - (size_t)n, "  val %.4f", val);
    }
    if (row_real(p, "learning_rate", 0.0) > 0.0) { /* an evaluation learns nothing */
        n += snprintf(text + n, sizeof text - (size_t)n, "  lr %.2e",
                      row_real(p, "learning_rate", 0.0));
    }
    format_bytes(row_real(p, "memory_bytes", 0.0), memory);
    snprintf(text + n, sizeof text - (size_t)n, "  %.0f tokens/s  %s  ETA %s",
             row_real(p, "tokens_per_second", 0.0), memory, eta);
    progress_show(&f->bar, step / steps, text);
}

static void show_status(struct follower *f, const json_t *data)
{
    const char *status = row_text(data, "status");
    const char *waiting = row_text(data, "waiting_for");
    const bool same = strcmp(status, f->status) == 0;
    if (same && strncmp(waiting, f->waiting, sizeof f->waiting - 1) == 0) {
        return;
    }
    snprintf(f->status, sizeof f->status, "%s", status);
    snprintf(f->waiting, sizeof f->waiting, "%s", waiting);
    if (!f->quiet && !(same && waiting[0] == '\0')) { /* its turn comes: no news for a person */
        progress_end(&f->bar);
        fprintf(stderr, "%s%s%s\n", status, waiting[0] != '\0' ? ", waiting for " : "", waiting);
    }
}

static int on_event(void *ctx, const char *event, const json_t *data, struct err *err)
{
    struct follower *f = ctx;
    (void)err;
    f->told = true;
    if (strcmp(event, "status") == 0) {
        show_status(f, data);
    } else if (strcmp(event, "step") == 0 && !f->quiet) {
        show_step(f, data);
    }
    return 0;
}

/* Sets "version" to the row of the version that the job made. */
static int add_version(struct remote *r, json_t *job, struct err *err)
{
    char path[PATH_BYTES];
    json_t *version = NULL;
    int rc = 0;
    if (strcmp(row_text(job, "status"), "completed") == 0 &&
        row_text(job, "model_version_id")[0] != '\0') {
        snprintf(path, sizeof path, "/models/%s/versions/%s", row_text(job, "model_id"),
                 row_text(job, "model_version_id"));
        rc = remote_call(r, "GET", path, NULL, &version, err);
    }
    if (rc == 0 && json_object_set_new(job, "version",
                                       version != NULL ? json_incref(version) : json_null()) != 0) {
        rc = err_set(err, ERR_NOMEM, "out of memory");
    }
    json_decref(version);
    return rc;
}

int follow_job(struct hub *hub, const char *id, bool quiet, json_t **job, struct err *err)
{
    struct follower f = {.quiet = quiet};
    char events[PATH_BYTES];
    char row[PATH_BYTES];
    int rc = 0;
    int silent = 0;
    *job = NULL;
    progress_init(&f.bar);
    snprintf(events, sizeof events, "/training/jobs/%s/events", id);
    snprintf(row, sizeof row, "/training/jobs/%s", id);
    while (rc == 0 && silent < AGAIN_MAX) {
        struct err broken = {0};
        f.told = false;
        if (remote_stream(&hub->remote, events, NULL, on_event, &f, &broken) == -ERR_CANCELLED) {
            rc = err_set(err, ERR_CANCELLED, "interrupted");
            break;
        }
        json_decref(*job);
        rc = remote_call(&hub->remote, "GET", row, NULL, job, err);
        if (rc != 0 || is_final(row_text(*job, "status"))) {
            break;
        }
        silent = f.told && broken.code == ERR_NONE ? 0 : silent + 1;
        clock_sleep_ms(AGAIN_MS);
    }
    progress_end(&f.bar);
    if (rc == 0 && !is_final(row_text(*job, "status"))) {
        rc = err_set(err, ERR_UNAVAILABLE, "the hub tells nothing about the job any more");
    }
    rc = rc == 0 ? add_version(&hub->remote, *job, err) : rc;
    if (rc != 0) {
        json_decref(*job);
        *job = NULL;
    }
    return rc;
}

int follow_or_cancel(struct hub *hub, const char *id, bool quiet, json_t **job, struct err *err)
{
    const int rc = follow_job(hub, id, quiet, job, err);
    if (rc == -ERR_CANCELLED) {
        char path[PATH_BYTES];
        interrupt_catch();
        snprintf(path, sizeof path, "/training/jobs/%s/cancel", id);
        (void)!remote_call(&hub->remote, "POST", path, NULL, NULL, NULL);
    }
    return rc;
}

/* --- the end ------------------------------------------------------------------------------------
 */

static void print_completed(struct remote *r, const json_t *job)
{
    char path[PATH_BYTES];
    json_t *model = NULL;
    const json_t *version = json_object_get(job, "version");
    const json_t *metrics = json_object_get(version, "metrics");
    char seconds[32];
    snprintf(path, sizeof path, "/models/%s", row_text(job, "model_id"));
    if (strcmp(row_text(job, "kind"), "train") != 0 || !json_is_object(version) ||
        remote_call(r, "GET", path, NULL, &model, NULL) != 0) {
        printf("job %s completed\n", row_text(job, "id"));
        return;
    }
    const char *name = row_text(model, "name");
    format_seconds(row_real(metrics, "seconds", -1.0), seconds);
    printf("published %s@%s after %lld steps in %s: loss %.4f → %.4f\n", name,
           row_text(version, "version"), (long long)row_int(metrics, "steps"), seconds,
           row_real(metrics, "first_loss", NAN), row_real(metrics, "final_loss", NAN));
    printf("folder    %s\nchecksum  %s\n", row_text(version, "artifact_path"),
           row_text(version, "checksum"));
    printf("next: mlx-hub chat \"%s\"\n", name);
    json_decref(model);
}

bool job_can_resume(const json_t *job)
{
    const char *kind = row_text(job, "kind");
    return strcmp(kind, "train") == 0 || strcmp(kind, "pull") == 0;
}

static int report(const struct args *args, struct hub *hub, const json_t *job, struct err *err)
{
    const char *status = row_text(job, "status");
    const bool completed = strcmp(status, "completed") == 0;
    if (args->json) {
        const int printed = print_tree(job, err);
        return completed ? printed : EXIT_FAILED;
    }
    if (completed) {
        print_completed(&hub->remote, job);
        return EXIT_DONE;
    }
    if (strcmp(status, "failed") == 0) {
        fprintf(stderr, "job %s failed: %s\nnext: mlx-hub job logs %.8s\n", row_text(job, "id"),
                row_text(job, "error_message"), row_text(job, "id"));
    } else if (job_can_resume(job)) {
        fprintf(stderr, "job %s was cancelled; mlx-hub job resume %.8s goes on with it\n",
                row_text(job, "id"), row_text(job, "id"));
    } else {
        fprintf(stderr, "job %s was cancelled\n", row_text(job, "id"));
    }
    return EXIT_FAILED;
}

int follow_and_report(const struct args *args, struct hub *hub, const char *id, struct err *err)
{
    json_t *job = NULL;
    const int rc = follow_job(hub, id, args->json, &job, err);
    if (rc == 0) {
        const int status = report(args, hub, job, err);
        json_decref(job);
        return status;
    }
    if (rc == -ERR_CANCELLED && interrupted()) {
        err_clear(err);
        fprintf(stderr,
                hub_is_remote(hub)
                    ? "\nthe job goes on in the server: mlx-hub job follow %.8s, or job cancel\n"
                    : "\nthe job is put back with its last checkpoint: mlx-hub job follow %.8s "
                      "goes on with it, job cancel ends it\n",
                id);
        return EXIT_INTERRUPTED;
    }
    return EXIT_FAILED;
}
