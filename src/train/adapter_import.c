/* Factors become fp32 with mlx-lm's names and shapes, the engine takes them for the base or says
 * what does not fit, and writes its own file. Names that are neither tool's stay as they are, so
 * that the engine's message has them. */
#include "train/adapter_import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "engine/adapter_files.h"
#include "formats/dequant.h"
#include "formats/safetensors.h"
#include "train/adapter_config.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { NAME_BYTES = 256 };

struct incoming {
    bool peft;
    double scale;
    int64_t rank; /* as the config says; 0: it does not */
    struct arena arena;
    struct safetensors *file;
    struct tensor_view *views;
    size_t n;
};

/* --- the config --- */

static int unsupported(const char *what, struct err *err)
{
    return err_set(err, ERR_INVALID, ADAPTER_CONFIG_FILE ": %s is not supported", what);
}

static bool is_empty(const json_t *value)
{
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_object(value) && json_object_size(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

/* PEFT's ways to begin that take something out of the base's weights, and do so again on loading.
 */
static bool changes_base(const json_t *init)
{
    static const char *const plain[] = {"gaussian", "eva", "orthogonal"};
    const char *name = json_string_value(init);
    bool known = name == NULL;
    for (size_t i = 0; !known && i < COUNT_OF(plain); i++) {
        known = strcmp(name, plain[i]) == 0;
    }
    return !known;
}

static int read_peft(const json_t *config, struct incoming *in, struct err *err)
{
    static const char *const others[] = {"use_dora",          "fan_in_fan_out",
                                         "lora_bias",         "modules_to_save",
                                         "rank_pattern",      "alpha_pattern",
                                         "layer_replication", "alora_invocation_tokens",
                                         "target_parameters", "trainable_token_indices",
                                         "use_qalora"};
    const char *type = NULL, *bias = NULL;
    double alpha = 8.0;
    bool rs = false;
    int rc;
    in->peft = true;
    in->rank = 8;
    if ((rc = json_get_string(config, "peft_type", "", &type, err)) != 0 ||
        (rc = json_get_string(config, "bias", "none", &bias, err)) != 0 ||
        (rc = json_get_int(config, "r", in->rank, &in->rank, err)) != 0 ||
        (rc = json_get_real(config, "lora_alpha", alpha, &alpha, err)) != 0 ||
        (rc = json_get_bool(config, "use_rslora", rs, &rs, err)) != 0) {
        return rc;
    }
    if (strcmp(type, "LORA") != 0) {
        return unsupported("a 'peft_type' that is not LORA", err);
    }
    if (strcmp(bias, "none") != 0) {
        return unsupported("a 'bias' that is not none", err);
    }
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        if (!is_empty(json_object_get(config, others[i]))) {
            return err_set(err, ERR_INVALID, ADAPTER_CONFIG_FILE ": '%s' is not supported",
                           others[i]);
        }
    }
    if (changes_base(json_object_get(config, "init_lora_weights"))) {
        return unsupported("an 'init_lora_weights' that changes the base", err);
    }
    if (in->rank < 1) {
        return err_set(err, ERR_INVALID, ADAPTER_CONFIG_FILE ": 'r' is %lld", (long long)in->rank);
    }
    in->scale = alpha / (rs ? sqrt((double)in->rank) : (double)in->rank);
    return 0;
}

static int read_mlx(const json_t *config, struct incoming *in, struct err *err)
{
    const json_t *lora = json_object_get(config, "lora_parameters");
    const char *type = NULL;
    int rc = json_get_string(config, "fine_tune_type", "lora", &type, err);
    rc = rc == 0 ? json_get_real(lora, "scale", NAN, &in->scale, err) : rc;
    if (rc == 0 && strcmp(type, "lora") != 0) {
        rc = unsupported("a 'fine_tune_type' that is not lora", err);
    }
    return rc;
}

static int read_config(const char *path, struct incoming *in, struct err *err)
{
    json_t *config = json_parse_file(path, ADAPTER_CONFIG_BYTES_MAX, err);
    int rc = config != NULL ? 0 : -(int)err->code;
    if (rc == 0 && json_object_get(config, "peft_type") != NULL) {
        rc = read_peft(config, in, err);
    } else if (rc == 0 && json_is_object(json_object_get(config, "lora_parameters"))) {
        rc = read_mlx(config, in, err);
    } else if (rc == 0) {
        rc = err_set(err, ERR_INVALID,
                     ADAPTER_CONFIG_FILE " is neither PEFT's (it has no 'peft_type') nor mlx-lm's "
                                         "(no 'lora_parameters')");
    }
    if (rc == 0 && !isfinite((float)in->scale)) {
        rc = err_set(err, ERR_INVALID, ADAPTER_CONFIG_FILE " holds no scale");
    }
    json_decref(config);
    return rc;
}

/* --- the factors --- */

/* "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" →
 * "model.layers.0.self_attn.q_proj.lora_a"; false for any other name. */
static bool mlx_name(const char *name, char out[NAME_BYTES])
{
    static const char prefix[] = "base_model.model.";
    static const char *const endings[] = {".lora_A.weight", ".lora_B.weight"};
    const size_t length = strlen(name);
    if (strncmp(name, prefix, sizeof prefix - 1) != 0 || length >= NAME_BYTES) {
        return false;
    }
    for (int b = 0; b < 2; b++) {
        const size_t ending = strlen(endings[b]);
        if (length > sizeof prefix - 1 + ending &&
            strcmp(name + length - ending, endings[b]) == 0) {
            (void)snprintf(out, NAME_BYTES, "%.*s.lora_%c",
                           (int)(length - ending - (sizeof prefix - 1)), name + sizeof prefix - 1,
                           b == 0 ? 'a' : 'b');
            return true;
        }
    }
    return false;
}

/* As fp32; transposed where PEFT has it the other way. What is no matrix of floats stays. */
static int take_values(struct incoming *in, const struct tensor_view *from, bool transpose,
                       struct tensor_view *to, struct err *err)
{
    const bool floats =
        from->type == TENSOR_F32 || from->type == TENSOR_F16 || from->type == TENSOR_BF16;
    if (from->n_dims != 2 || !floats) {
        return 0;
    }
    const size_t rows = (size_t)from->dims[0], cols = (size_t)from->dims[1];
    float *values = arena_alloc(&in->arena, rows * cols, sizeof *values);
    float *row = arena_alloc(&in->arena, cols, sizeof *row);
    if (values == NULL || row == NULL) {
        return mem_err(err, rows * cols * sizeof *values);
    }
    for (size_t r = 0; r < rows; r++) {
        tensor_dequant_row(from, r, row);
        for (size_t c = 0; c < cols; c++) {
            values[transpose ? c * rows + r : r * cols + c] = row[c];
        }
    }
    to->type = TENSOR_F32;
    to->bytes = rows * cols * sizeof *values;
    to->data = (const uint8_t *)(const void *)values;
    to->dims[0] = transpose ? from->dims[1] : from->dims[0];
    to->dims[1] = transpose ? from->dims[0] : from->dims[1];
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor_view *)a)->name, ((const struct tensor_view *)b)->name);
}

static int take_factors(struct incoming *in, struct err *err)
{
    in->n = safetensors_tensor_count(in->file);
    in->views = arena_alloc(&in->arena, in->n, sizeof *in->views);
    if (in->views == NULL) {
        return mem_err(err, in->n * sizeof *in->views);
    }
    for (size_t i = 0; i < in->n; i++) {
        const struct tensor_view *from = safetensors_tensor_at(in->file, i);
        char name[NAME_BYTES];
        const bool renamed = in->peft && mlx_name(from->name, name);
        in->views[i] = *from;
        if (renamed && (in->views[i].name = arena_strdup(&in->arena, name)) == NULL) {
            return mem_err(err, NAME_BYTES);
        }
        const int rc = take_values(in, from, renamed, &in->views[i], err);
        if (rc != 0) {
            return rc;
        }
    }
    qsort(in->views, in->n, sizeof *in->views, by_name);
    return 0;
}

static int write_file(const struct incoming *in, const struct adapter_import *import,
                      struct err *err)
{
    const struct engine_options options = {.threads = 1, .isa = "best", .train_only = true};
    struct engine_model *model = NULL;
    struct engine_adapter *adapter = NULL;
    int rc = engine_model_open(&model, import->base_path, &options, err);
    if (rc == 0) {
        rc = engine_adapter_of(&adapter, model, in->views, in->n, "the adapter", (float)in->scale,
                               err);
    }
    if (rc == 0 && in->rank > 0 && engine_adapter_lora(adapter)->rank != in->rank) {
        rc = err_set(err, ERR_INVALID,
                     ADAPTER_CONFIG_FILE " says 'r' %lld, the factors have rank %d",
                     (long long)in->rank, engine_adapter_lora(adapter)->rank);
    }
    rc = rc == 0 ? engine_adapter_save(adapter, import->dest, err) : rc;
    engine_adapter_free(adapter);
    engine_model_free(model);
    return rc;
}

int train_adapter_import(const struct adapter_import *import, double *scale, struct err *err)
{
    struct incoming in = {.file = NULL};
    arena_init(&in.arena, 0);
    int rc = read_config(import->config_path, &in, err);
    rc = rc == 0 ? safetensors_open(import->factors_path, &in.file, err) : rc;
    rc = rc == 0 ? take_factors(&in, err) : rc;
    rc = rc == 0 ? write_file(&in, import, err) : rc;
    *scale = in.scale;
    safetensors_free(in.file);
    arena_release(&in.arena);
    return rc;
}
