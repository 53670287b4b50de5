/* compare inputs ── all the same ──▶ train_run in scratch ─▶ compare adapters and manifests
 *       └── one differs ──▶ not trained */
#include "train/reproduce.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "formats/checksums.h"
#include "formats/model_digest.h"
#include "formats/safetensors.h"
#include "train/run.h"

struct reproduction {
    const struct reproduce_spec *spec;
    struct manifest was;
    struct reproduce_result *result;
    char checkpoints[FS_PATH_BYTES_MAX], output[FS_PATH_BYTES_MAX];
};

static void differs(struct reproduction *r, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void differs(struct reproduction *r, const char *fmt, ...)
{
    va_list args;
    if (r->result->n_differences == REPRODUCE_DIFFERENCES_MAX) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(r->result->differences[r->result->n_differences++], REPRODUCE_LINE_BYTES, fmt,
                    args);
    va_end(args);
}

/* --- what goes in ----------------------------------------------------------------------------- */

/* `want` NULL: the manifest names none. */
static int compare_file(struct reproduction *r, const char *what, const char *path,
                        const char *want, bool is_base, struct err *err)
{
    char actual[SHA256_HEX_BYTES];
    struct err why = {0};
    if (want == NULL) {
        return 0;
    }
    if (path == NULL || !fs_exists(path)) {
        differs(r, "%s: the one of sha256 %s is gone", what, want);
        return 0;
    }
    const int rc = is_base ? model_digest(path, actual, &why) : sha256_file_hex(path, actual, &why);
    if (rc != 0) {
        return err_set(err, why.code, "%s: %s", what, why.message);
    }
    if (strcmp(actual, want) != 0) {
        differs(r, "%s: the manifest says sha256 %s, it is %s", what, want, actual);
    }
    return 0;
}

static int compare_inputs(struct reproduction *r, struct err *err)
{
    const struct reproduce_spec *spec = r->spec;
    const struct manifest *was = &r->was;
    struct err damage = {0};
    int rc;
    if (was->numerics_version != ENGINE_NUMERICS_VERSION) {
        differs(r, "numerics version: the manifest says %d, this program has %d",
                was->numerics_version, ENGINE_NUMERICS_VERSION);
    }
    if (strcmp(was->engine, "native") != 0) {
        differs(r, "engine: the manifest says %s, this program trains with native", was->engine);
    }
    if (checksums_verify(spec->version_dir, &damage) != 0) {
        differs(r, "the version's own files: %s", damage.message);
    }
    if ((rc = compare_file(r, "base model", spec->base_path, was->base_sha256, true, err)) != 0 ||
        (rc = compare_file(r, "dataset", spec->dataset_path, was->dataset_sha256, false, err)) !=
            0 ||
        (rc = compare_file(r, "validation dataset", spec->validation_path, was->validation_sha256,
                           false, err)) != 0) {
        return rc;
    }
    return compare_file(r, "the adapter that it went on from", spec->init_adapter_path,
                        was->init_sha256, false, err);
}

/* --- what comes out --------------------------------------------------------------------------- */

static void compare_text(struct reproduction *r, const char *what, const char *was, const char *is)
{
    if (strcmp(was != NULL ? was : "", is != NULL ? is : "") != 0) {
        if (strlen(was != NULL ? was : "") + strlen(is != NULL ? is : "") < 200) {
            differs(r, "%s: the manifest says \"%s\", it is \"%s\"", what, was != NULL ? was : "",
                    is != NULL ? is : "");
        } else {
            differs(r, "%s: it is another one than the manifest's", what);
        }
    }
}

static int compare_manifests(struct reproduction *r, struct err *err)
{
    struct manifest is;
    const struct manifest *was = &r->was;
    const int rc = manifest_read(&is, r->output, err);
    if (rc != 0) {
        return rc;
    }
    compare_text(r, "chat template", was->chat_template, is.chat_template);
    compare_text(r, "date", was->date, is.date);
    if (was->n_eos != is.n_eos ||
        memcmp(was->eos_ids, is.eos_ids, (size_t)was->n_eos * sizeof was->eos_ids[0]) != 0) {
        differs(r, "end tokens: others than the manifest's");
    }
    if (was->training.targets != is.training.targets || was->training.rows != is.training.rows) {
        differs(r, "rows: the manifest says %lld with %lld targets, it is %lld with %lld",
                (long long)was->training.rows, (long long)was->training.targets,
                (long long)is.training.rows, (long long)is.training.targets);
    }
    manifest_release(&is);
    return 0;
}

static double largest_difference(const struct tensor_view *a, const struct tensor_view *b)
{
    double most = 0;
    for (uint64_t i = 0; i < a->bytes / sizeof(float); i++) {
        float x, y;
        memcpy(&x, a->data + i * sizeof x, sizeof x);
        memcpy(&y, b->data + i * sizeof y, sizeof y);
        const double d = fabs((double)x - (double)y);
        most = d > most ? d : most;
    }
    return most;
}

static void compare_tensors(struct reproduction *r, const struct safetensors *was,
                            const struct safetensors *is)
{
    for (size_t i = 0; i < safetensors_tensor_count(was); i++) {
        const struct tensor_view *a = safetensors_tensor_at(was, i);
        const struct tensor_view *b = safetensors_tensor(is, a->name);
        if (b == NULL || b->bytes != a->bytes) {
            differs(r, "%s: missing, or of another shape", a->name);
        } else if (memcmp(a->data, b->data, a->bytes) != 0) {
            differs(r, "%s: differs by up to %.3g", a->name, largest_difference(a, b));
        }
    }
}

static int compare_adapters(struct reproduction *r, struct err *err)
{
    struct safetensors *was = NULL, *is = NULL;
    char path[FS_PATH_BYTES_MAX];
    compare_text(r, "source revision", r->was.source_revision, r->spec->source_revision);
    int rc = fs_join(path, r->spec->version_dir, MANIFEST_ADAPTER, err);
    rc = rc == 0 ? safetensors_open(path, &was, err) : rc;
    rc = rc == 0 ? fs_join(path, r->output, MANIFEST_ADAPTER, err) : rc;
    rc = rc == 0 ? safetensors_open(path, &is, err) : rc;
    if (rc == 0) {
        compare_tensors(r, was, is);
    }
    safetensors_free(was);
    safetensors_free(is);
    return rc;
}

/* --- the whole -------------------------------------------------------------------------------- */

static int train(struct reproduction *r, const struct train_hooks *hooks, struct err *err)
{
    const struct reproduce_spec *spec = r->spec;
    const struct manifest *was = &r->was;
    struct train_result trained;
    const struct train_spec again = {
        .base_id = was->base_model,
        .base_path = spec->base_path,
        .base_sha256 = was->base_sha256,
        .dataset_path = spec->dataset_path,
        .dataset_sha256 = was->dataset_sha256,
        .dataset_columns = was->dataset_columns,
        .validation_path = was->validation_sha256 != NULL ? spec->validation_path : NULL,
        .validation_sha256 = was->validation_sha256,
        .validation_columns = was->validation_columns,
        .init_adapter_path = was->init_sha256 != NULL ? spec->init_adapter_path : NULL,
        .config = &was->config,
        .checkpoint_dir = r->checkpoints,
        .output_dir = r->output,
        .model_name = was->model,
        .version = was->version,
        .date = was->date,
        .source_revision = spec->source_revision,
        .threads = spec->threads,
        .isa = spec->isa,
        .memory_bytes_max = spec->memory_bytes_max};
    const int rc = train_run(&again, hooks, &trained, err);
    if (rc == 0) {
        memcpy(r->result->actual, trained.checksum, sizeof r->result->actual);
        r->result->steps = trained.steps;
    }
    return rc;
}

static int reproduce(struct reproduction *r, const struct train_hooks *hooks, struct err *err)
{
    struct reproduce_result *result = r->result;
    int rc = fs_join(r->checkpoints, r->spec->scratch_dir, "checkpoints", err);
    rc = rc == 0 ? fs_join(r->output, r->spec->scratch_dir, "version", err) : rc;
    rc = rc == 0 ? compare_inputs(r, err) : rc;
    if (rc != 0 || result->n_differences > 0) {
        return rc;
    }
    rc = train(r, hooks, err);
    if (rc != 0) {
        return rc;
    }
    result->pass = strcmp(result->expected, result->actual) == 0;
    if (result->pass) {
        return 0;
    }
    rc = compare_manifests(r, err);
    return rc == 0 ? compare_adapters(r, err) : rc;
}

int train_reproduce(const struct reproduce_spec *spec, const struct train_hooks *hooks,
                    struct reproduce_result *result, struct err *err)
{
    struct reproduction r = {.spec = spec, .result = result};
    const int64_t begun_ns = clock_monotonic_ns();
    memset(result, 0, sizeof *result);
    int rc = manifest_read(&r.was, spec->version_dir, err);
    if (rc == 0) {
        (void)snprintf(result->expected, sizeof result->expected, "%s", r.was.adapter_sha256);
        rc = reproduce(&r, hooks, err);
    }
    result->seconds = (double)(clock_monotonic_ns() - begun_ns) / 1e9;
    manifest_release(&r.was);
    return rc;
}

void reproduce_result_write(const struct reproduce_result *result, struct json_out *out)
{
    json_out_kv_bool(out, "pass", result->pass);
    json_out_kv_string(out, "expected", result->expected);
    json_out_kv_string(out, "actual", result->actual[0] != '\0' ? result->actual : NULL);
    json_out_key(out, "differences");
    json_out_array(out);
    for (int i = 0; i < result->n_differences; i++) {
        json_out_string(out, result->differences[i]);
    }
    json_out_array_end(out);
    json_out_kv_int(out, "steps", result->steps);
    json_out_kv_real(out, "seconds", result->seconds);
}
