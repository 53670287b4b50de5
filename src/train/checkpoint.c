/* Writing and choosing checkpoints.
 *
 * 1. Names sort as their steps do, so the newest is the last of a listing.
 * 2. Finding hashes every file, so reading what was found trusts the bytes but not the shapes.
 * 3. A folder that is half removed lacks a file and is therefore invalid.
 */
#include "train/checkpoint.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "engine/adapter_files.h"
#include "formats/checksums.h"
#include "formats/safetensors.h"

#define PREFIX  "step-"
#define WRITING ".writing"

enum { STEP_DIGITS = 10, NAME_BYTES = 32, LISTED_MAX = 256 };

static const char *const files[] = {"adapter.safetensors", "moments.safetensors", "state.json"};

/* --- state ------------------------------------------------------------------------------------ */

static int write_state(const char *dir, const struct train_state *state, const char *run,
                       struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    struct json_out out;
    struct buf text;
    buf_init(&text, CHECKPOINT_STATE_BYTES_MAX);
    json_out_init(&out, &text);
    json_out_object(&out);
    json_out_kv_string(&out, "run", run);
    json_out_kv_int(&out, "numerics_version", ENGINE_NUMERICS_VERSION);
    json_out_kv_int(&out, "step", state->step);
    json_out_kv_int(&out, "epoch", state->epoch);
    json_out_kv_int(&out, "row", state->row);
    json_out_kv_bool(&out, "evaluate", state->evaluate);
    json_out_kv_int(&out, "stale", state->stale);
    json_out_kv_int(&out, "best_step", state->best_step);
    json_out_kv_real(&out, "first_loss", state->first_loss);
    json_out_kv_real(&out, "loss", state->loss);
    json_out_kv_real(&out, "val_loss", state->val_loss);
    json_out_kv_real(&out, "best_val_loss", state->best_val_loss);
    json_out_kv_real(&out, "first_val_loss", state->first_val_loss);
    json_out_kv_string(&out, "date", state->date);
    json_out_object_end(&out);
    buf_putc(&text, '\n');
    int rc = buf_check(&text, "a checkpoint's state", err);
    if (rc == 0) {
        rc = fs_join(path, dir, "state.json", err);
    }
    if (rc == 0) {
        rc = fs_write_file(path, text.data, text.len, err);
    }
    buf_release(&text);
    return rc;
}

static int parse_numbers(const json_t *json, struct train_state *state, struct err *err)
{
    const struct {
        const char *key;
        int64_t *at;
    } ints[] = {{"step", &state->step},
                {"epoch", &state->epoch},
                {"row", &state->row},
                {"stale", &state->stale},
                {"best_step", &state->best_step}};
    const struct {
        const char *key;
        double *at;
    } reals[] = {{"first_loss", &state->first_loss},
                 {"loss", &state->loss},
                 {"val_loss", &state->val_loss},
                 {"best_val_loss", &state->best_val_loss},
                 {"first_val_loss", &state->first_val_loss}};
    int rc = 0;
    for (size_t i = 0; i < sizeof ints / sizeof ints[0] && rc == 0; i++) {
        rc = json_get_int(json, ints[i].key, -1, ints[i].at, err);
        if (rc == 0 && *ints[i].at < 0) {
            rc = err_set(err, ERR_CORRUPT, "%s is missing", ints[i].key);
        }
    }
    for (size_t i = 0; i < sizeof reals / sizeof reals[0] && rc == 0; i++) {
        rc = json_get_real(json, reals[i].key, NAN, reals[i].at, err);
    }
    return rc == 0 ? json_get_bool(json, "evaluate", false, &state->evaluate, err) : rc;
}

/* run NULL: of any run. */
static int parse_state(const json_t *json, struct train_state *state, const char *run,
                       struct err *err)
{
    const char *found = NULL, *date = NULL;
    int64_t numerics = 0;
    int rc = json_get_string(json, "run", "", &found, err);
    if (rc == 0) {
        rc = json_get_string(json, "date", "", &date, err);
    }
    if (rc == 0) {
        rc = json_get_int(json, "numerics_version", 0, &numerics, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (numerics != ENGINE_NUMERICS_VERSION) {
        return err_set(err, ERR_CONFLICT, "it is of numerics version %" PRId64 ", this is %d",
                       numerics, ENGINE_NUMERICS_VERSION);
    }
    if (run != NULL && strcmp(run, found) != 0) {
        return err_set(err, ERR_CONFLICT, "it belongs to another base, dataset or config");
    }
    if (strlen(date) >= sizeof state->date) {
        return err_set(err, ERR_CORRUPT, "its date is too long");
    }
    memcpy(state->date, date, strlen(date) + 1);
    return parse_numbers(json, state, err);
}

static int read_state(const char *dir, struct train_state *state, const char *run, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    memset(state, 0, sizeof *state);
    int rc = fs_join(path, dir, "state.json", err);
    if (rc != 0) {
        return rc;
    }
    json_t *json = json_parse_file(path, CHECKPOINT_STATE_BYTES_MAX, err);
    if (json == NULL) {
        return err_set(err, ERR_CORRUPT, "its state cannot be read");
    }
    rc = json_is_object(json) ? parse_state(json, state, run, err)
                              : err_set(err, ERR_CORRUPT, "its state is not an object");
    json_decref(json);
    return rc;
}

/* --- writing ---------------------------------------------------------------------------------- */

static struct tensor_view vector(const char *name, float *values, size_t n)
{
    return (struct tensor_view){.name = name,
                                .type = TENSOR_F32,
                                .n_dims = 1,
                                .dims = {n},
                                .data = (const uint8_t *)(const void *)values,
                                .bytes = n * sizeof(float)};
}

static int write_parts(const char *dir, const struct checkpoint_parts *parts, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    const size_t n = parts->adamw->n;
    const struct tensor_view views[] = {vector("m", parts->adamw->m, n),
                                        vector("v", parts->adamw->v, n),
                                        vector("best", parts->best, n)};
    int rc = fs_join(path, dir, files[0], err);
    if (rc == 0) {
        rc = engine_adapter_save(parts->adapter, path, err);
    }
    if (rc == 0) {
        rc = fs_join(path, dir, files[1], err);
    }
    if (rc == 0) {
        rc = safetensors_write(path, views, parts->best != NULL ? 3 : 2, NULL, 0, err);
    }
    return rc;
}

static int step_path(const char *dir, int64_t step, char out[FS_PATH_BYTES_MAX], struct err *err)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, PREFIX "%0*" PRId64, STEP_DIGITS, step);
    return fs_join(out, dir, name, err);
}

int checkpoint_write(const char *dir, const struct train_state *state,
                     const struct checkpoint_parts *parts, const char *run, struct err *err)
{
    char temp[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    int rc;
    if ((rc = fs_join(temp, dir, WRITING, err)) != 0 ||
        (rc = step_path(dir, state->step, path, err)) != 0 ||
        (rc = fs_remove_tree(temp, err)) != 0 || (rc = fs_mkdirs(temp, err)) != 0 ||
        (rc = write_parts(temp, parts, err)) != 0 ||
        (rc = write_state(temp, state, run, err)) != 0 ||
        (rc = checksums_write(temp, files, 3, err)) != 0 || (rc = fs_remove_tree(path, err)) != 0 ||
        (rc = fs_publish_dir(temp, path, err)) != 0) {
        err_prefix(err, "the checkpoint of step %" PRId64 " could not be written", state->step);
    }
    return rc;
}

/* --- listing ---------------------------------------------------------------------------------- */

/* The steps of a folder, rising; the last LISTED_MAX of them. */
struct steps {
    int64_t step[LISTED_MAX];
    int n;
};

static int add_step(void *ctx, const char *name, bool is_dir)
{
    struct steps *steps = ctx;
    const char *digits = name + sizeof PREFIX - 1;
    if (!is_dir || strncmp(name, PREFIX, sizeof PREFIX - 1) != 0 ||
        strspn(digits, "0123456789") != STEP_DIGITS || digits[STEP_DIGITS] != '\0') {
        return 0;
    }
    if (steps->n == LISTED_MAX) {
        memmove(steps->step, steps->step + 1, (LISTED_MAX - 1) * sizeof steps->step[0]);
        steps->n--;
    }
    steps->step[steps->n++] = strtoll(digits, NULL, 10);
    return 0;
}

void checkpoint_prune(const char *dir, int64_t step, int64_t kept)
{
    char path[FS_PATH_BYTES_MAX];
    struct steps steps = {.n = 0};
    if (fs_list_dir(dir, add_step, &steps, NULL) != 0) {
        return;
    }
    int n = steps.n;
    while (n > 0 && steps.step[n - 1] > step) {
        n--;
    }
    for (int i = 0; i < steps.n; i++) {
        if (i >= n - kept && i < n) {
            continue;
        }
        if (step_path(dir, steps.step[i], path, NULL) == 0 && fs_remove_tree(path, NULL) != 0) {
            return; /* the disk says why when the next one is written */
        }
    }
}

static int check(const char *path, const char *run, struct train_state *state, int64_t step,
                 struct err *err)
{
    int rc = checksums_verify(path, err);
    if (rc == 0) {
        rc = read_state(path, state, run, err);
    }
    if (rc == 0 && state->step != step) {
        rc = err_set(err, ERR_CORRUPT, "its state is of step %" PRId64, state->step);
    }
    return rc;
}

int checkpoint_find(const char *dir, const char *run, char path[FS_PATH_BYTES_MAX],
                    struct train_state *state, void (*note)(void *ctx, const char *line), void *ctx,
                    struct err *err)
{
    struct steps steps = {.n = 0};
    path[0] = '\0';
    memset(state, 0, sizeof *state);
    if (!fs_is_dir(dir)) {
        return 0;
    }
    int rc = fs_list_dir(dir, add_step, &steps, err);
    for (int i = steps.n - 1; i >= 0 && rc == 0; i--) {
        struct err why = {0};
        rc = step_path(dir, steps.step[i], path, err);
        if (rc != 0 || check(path, run, state, steps.step[i], &why) == 0) {
            return rc;
        }
        if (why.code == ERR_NOMEM) {
            rc = err_set(err, why.code, "%s", why.message); /* not the checkpoint's fault */
        }
        err_prefix(&why, "checkpoint of step %" PRId64 " passed over", steps.step[i]);
        if (rc == 0 && note != NULL) {
            note(ctx, why.message);
        }
    }
    path[0] = '\0';
    memset(state, 0, sizeof *state);
    return rc;
}

/* --- reading ---------------------------------------------------------------------------------- */

static int copy_vector(const struct safetensors *file, const char *name, float *to, size_t n,
                       struct err *err)
{
    const struct tensor_view *view = safetensors_tensor(file, name);
    if (view == NULL || view->type != TENSOR_F32 || view->bytes != n * sizeof(float)) {
        return err_set(err, ERR_CORRUPT, "the checkpoint's '%s' does not fit this adapter", name);
    }
    memcpy(to, view->data, view->bytes);
    return 0;
}

static int read_moments(const char *dir, const struct checkpoint_parts *parts, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    struct safetensors *file = NULL;
    const size_t n = parts->adamw->n;
    int rc;
    if ((rc = fs_join(path, dir, files[1], err)) != 0 ||
        (rc = safetensors_open(path, &file, err)) != 0) {
        return rc;
    }
    rc = copy_vector(file, "m", parts->adamw->m, n, err);
    if (rc == 0) {
        rc = copy_vector(file, "v", parts->adamw->v, n, err);
    }
    if (rc == 0 && parts->best != NULL) {
        rc = copy_vector(file, "best", parts->best, n, err);
    }
    safetensors_free(file);
    return rc;
}

int checkpoint_read(const char *path, struct engine_model *model, float scale,
                    const struct checkpoint_parts *parts, struct err *err)
{
    char file[FS_PATH_BYTES_MAX];
    struct engine_adapter *loaded = NULL;
    int rc = fs_join(file, path, files[0], err);
    if (rc == 0) {
        rc = engine_adapter_load(&loaded, model, file, scale, err);
    }
    if (rc == 0) {
        rc = adapter_copy(parts->adapter, loaded, err);
    }
    engine_adapter_free(loaded);
    return rc == 0 ? read_moments(path, parts, err) : rc;
}
