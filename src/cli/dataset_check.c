/* Without a model the rows are read and counted; with one a child makes tokens of them, and its
 * answer is printed: numbers, a histogram, and rows with their trained tokens marked. */
#include "cli/dataset_check.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/find_model.h"
#include "cli/lookup.h"
#include "cli/print.h"
#include "formats/dataset.h"
#include "train/check.h"

enum { BAR_COLUMNS = 50, ROW_MAX_ARG = 1 << 30 };

/* --- without a model ----------------------------------------------------------------------------
 */

static int print_report(const struct args *args, const struct dataset_report *report,
                        struct err *err)
{
    char bytes[32];
    if (!args->json) {
        format_bytes((double)report->bytes, bytes);
        printf("%lld rows are good (%lld chat, %lld completion, %lld text), %s, sha256 %s\n",
               (long long)report->rows, (long long)report->by_shape[DATASET_CHAT],
               (long long)report->by_shape[DATASET_COMPLETION],
               (long long)report->by_shape[DATASET_TEXT], bytes, report->sha256);
        return EXIT_DONE;
    }
    struct buf buf;
    struct json_out out;
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_int(&out, "rows", report->rows);
    for (int i = 0; i < 3; i++) {
        json_out_kv_int(&out, dataset_shape_name((enum dataset_shape)i), report->by_shape[i]);
    }
    json_out_kv_int(&out, "bytes", (int64_t)report->bytes);
    json_out_kv_string(&out, "sha256", report->sha256);
    json_out_object_end(&out);
    return print_json(&buf, err);
}

static int run_plain(const struct args *args, const json_t *columns, struct err *err)
{
    struct dataset_columns names;
    struct dataset_report report;
    int rc = dataset_columns_parse(&names, columns, err);
    if (rc == 0) {
        rc = dataset_check(args->positional[0], args->positional[0], &names, &report, err);
    }
    return rc == 0 ? print_report(args, &report, err) : EXIT_FAILED;
}

/* --- with a model -------------------------------------------------------------------------------
 */

static void print_histogram(const json_t *buckets)
{
    size_t i;
    const json_t *bucket;
    int64_t most = 1;
    json_array_foreach(buckets, i, bucket)
    {
        most = row_int(bucket, "rows") > most ? row_int(bucket, "rows") : most;
    }
    printf("tokens of a row\n");
    json_array_foreach(buckets, i, bucket)
    {
        const int64_t rows = row_int(bucket, "rows");
        const int64_t bar = (rows * BAR_COLUMNS + most - 1) / most;
        printf("%6lld-%-6lld |", (long long)row_int(bucket, "from"),
               (long long)row_int(bucket, "to"));
        for (int64_t c = 0; c < bar; c++) {
            putchar('#');
        }
        printf(" %lld\n", (long long)rows);
    }
}

/* Tokens apart by |, runs of trained ones in [[ ]] and, on a terminal, in green. */
static void print_sample(const json_t *sample)
{
    const bool colours = isatty(STDOUT_FILENO) != 0;
    bool trained = false;
    size_t i;
    const json_t *token;
    printf("row %lld (line %lld, %s): %lld tokens, %lld trained%s\n  ",
           (long long)row_int(sample, "row"), (long long)row_int(sample, "line"),
           row_text(sample, "shape"), (long long)row_int(sample, "n_tokens"),
           (long long)row_int(sample, "n_targets"),
           json_is_true(json_object_get(sample, "truncated")) ? ", cut" : "");
    json_array_foreach(json_object_get(sample, "tokens"), i, token)
    {
        const bool now = json_is_true(json_object_get(token, "trained"));
        if (now != trained) {
            fputs(now ? "[[" : "]]", stdout);
            fputs(!colours ? "" : now ? "\033[32m" : "\033[0m", stdout);
        } else if (i > 0) {
            putchar('|');
        }
        trained = now;
        print_inline(row_text(token, "text"));
    }
    fputs(trained ? (colours ? "\033[0m]]\n" : "]]\n") : "\n", stdout);
}

static void print_counts(const json_t *answer)
{
    const json_t *tokens = json_object_get(answer, "tokens");
    printf("rows        %lld (%lld chat, %lld completion, %lld text)\n",
           (long long)row_int(answer, "rows"), (long long)row_int(answer, "chat"),
           (long long)row_int(answer, "completion"), (long long)row_int(answer, "text"));
    printf("tokens      %lld, of a row: %lld to %lld, median %lld, 95%% at most %lld\n",
           (long long)row_int(tokens, "total"), (long long)row_int(tokens, "min"),
           (long long)row_int(tokens, "max"), (long long)row_int(tokens, "median"),
           (long long)row_int(tokens, "p95"));
    printf("trained     %lld tokens\n", (long long)row_int(answer, "targets"));
    printf("truncated   %lld rows at max_seq_length %lld\n",
           (long long)row_int(answer, "truncated"), (long long)row_int(answer, "max_seq_length"));
    printf("dropped     %lld rows with no trained token left\n",
           (long long)row_int(answer, "dropped"));
    printf("empty       %lld rows that teach nothing but to stop\n",
           (long long)row_int(answer, "empty"));
    printf("duplicates  %lld rows\n", (long long)row_int(answer, "duplicates"));
}

static void print_notes(const json_t *answer)
{
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(answer, "duplicate_of"), i, one)
    {
        printf("  line %lld is the same as line %lld\n", (long long)row_int(one, "line"),
               (long long)row_int(one, "first_line"));
    }
    if (!json_is_true(json_object_get(answer, "base_model_template"))) {
        printf("the model brings no chat template: a plain one is used\n");
    }
    if (row_int(answer, "last_turn_only") > 0) {
        printf("the chat template rewrites earlier turns: in %lld rows only the last answer is "
               "learnt; to learn another too, add a row that ends with it\n",
               (long long)row_int(answer, "last_turn_only"));
    }
    json_array_foreach(json_object_get(answer, "bad"), i, one)
    {
        printf("BAD  %s\n", json_string_value(one));
    }
    if (row_int(answer, "bad_rows") > (int64_t)i) {
        printf("BAD  and %lld more rows\n", (long long)(row_int(answer, "bad_rows") - (int64_t)i));
    }
}

static void print_answer(const json_t *answer, bool one_row)
{
    size_t i;
    const json_t *sample;
    if (!one_row) {
        print_counts(answer);
        print_histogram(json_object_get(answer, "histogram"));
    }
    json_array_foreach(json_object_get(answer, "samples"), i, sample)
    {
        print_sample(sample);
    }
    if (!one_row) {
        print_notes(answer);
    }
}

static int read_request(const struct args *args, struct check_request *request, struct err *err)
{
    struct train_config defaults;
    const char *mask = args_get(args, "mask-prompt");
    long row = 0, length = 0;
    train_config_defaults(&defaults);
    int rc = args_get_int(args, "row", 0, &row, err);
    rc = rc == 0 ? args_get_int(args, "max-seq-length", (long)defaults.max_seq_length, &length, err)
                 : rc;
    if (rc == 0 && (row < 0 || row > ROW_MAX_ARG || length < 8 || length > 1 << 20)) {
        rc = err_set(err, ERR_INVALID, "--row takes 1 or more, --max-seq-length 8 to 1048576");
    }
    if (rc == 0 && mask != NULL && strcmp(mask, "true") != 0 && strcmp(mask, "false") != 0) {
        rc = err_set(err, ERR_INVALID, "--mask-prompt takes true or false");
    }
    request->dataset_path = args->positional[0];
    request->columns = args_get(args, "columns");
    request->row = row;
    request->max_seq_length = length;
    request->mask_prompt = mask == NULL || strcmp(mask, "true") == 0;
    return rc;
}

static int run_with_model(const struct args *args, struct err *err)
{
    struct check_request request = {0};
    struct found_model model = {0};
    struct buf text;
    json_t *answer = NULL;
    int status = EXIT_FAILED;
    if (read_request(args, &request, err) != 0) {
        return EXIT_USAGE;
    }
    buf_init(&text, CHECK_ANSWER_BYTES_MAX);
    int rc = find_model(&model, &args->settings, args_get(args, "model"), err);
    if (rc == 0) {
        request.base_path = model.spec.base_path;
        rc = train_inspect_check(NULL, &request, &text, err);
    }
    if (rc == 0) {
        answer = json_parse(text.data, text.len, err);
    }
    if (answer != NULL) {
        status = EXIT_DONE;
        if (args->json) {
            status = print_tree(answer, err);
        } else {
            print_answer(answer, request.row > 0);
        }
        if (row_int(answer, "bad_rows") > 0) {
            status = EXIT_FAILED;
        }
    }
    json_decref(answer);
    buf_release(&text);
    found_model_release(&model);
    return status;
}

int dataset_check_run(const struct args *args, struct err *err)
{
    static const char *const with_model[] = {"row", "max-seq-length", "mask-prompt"};
    const char *columns = args_get(args, "columns");
    json_t *tree = NULL;
    for (size_t i = 0; i < sizeof with_model / sizeof with_model[0]; i++) {
        if (args_get(args, with_model[i]) != NULL && args_get(args, "model") == NULL) {
            (void)err_set(err, ERR_INVALID, "--%s needs --model M, whose tokens are counted",
                          with_model[i]);
            return EXIT_USAGE;
        }
    }
    if (columns != NULL && (tree = json_parse(columns, strlen(columns), err)) == NULL) {
        err_prefix(err, "--columns");
        return EXIT_USAGE;
    }
    const int status =
        args_get(args, "model") != NULL ? run_with_model(args, err) : run_plain(args, tree, err);
    json_decref(tree);
    return status;
}
