/* mlx-hub job: training jobs, queued, running and done. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/hub.h"
#include "cli/lookup.h"
#include "cli/plot.h"
#include "cli/print.h"

enum { PATH_BYTES = 512, WHY_BYTES = 110, CONFIG_BYTES_MAX = 1 << 20 };

static const struct option_info options[] = {
    {"status", "STATUS", "only queued, running, completed, failed or cancelled ones"},
    {"model", "MODEL", "only those of this model"},
    {"name", "SERIES",
     "loss (default), val_loss, learning_rate, grad_norm, tokens_per_second, memory_bytes"},
};

/* --- what is shown ------------------------------------------------------------------------------
 */

/* The first sentence's worth, cut between characters. */
static int why_bytes(const char *why)
{
    const size_t n = strlen(why);
    return (int)(n > WHY_BYTES ? utf8_complete_prefix(why, WHY_BYTES) : n);
}

static void print_jobs(const json_t *rows)
{
    static const char *const headings[] = {"JOB",  "KIND",    "STATUS", "STEP",
                                           "LOSS", "CREATED", "WHY"};
    struct table t;
    size_t i;
    const json_t *row;
    table_init(&t, headings, 7);
    json_array_foreach(rows, i, row)
    {
        const json_t *p = json_object_get(row, "progress");
        const char *why = row_text(row, "error_message");
        table_cellf(&t, "%.8s", row_text(row, "id"));
        table_cell(&t, row_text(row, "kind"));
        table_cell(&t, row_text(row, "status"));
        table_cellf(&t, "%lld/%lld", (long long)row_int(p, "step"), (long long)row_int(p, "steps"));
        if (json_is_number(json_object_get(p, "loss"))) {
            table_cellf(&t, "%.4f", row_real(p, "loss", 0.0));
        } else {
            table_cell(&t, NULL);
        }
        table_cell(&t, row_text(row, "created_at"));
        why = why[0] != '\0' ? why : row_text(row, "waiting_for");
        if (why[0] != '\0') {
            table_cellf(&t, "%.*s", why_bytes(why), why);
        } else {
            table_cell(&t, NULL);
        }
    }
    table_print(&t);
}

static void print_line(const json_t *row, const char *label, const char *key)
{
    if (row_text(row, key)[0] != '\0') {
        printf("%-14s%s\n", label, row_text(row, key));
    }
}

/* How fast it goes, what it holds and how long it will take, while it runs. */
static void print_rates(const json_t *job, const json_t *progress)
{
    char text[32];
    if (strcmp(row_text(job, "status"), "running") != 0) {
        return;
    }
    if (row_real(progress, "learning_rate", 0.0) > 0.0) {
        printf("%-14s%.3e\n", "learning rate", row_real(progress, "learning_rate", 0.0));
    }
    if (row_real(progress, "tokens_per_second", 0.0) > 0.0) {
        printf("%-14s%.0f\n", "tokens/s", row_real(progress, "tokens_per_second", 0.0));
    }
    if (row_real(progress, "memory_bytes", 0.0) > 0.0) {
        format_bytes(row_real(progress, "memory_bytes", 0.0), text);
        printf("%-14s%s\n", "memory", text);
    }
    if (row_real(progress, "eta_seconds", -1.0) >= 0.0) {
        format_seconds(row_real(progress, "eta_seconds", 0.0), text);
        printf("%-14s%s\n", "ETA", text);
    }
}

static void print_job(const json_t *job)
{
    const json_t *p = json_object_get(job, "progress");
    struct buf config;
    struct json_out out;
    buf_init(&config, CONFIG_BYTES_MAX);
    json_out_init(&out, &config);
    json_out_tree(&out, json_object_get(job, "config"));
    print_line(job, "id", "id");
    print_line(job, "kind", "kind");
    print_line(job, "status", "status");
    print_line(job, "error", "error_message");
    print_line(job, "waiting for", "waiting_for");
    print_line(job, "model", "model_id");
    print_line(job, "dataset", "dataset_id");
    print_line(job, "version", "model_version_id");
    print_line(job, "resumed from", "resumed_from");
    print_line(job, "created", "created_at");
    print_line(job, "started", "started_at");
    print_line(job, "completed", "completed_at");
    printf("%-14s%lld of %lld\n", "step", (long long)row_int(p, "step"),
           (long long)row_int(p, "steps"));
    if (json_is_number(json_object_get(p, "loss"))) {
        printf("%-14s%.4f\n", "loss", row_real(p, "loss", NAN));
    }
    if (json_is_number(json_object_get(p, "val_loss"))) {
        printf("%-14s%.4f\n", "val loss", row_real(p, "val_loss", NAN));
    }
    print_rates(job, p);
    printf("%-14s%s\n", "config", config.data != NULL ? config.data : "");
    buf_release(&config);
}

static int show(const struct args *args, const json_t *answer, void (*print)(const json_t *),
                struct err *err)
{
    if (args->json) {
        return print_tree(answer, err);
    }
    print(answer);
    return EXIT_DONE;
}

/* --- actions ------------------------------------------------------------------------------------
 */

static int run_list(const struct args *args, struct err *err)
{
    char path[PATH_BYTES] = "/training/jobs";
    struct hub hub = {0};
    json_t *model = NULL;
    json_t *rows = NULL;
    const char *status = args_get(args, "status");
    char escaped[64] = "";
    int rc = hub_open(&hub, args, false, err);
    if (rc == 0 && args_get(args, "model") != NULL) {
        rc = lookup_model(&hub.remote, args_get(args, "model"), &model, err);
    }
    if (rc == 0 && status != NULL) {
        rc = http_escape(status, escaped, sizeof escaped, err);
    }
    snprintf(path, sizeof path, "/training/jobs%s%s%s%s%s", status != NULL ? "?status=" : "",
             escaped,
             model == NULL    ? ""
             : status != NULL ? "&"
                              : "?",
             model != NULL ? "model_id=" : "", row_text(model, "id"));
    rc = rc == 0 ? remote_list(&hub.remote, path, &rows, err) : rc;
    const int result = rc == 0 ? show(args, rows, print_jobs, err) : EXIT_FAILED;
    hub_close(&hub);
    json_decref(model);
    json_decref(rows);
    return result;
}

/* Finds the job that the first argument names; with `part`, calls its route of that name. */
static int call_job(const struct args *args, struct hub *hub, bool with_workers, const char *method,
                    const char *part, json_t **answer, struct err *err)
{
    char path[PATH_BYTES];
    int rc = hub_open(hub, args, with_workers, err);
    rc = rc == 0 ? lookup_job(&hub->remote, args->positional[0], answer, err) : rc;
    if (rc == 0 && part != NULL) {
        snprintf(path, sizeof path, "/training/jobs/%s/%s", row_text(*answer, "id"), part);
        json_decref(*answer);
        *answer = NULL;
        rc = remote_call(&hub->remote, method, path, NULL, answer, err);
    }
    return rc;
}

static int run_show(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *job = NULL;
    const int rc = call_job(args, &hub, false, "GET", NULL, &job, err);
    const int status = rc == 0 ? show(args, job, print_job, err) : EXIT_FAILED;
    hub_close(&hub);
    json_decref(job);
    return status;
}

static void print_cancelled(const json_t *job)
{
    const bool over = strcmp(row_text(job, "status"), "cancelled") == 0;
    printf("job %s %s\n", row_text(job, "id"),
           over                                          ? "is cancelled"
           : strcmp(row_text(job, "kind"), "train") == 0 ? "was asked to stop; it leaves a "
                                                           "checkpoint of the steps it has done"
                                                         : "was asked to stop");
    if (job_can_resume(job)) {
        printf("mlx-hub job resume %.8s goes on with it\n", row_text(job, "id"));
    }
}

static int run_cancel(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *job = NULL;
    const int rc = call_job(args, &hub, false, "POST", "cancel", &job, err);
    const int status = rc == 0 ? show(args, job, print_cancelled, err) : EXIT_FAILED;
    hub_close(&hub);
    json_decref(job);
    return status;
}

static void print_resumed(const json_t *job)
{
    printf("job %s is queued and goes on from %.8s; mlx-hub job follow %.8s\n", row_text(job, "id"),
           row_text(job, "resumed_from"), row_text(job, "id"));
}

static int run_resume(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *job = NULL;
    const int rc = call_job(args, &hub, false, "POST", "resume", &job, err);
    const int status = rc == 0 ? show(args, job, print_resumed, err) : EXIT_FAILED;
    hub_close(&hub);
    json_decref(job);
    return status;
}

static int run_follow(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *job = NULL;
    const int rc = call_job(args, &hub, true, "GET", NULL, &job, err);
    const int status =
        rc == 0 ? follow_and_report(args, &hub, row_text(job, "id"), err) : EXIT_FAILED;
    hub_close(&hub);
    json_decref(job);
    return status;
}

static int run_logs(const struct args *args, struct err *err)
{
    char path[PATH_BYTES];
    struct hub hub = {0};
    json_t *job = NULL;
    struct buf text;
    int status = EXIT_FAILED;
    buf_init(&text, PRINT_BYTES_MAX);
    int rc = call_job(args, &hub, false, "GET", NULL, &job, err);
    if (rc == 0) {
        snprintf(path, sizeof path, "/training/jobs/%s/logs", row_text(job, "id"));
        rc = remote_text(&hub.remote, path, &text, err);
    }
    if (rc == 0 && args->json) {
        json_t *tree = json_object();
        (void)json_object_set_new(tree, "job_id", json_string(row_text(job, "id")));
        (void)json_object_set_new(tree, "log",
                                  json_stringn(text.data != NULL ? text.data : "", text.len));
        status = print_tree(tree, err);
        json_decref(tree);
    } else if (rc == 0) {
        fwrite(text.data != NULL ? text.data : "", 1, text.len, stdout);
        status = EXIT_DONE;
    }
    hub_close(&hub);
    buf_release(&text);
    json_decref(job);
    return status;
}

static int plot_series(const char *name, const json_t *points, struct err *err)
{
    const size_t n = json_array_size(points);
    double *xy = mem_calloc(2 * n + 2, sizeof *xy);
    if (xy == NULL) {
        return mem_err(err, n * sizeof *xy);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *point = json_array_get(points, i);
        xy[i] = (double)row_int(point, "step");
        xy[n + i] = row_real(point, "value", NAN);
    }
    plot(stdout, name, xy, xy + n, n);
    if (n > 0) {
        printf("%zu points; the last: %.6g at step %.0f\n", n, xy[2 * n - 1], xy[n - 1]);
    }
    mem_free(xy);
    return 0;
}

/* Appends the points of every series in `from`. */
static int join_series(json_t *to, const json_t *from, struct err *err)
{
    const char *name;
    json_t *points;
    json_object_foreach((json_t *)from, name, points)
    {
        json_t *have = json_object_get(to, name);
        const int rc =
            have != NULL ? json_array_extend(have, points) : json_object_set(to, name, points);
        if (rc != 0) {
            return err_set(err, ERR_NOMEM, "out of memory");
        }
    }
    return 0;
}

/* All of the job's series, which may come in several answers. */
static int fetch_series(struct remote *r, const char *id, json_t **answer, struct err *err)
{
    char path[PATH_BYTES];
    json_t *after = json_integer(-1);
    int rc = 0;
    *answer = NULL;
    while (rc == 0 && json_is_integer(after)) {
        json_t *part = NULL;
        snprintf(path, sizeof path, "/training/jobs/%s/metrics?after_step=%lld", id,
                 (long long)json_integer_value(after));
        rc = remote_call(r, "GET", path, NULL, &part, err);
        json_decref(after);
        after = json_incref(json_object_get(part, "next_after_step"));
        if (rc == 0 && *answer != NULL) {
            rc = join_series(json_object_get(*answer, "series"), json_object_get(part, "series"),
                             err);
        } else if (rc == 0) {
            *answer = json_incref(part);
        }
        json_decref(part);
    }
    json_decref(after);
    if (*answer != NULL) {
        (void)json_object_del(*answer, "next_after_step");
    }
    return rc;
}

/* The points of the series that --name asks for; NULL with the names that there are. */
static const json_t *choose_series(const struct args *args, const json_t *series, struct err *err)
{
    const char *name = args_get(args, "name"), *known;
    const json_t *points = json_object_get(series, name != NULL ? name : "loss");
    struct buf names;
    json_t *value;
    if (points != NULL || name == NULL) {
        return points;
    }
    buf_init(&names, ERR_MESSAGE_BYTES_MAX);
    json_object_foreach((json_t *)series, known, value)
    {
        buf_printf(&names, "%s%s", names.len > 0 ? ", " : "", known);
    }
    (void)err_set(err, ERR_NOT_FOUND, "the job has no series '%s'; it has: %s", name,
                  names.len > 0 ? names.data : "none yet");
    buf_release(&names);
    return NULL;
}

static int run_metrics(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *job = NULL;
    json_t *answer = NULL;
    int rc = call_job(args, &hub, false, "GET", NULL, &job, err);
    rc = rc == 0 ? fetch_series(&hub.remote, row_text(job, "id"), &answer, err) : rc;
    int status = EXIT_FAILED;
    if (rc == 0 && args->json) {
        status = print_tree(answer, err);
    } else if (rc == 0) {
        const json_t *points = choose_series(args, json_object_get(answer, "series"), err);
        const char *name = args_get(args, "name") != NULL ? args_get(args, "name") : "loss";
        rc = err->code == ERR_NONE ? plot_series(name, points, err) : -(int)err->code;
        status = rc == 0 ? EXIT_DONE : EXIT_FAILED;
    }
    hub_close(&hub);
    json_decref(answer);
    json_decref(job);
    return status;
}

static const struct action actions[] = {
    {"list", "[--status STATUS] [--model MODEL]", "jobs, newest first", "status model", 0, 0,
     run_list},
    {"show", "JOB", "everything about one", "", 1, 1, run_show},
    {"follow", "JOB", "watch it until it ends (it runs here when no server does)", "", 1, 1,
     run_follow},
    {"cancel", "JOB", "stop it; a run leaves a checkpoint for resume", "", 1, 1, run_cancel},
    {"resume", "JOB", "queue it again, from its last checkpoint", "", 1, 1, run_resume},
    {"logs", "JOB", "its log", "", 1, 1, run_logs},
    {"metrics", "JOB [--name SERIES]", "a curve; all series with --json", "name", 1, 1,
     run_metrics},
};

const struct command command_job = {
    .name = "job",
    .summary = "Look at training jobs, follow, cancel and resume them",
    .usage = "list|show|follow|cancel|resume|logs|metrics",
    .examples = "  mlx-hub job list --status running\n"
                "  mlx-hub job follow last        JOB: an id, the beginning of one, or last\n"
                "  mlx-hub job metrics 3f2a --name val_loss\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .actions = actions,
    .n_actions = sizeof actions / sizeof actions[0],
};
