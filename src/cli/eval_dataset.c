/* Each version is a job of the hub's, weights without one are measured here, one after the other;
 * their results are printed together. */
#include "cli/eval_dataset.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/eval_bare.h"
#include "cli/follow.h"
#include "cli/lookup.h"
#include "cli/print.h"

enum { VERSIONS_MAX = 2, PATH_BYTES = 256, LABEL_BYTES = 64 };

/* --- a job about a version ----------------------------------------------------------------------
 */

/* The evaluation that the job added. */
static const json_t *evaluation_of(const json_t *job)
{
    const json_t *list = json_object_get(json_object_get(job, "version"), "evaluations");
    size_t i;
    const json_t *one;
    json_array_foreach(list, i, one)
    {
        if (strcmp(row_text(one, "job_id"), row_text(job, "id")) == 0) {
            return one;
        }
    }
    return NULL;
}

static int finish_task(struct hub *hub, const char *id, bool quiet, json_t **result,
                       struct err *err)
{
    json_t *job = NULL;
    int rc = follow_job(hub, id, quiet, &job, err);
    if (rc == 0 && strcmp(row_text(job, "status"), "completed") != 0) {
        const char *why = row_text(job, "error_message");
        rc = err_set(err, ERR_INVALID, "job %.8s %s%s%s", id, row_text(job, "status"),
                     why[0] != '\0' ? ": " : "", why);
    }
    if (rc == 0) {
        const json_t *found = evaluation_of(job);
        *result = found != NULL ? json_deep_copy(found) : NULL;
        rc = *result != NULL ? 0 : err_set(err, ERR_INTERNAL, "job %s left no result", id);
    }
    json_decref(job);
    return rc;
}

int version_task(struct hub *hub, const char *version, const char *what, const json_t *body,
                 bool quiet, json_t **result, struct err *err)
{
    char path[PATH_BYTES];
    json_t *model = NULL, *row = NULL, *job = NULL;
    *result = NULL;
    int rc = lookup_latest(&hub->remote, version, &model, &row, err);
    if (rc == 0) {
        snprintf(path, sizeof path, "/models/%s/versions/%s/%s", row_text(model, "id"),
                 row_text(row, "id"), what);
        rc = remote_call(&hub->remote, "POST", path, body, &job, err);
    }
    if (rc == 0) {
        rc = finish_task(hub, row_text(job, "id"), quiet, result, err);
    }
    json_decref(job);
    json_decref(row);
    json_decref(model);
    return rc;
}

/* --- printing -----------------------------------------------------------------------------------
 */

static void print_numbers(const char *const *names, json_t *const *results, int n)
{
    static const struct {
        const char *key, *label;
    } numbers[] = {{"loss", "loss"}, {"perplexity", "perplexity"}, {"exact_match", "exact match"}};
    static const char *const headings[] = {"", "VERSION", "AGAINST", "DIFFERENCE"};
    const char *columns[4];
    struct table t;
    memcpy(columns, headings, sizeof columns);
    for (int i = 0; i < n; i++) {
        columns[1 + i] = names[i];
    }
    table_init(&t, columns, n == 1 ? 2 : 4);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        double value[VERSIONS_MAX] = {NAN, NAN};
        table_cell(&t, numbers[i].label);
        for (int v = 0; v < n; v++) {
            value[v] = row_real(results[v], numbers[i].key, (double)NAN);
            table_cellf(&t, "%.5f", value[v]);
        }
        if (n == VERSIONS_MAX) {
            table_cellf(&t, "%+.5f", value[0] - value[1]);
        }
    }
    table_print(&t);
}

static void print_line(const char *label, const char *text)
{
    printf("  %-12s ", label);
    print_inline(text);
    putchar('\n');
}

/* NULL when the row is not among the result's samples: its limits left it nothing to answer. */
static const json_t *sample_of(const json_t *result, int64_t row)
{
    size_t i;
    const json_t *sample;
    json_array_foreach(json_object_get(result, "samples"), i, sample)
    {
        if (row_int(sample, "row") == row) {
            return sample;
        }
    }
    return NULL;
}

static void print_samples(const char *const *names, json_t *const *results, int n)
{
    size_t i;
    const json_t *sample;
    json_array_foreach(json_object_get(results[0], "samples"), i, sample)
    {
        const int64_t row = row_int(sample, "row");
        printf("\nrow %lld\n", (long long)row);
        print_line("prompt", row_text(sample, "prompt"));
        print_line("expected", row_text(sample, "expected"));
        for (int v = 0; v < n; v++) {
            const json_t *mine = sample_of(results[v], row);
            char label[LABEL_BYTES];
            if (mine == NULL) {
                continue;
            }
            snprintf(label, sizeof label, "%.40s%s", names[v],
                     json_is_true(json_object_get(mine, "match")) ? " =" : "");
            print_line(label, row_text(mine, "answer"));
        }
    }
}

static void print_results(const char *const *names, json_t *const *results, int n)
{
    printf("%lld rows, %lld tokens predicted, dataset %s\n", (long long)row_int(results[0], "rows"),
           (long long)row_int(results[0], "targets"), row_text(results[0], "dataset_name"));
    if (n == VERSIONS_MAX && row_int(results[0], "targets") != row_int(results[1], "targets")) {
        printf("of %s's %lld: rows are cut or tokenised differently, so loss and perplexity do not "
               "compare\n",
               names[1], (long long)row_int(results[1], "targets"));
    }
    print_numbers(names, results, n);
    print_samples(names, results, n);
}

static int print_all(const struct args *args, const char *const *names, json_t *const *results,
                     int n, struct err *err)
{
    if (!args->json) {
        print_results(names, results, n);
        return EXIT_DONE;
    }
    if (n == 1) {
        return print_tree(results[0], err);
    }
    json_t *both = json_pack("{s:O, s:O}", "version", results[0], "against", results[1]);
    if (both == NULL) {
        (void)err_set(err, ERR_NOMEM, "out of memory");
        return EXIT_FAILED;
    }
    const int status = print_tree(both, err);
    json_decref(both);
    return status;
}

/* --- the command --------------------------------------------------------------------------------
 */

/* Whether there is something to measure. */
static int check_version(struct remote *r, const char *name, struct err *err)
{
    json_t *row = NULL;
    int rc = lookup_latest(r, name, NULL, &row, err);
    const char *status = row_text(row, "status");
    if (rc == 0 && strcmp(status, "ready") != 0 && strcmp(status, "archived") != 0) {
        rc = err_set(err, ERR_CONFLICT, "Version %s is %s", row_text(row, "version"), status);
    }
    json_decref(row);
    return rc;
}

/* What two versions are compared on: rows cut where the shorter of them was trained, and answers
 * alone unless both were trained on prompts, too. */
struct common {
    struct eval_limits limits[VERSIONS_MAX], of_both;
    bool known[VERSIONS_MAX], differ;
};

static int find_common(struct common *common, const struct settings *settings,
                       const char *const *names, int n, struct err *err)
{
    const struct eval_limits *one = &common->limits[0], *other = &common->limits[1];
    memset(common, 0, sizeof *common);
    for (int i = 0; i < n; i++) {
        const int rc =
            eval_limits_read(settings, names[i], &common->limits[i], &common->known[i], err);
        if (rc != 0) {
            return rc;
        }
    }
    common->of_both = common->known[0] ? *one : *other;
    if (common->known[0] && common->known[1]) {
        common->of_both.max_seq_length = one->max_seq_length < other->max_seq_length
                                             ? one->max_seq_length
                                             : other->max_seq_length;
        common->of_both.mask_prompt = one->mask_prompt || other->mask_prompt;
        common->differ =
            one->max_seq_length != other->max_seq_length || one->mask_prompt != other->mask_prompt;
    }
    return 0;
}

static void print_common(const struct common *common, const char *const *names)
{
    const struct eval_limits *one = &common->limits[0], *other = &common->limits[1];
    if (one->max_seq_length != other->max_seq_length) {
        printf("both on rows cut to %lld tokens: %s was trained on %lld, %s on %lld\n",
               (long long)common->of_both.max_seq_length, names[0], (long long)one->max_seq_length,
               names[1], (long long)other->max_seq_length);
    }
    if (one->mask_prompt != other->mask_prompt) {
        printf("both on answers alone: %s was trained on prompts, too\n",
               names[one->mask_prompt ? 1 : 0]);
    }
}

static json_t *body_of(const json_t *dataset, const struct common *common)
{
    const char *id = row_text(dataset, "id");
    return common->differ ? json_pack("{s:s, s:I, s:b}", "dataset_id", id, "max_seq_length",
                                      (json_int_t)common->of_both.max_seq_length, "mask_prompt",
                                      common->of_both.mask_prompt)
                          : json_pack("{s:s}", "dataset_id", id);
}

int eval_dataset_run(const struct args *args, struct err *err)
{
    const char *against = args_get(args, "against");
    const char *const names[VERSIONS_MAX] = {args->positional[0], against};
    const int n = against != NULL ? 2 : 1;
    struct hub hub = {0};
    struct common common;
    json_t *dataset = NULL, *body = NULL;
    json_t *results[VERSIONS_MAX] = {NULL, NULL};
    bool bare[VERSIONS_MAX] = {false, false};
    int status = EXIT_FAILED;
    int rc = hub_open(&hub, args, true, err);
    rc = rc == 0 ? lookup_dataset(&hub.remote, args_get(args, "dataset"), &dataset, err) : rc;
    for (int i = 0; i < n && rc == 0; i++) { /* a typo is told before anything is measured */
        bare[i] = eval_is_bare(&args->settings, names[i]);
        rc = bare[i] ? 0 : check_version(&hub.remote, names[i], err);
    }
    rc = rc == 0 ? find_common(&common, &args->settings, names, n, err) : rc;
    if (rc == 0) {
        body = body_of(dataset, &common);
        rc = body != NULL ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    }
    for (int i = 0; i < n && rc == 0; i++) {
        rc = bare[i] ? eval_bare(&hub, &args->settings, names[i],
                                 common.known[0] || common.known[1] ? &common.of_both : NULL,
                                 dataset, args->json, &results[i], err)
                     : version_task(&hub, names[i], "evaluate", body, args->json, &results[i], err);
    }
    if (rc == 0 && common.differ && !args->json) {
        print_common(&common, names);
    }
    if (rc == 0) {
        status = print_all(args, names, results, n, err);
    }
    hub_close(&hub);
    json_decref(results[0]);
    json_decref(results[1]);
    json_decref(body);
    json_decref(dataset);
    return status;
}
