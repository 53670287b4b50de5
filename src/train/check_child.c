/* The question is {op, …}; the child reads the strangers' files. */
#include <string.h>

#include "base/ask.h"
#include "train/adapter_import.h"
#include "train/check.h"
#include "train/evaluate.h"
#include "train/merge.h"
#include "train/train.h"

static const struct ask_kind kind = {
    .command = "train-inspect",
    .cpu_seconds = CHECK_CPU_SECONDS_MAX,
    .timeout_ms = CHECK_CPU_SECONDS_MAX * 1000,
    .answer_bytes_max = CHECK_ANSWER_BYTES_MAX,
    .broken =
        "the process that read the files ended unexpectedly: they are damaged, hostile, or too "
        "large to be read within 1800 s",
};
_Static_assert(CHECK_CPU_SECONDS_MAX == 1800, "the sentence names it");

/* --- in the child ----------------------------------------------------------------------------- */

static int check(const json_t *tree, struct json_out *out, struct err *err)
{
    struct check_request request = {0};
    int rc;
    if ((rc = json_get_string(tree, "dataset", "", &request.dataset_path, err)) != 0 ||
        (rc = json_get_string(tree, "name", NULL, &request.name, err)) != 0 ||
        (rc = json_get_string(tree, "columns", NULL, &request.columns, err)) != 0 ||
        (rc = json_get_string(tree, "base", "", &request.base_path, err)) != 0 ||
        (rc = json_get_string(tree, "template", NULL, &request.template, err)) != 0 ||
        (rc = json_get_string(tree, "date", NULL, &request.date, err)) != 0 ||
        (rc = json_get_int(tree, "max_seq_length", 0, &request.max_seq_length, err)) != 0 ||
        (rc = json_get_bool(tree, "mask_prompt", true, &request.mask_prompt, err)) != 0 ||
        (rc = json_get_int(tree, "row", 0, &request.row, err)) != 0) {
        return rc;
    }
    return train_check(&request, out, err);
}

static int rows(const json_t *tree, struct json_out *out, struct err *err)
{
    const char *path = NULL, *name = NULL, *columns = NULL;
    struct dataset_columns names;
    struct dataset_report report;
    json_t *map = NULL;
    int rc;
    if ((rc = json_get_string(tree, "dataset", "", &path, err)) != 0 ||
        (rc = json_get_string(tree, "name", NULL, &name, err)) != 0 ||
        (rc = json_get_string(tree, "columns", NULL, &columns, err)) != 0) {
        return rc;
    }
    if (columns != NULL && (map = json_parse(columns, strlen(columns), err)) == NULL) {
        return err_set(err, ERR_UNPROCESSABLE, "columns");
    }
    rc = dataset_columns_parse(&names, map, err);
    json_decref(map);
    rc = rc == 0 ? dataset_check(path, name, &names, &report, err) : rc;
    if (rc == 0) {
        json_out_object(out);
        json_out_kv_int(out, "rows", report.rows);
        for (int i = 0; i < 3; i++) {
            json_out_kv_int(out, dataset_shape_name((enum dataset_shape)i), report.by_shape[i]);
        }
        json_out_kv_int(out, "bytes", (int64_t)report.bytes);
        json_out_kv_string(out, "sha256", report.sha256);
        json_out_object_end(out);
    }
    return rc;
}

static int estimate(const json_t *tree, struct json_out *out, struct err *err)
{
    struct train_config config;
    const char *base = NULL;
    bool evaluate = false;
    int64_t threads = 0;
    uint64_t bytes = 0;
    int rc = train_config_parse(&config, json_object_get(tree, "config"), err);
    rc = rc == 0 ? json_get_string(tree, "base", "", &base, err) : rc;
    rc = rc == 0 ? json_get_bool(tree, "evaluate", false, &evaluate, err) : rc;
    rc = rc == 0 ? json_get_int(tree, "threads", 0, &threads, err) : rc;
    if (rc == 0) {
        rc = evaluate
                 ? train_evaluate_estimate(base, config.max_seq_length, (int)threads, &bytes, err)
                 : train_estimate(base, &config, (int)threads, &bytes, err);
    }
    if (rc == 0) {
        json_out_object(out);
        json_out_key(out, "bytes");
        json_out_uint(out, bytes);
        json_out_object_end(out);
    }
    return rc;
}

static int quantize(const json_t *tree, struct json_out *out, struct err *err)
{
    struct merge_spec spec = {
        .base_id = "base", .format = MERGE_MLX, .type = MERGE_KEEP, .threads = 1, .isa = "best"};
    struct merge_result result;
    int64_t bits = 0;
    int rc;
    if ((rc = json_get_string(tree, "base", "", &spec.base_path, err)) != 0 ||
        (rc = json_get_string(tree, "dest", "", &spec.dest, err)) != 0 ||
        (rc = json_get_int(tree, "bits", 4, &bits, err)) != 0) {
        return rc;
    }
    spec.bits = (int)bits;
    rc = train_merge(&spec, NULL, &result, err);
    if (rc == 0) {
        json_out_object(out);
        merge_result_write(&result, out);
        json_out_object_end(out);
    }
    return rc;
}

static int adapter(const json_t *tree, struct json_out *out, struct err *err)
{
    struct adapter_import import = {0};
    double scale = 0.0;
    int rc;
    if ((rc = json_get_string(tree, "base", "", &import.base_path, err)) != 0 ||
        (rc = json_get_string(tree, "factors", "", &import.factors_path, err)) != 0 ||
        (rc = json_get_string(tree, "config", "", &import.config_path, err)) != 0 ||
        (rc = json_get_string(tree, "dest", "", &import.dest, err)) != 0) {
        return rc;
    }
    rc = train_adapter_import(&import, &scale, err);
    if (rc == 0) {
        json_out_object(out);
        json_out_kv_real(out, "scale", scale);
        json_out_object_end(out);
    }
    return rc;
}

static int answer(const json_t *tree, struct json_out *out, struct err *err)
{
    const char *op = "";
    const int rc = json_get_string(tree, "op", "", &op, err);
    if (rc != 0) {
        return rc;
    }
    return strcmp(op, "estimate") == 0   ? estimate(tree, out, err)
           : strcmp(op, "rows") == 0     ? rows(tree, out, err)
           : strcmp(op, "quantize") == 0 ? quantize(tree, out, err)
           : strcmp(op, "adapter") == 0  ? adapter(tree, out, err)
                                         : check(tree, out, err);
}

int train_inspect_main(int control_fd)
{
    return ask_answer_main(&kind, control_fd, answer);
}

/* --- in the hub ------------------------------------------------------------------------------- */

int train_inspect_check(const char *program, const struct check_request *request, struct buf *out,
                        struct err *err)
{
    struct buf text;
    struct json_out json;
    buf_init(&text, ASK_QUESTION_BYTES_MAX);
    json_out_init(&json, &text);
    json_out_object(&json);
    json_out_kv_string(&json, "op", "check");
    json_out_kv_string(&json, "dataset", request->dataset_path);
    json_out_kv_string(&json, "name", request->name);
    json_out_kv_string(&json, "columns", request->columns);
    json_out_kv_string(&json, "base", request->base_path);
    json_out_kv_string(&json, "template", request->template);
    json_out_kv_string(&json, "date", request->date);
    json_out_kv_int(&json, "max_seq_length", request->max_seq_length);
    json_out_kv_bool(&json, "mask_prompt", request->mask_prompt);
    json_out_kv_int(&json, "row", request->row);
    json_out_object_end(&json);
    const int rc = ask_child(&kind, program, &text, out, err);
    buf_release(&text);
    return rc;
}

static int read_report(const struct buf *text, struct dataset_report *report, struct err *err)
{
    const char *sha256 = NULL;
    int64_t bytes = 0;
    json_t *tree = json_parse(text->data, text->len, err);
    int rc = tree != NULL ? json_get_int(tree, "rows", 0, &report->rows, err) : -(int)ERR_CORRUPT;
    for (int i = 0; i < 3 && rc == 0; i++) {
        rc = json_get_int(tree, dataset_shape_name((enum dataset_shape)i), 0, &report->by_shape[i],
                          err);
    }
    rc = rc == 0 ? json_get_int(tree, "bytes", 0, &bytes, err) : rc;
    rc = rc == 0 ? json_get_string(tree, "sha256", "", &sha256, err) : rc;
    report->bytes = (uint64_t)bytes;
    if (rc == 0) {
        (void)snprintf(report->sha256, sizeof report->sha256, "%s", sha256);
    }
    json_decref(tree);
    return rc;
}

int train_inspect_rows(const char *program, const char *path, const char *name, const char *columns,
                       struct dataset_report *report, struct err *err)
{
    struct buf text, answer_buf;
    struct json_out json;
    memset(report, 0, sizeof *report);
    buf_init(&text, ASK_QUESTION_BYTES_MAX);
    buf_init(&answer_buf, ASK_QUESTION_BYTES_MAX);
    json_out_init(&json, &text);
    json_out_object(&json);
    json_out_kv_string(&json, "op", "rows");
    json_out_kv_string(&json, "dataset", path);
    json_out_kv_string(&json, "name", name);
    json_out_kv_string(&json, "columns", columns);
    json_out_object_end(&json);
    int rc = ask_child(&kind, program, &text, &answer_buf, err);
    rc = rc == 0 ? read_report(&answer_buf, report, err) : rc;
    buf_release(&text);
    buf_release(&answer_buf);
    return rc;
}

int train_inspect_estimate(const char *program, const char *base_path,
                           const struct train_config *config, bool evaluate, int threads,
                           uint64_t *bytes, struct err *err)
{
    struct buf text, answer_buf;
    struct json_out json;
    int64_t value = 0;
    buf_init(&text, ASK_QUESTION_BYTES_MAX);
    buf_init(&answer_buf, ASK_QUESTION_BYTES_MAX);
    json_out_init(&json, &text);
    json_out_object(&json);
    json_out_kv_string(&json, "op", "estimate");
    json_out_kv_string(&json, "base", base_path);
    json_out_kv_bool(&json, "evaluate", evaluate);
    json_out_kv_int(&json, "threads", threads);
    json_out_key(&json, "config");
    train_config_write(config, &json);
    json_out_object_end(&json);
    int rc = ask_child(&kind, program, &text, &answer_buf, err);
    if (rc == 0) {
        json_t *tree = json_parse(answer_buf.data, answer_buf.len, err);
        rc = tree != NULL ? json_get_int(tree, "bytes", 0, &value, err) : -(int)ERR_CORRUPT;
        *bytes = (uint64_t)value;
        json_decref(tree);
    }
    buf_release(&text);
    buf_release(&answer_buf);
    return rc;
}

int train_quantize_child(const char *program, const char *base_path, const char *dest, int bits,
                         struct err *err)
{
    struct buf text, answer_buf;
    struct json_out json;
    buf_init(&text, ASK_QUESTION_BYTES_MAX);
    buf_init(&answer_buf, ASK_QUESTION_BYTES_MAX);
    json_out_init(&json, &text);
    json_out_object(&json);
    json_out_kv_string(&json, "op", "quantize");
    json_out_kv_string(&json, "base", base_path);
    json_out_kv_string(&json, "dest", dest);
    json_out_kv_int(&json, "bits", bits);
    json_out_object_end(&json);
    const int rc = ask_child(&kind, program, &text, &answer_buf, err);
    buf_release(&text);
    buf_release(&answer_buf);
    return rc;
}

int train_adapter_import_child(const char *program, const struct adapter_import *import,
                               double *scale, struct err *err)
{
    struct buf text, answer_buf;
    struct json_out json;
    json_t *tree = NULL;
    buf_init(&text, ASK_QUESTION_BYTES_MAX);
    buf_init(&answer_buf, CHECK_ANSWER_BYTES_MAX);
    json_out_init(&json, &text);
    json_out_object(&json);
    json_out_kv_string(&json, "op", "adapter");
    json_out_kv_string(&json, "base", import->base_path);
    json_out_kv_string(&json, "factors", import->factors_path);
    json_out_kv_string(&json, "config", import->config_path);
    json_out_kv_string(&json, "dest", import->dest);
    json_out_object_end(&json);
    int rc = ask_child(&kind, program, &text, &answer_buf, err);
    if (rc == 0) {
        tree = json_parse(answer_buf.data, answer_buf.len, err);
        rc = tree != NULL ? json_get_real(tree, "scale", 0.0, scale, err) : -(int)err->code;
    }
    json_decref(tree);
    buf_release(&answer_buf);
    buf_release(&text);
    return rc;
}
