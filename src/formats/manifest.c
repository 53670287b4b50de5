/* Writing and reading one object; both walk the same tables of strings and numbers, so a key cannot
 * be written under one name and read under another. */
#include "formats/manifest.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/fs.h"

struct text_field {
    const char *key;
    size_t offset;
    bool required;
};

static const struct text_field texts[] = {
    {"model", offsetof(struct manifest, model), true},
    {"version", offsetof(struct manifest, version), true},
    {"base_model", offsetof(struct manifest, base_model), true},
    {"base_model_sha256", offsetof(struct manifest, base_sha256), true},
    {"dataset_checksum", offsetof(struct manifest, dataset_sha256), true},
    {"dataset_columns", offsetof(struct manifest, dataset_columns), false},
    {"validation_columns", offsetof(struct manifest, validation_columns), false},
    {"validation_checksum", offsetof(struct manifest, validation_sha256), false},
    {"init_checksum", offsetof(struct manifest, init_sha256), false},
    {"adapter_checksum", offsetof(struct manifest, adapter_sha256), true},
    {"engine", offsetof(struct manifest, engine), true},
    {"source_revision", offsetof(struct manifest, source_revision), false},
    {"date", offsetof(struct manifest, date), false},
    {"chat_template", offsetof(struct manifest, chat_template), true},
};
enum { TEXTS = sizeof texts / sizeof texts[0] };

struct number_field {
    const char *key;
    size_t offset;
    bool real;
};

static const struct number_field numbers[] = {
    {"steps", offsetof(struct manifest_training, steps), false},
    {"rows", offsetof(struct manifest_training, rows), false},
    {"rows_dropped", offsetof(struct manifest_training, rows_dropped), false},
    {"rows_truncated", offsetof(struct manifest_training, rows_truncated), false},
    {"targets", offsetof(struct manifest_training, targets), false},
    {"first_loss", offsetof(struct manifest_training, first_loss), true},
    {"final_loss", offsetof(struct manifest_training, final_loss), true},
    {"first_val_loss", offsetof(struct manifest_training, first_val_loss), true},
    {"val_loss", offsetof(struct manifest_training, val_loss), true},
    {"best_val_loss", offsetof(struct manifest_training, best_val_loss), true},
    {"best_step", offsetof(struct manifest_training, best_step), false},
};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

/* --- writing ---------------------------------------------------------------------------------- */

static void write_training(const struct manifest_training *training, struct json_out *out)
{
    json_out_key(out, "training");
    json_out_object(out);
    for (int i = 0; i < NUMBERS; i++) {
        const void *at = (const char *)training + numbers[i].offset;
        if (numbers[i].real) {
            json_out_kv_real(out, numbers[i].key, *(const double *)at);
        } else {
            json_out_kv_int(out, numbers[i].key, *(const int64_t *)at);
        }
    }
    json_out_object_end(out);
}

static void write_object(const struct manifest *m, struct json_out *out)
{
    json_out_object(out);
    json_out_kv_int(out, "manifest", MANIFEST_VERSION);
    for (int i = 0; i < TEXTS; i++) {
        const char *const *at = (const void *)((const char *)m + texts[i].offset);
        json_out_kv_string(out, texts[i].key, *at);
    }
    json_out_kv_int(out, "numerics_version", m->numerics_version);
    json_out_kv_int(out, "lora_rank", m->config.lora_rank);
    json_out_kv_real(out, "lora_alpha", m->config.lora_alpha);
    json_out_kv_real(out, "lora_scale", m->lora_scale);
    json_out_kv_int(out, "seed", m->config.seed);
    json_out_key(out, "eos_ids");
    json_out_array(out);
    for (int i = 0; i < m->n_eos; i++) {
        json_out_int(out, m->eos_ids[i]);
    }
    json_out_array_end(out);
    json_out_key(out, "config");
    train_config_write(&m->config, out);
    write_training(&m->training, out);
    json_out_object_end(out);
}

int manifest_write(const struct manifest *manifest, const char *dir, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    struct json_out out;
    struct buf text;
    buf_init(&text, MANIFEST_BYTES_MAX);
    json_out_init(&out, &text);
    write_object(manifest, &out);
    buf_putc(&text, '\n');
    int rc = buf_check(&text, "the manifest", err);
    if (rc == 0) {
        rc = fs_join(path, dir, MANIFEST_FILE, err);
    }
    if (rc == 0) {
        rc = fs_write_file(path, text.data, text.len, err);
    }
    buf_release(&text);
    return rc;
}

/* --- reading ---------------------------------------------------------------------------------- */

static int read_texts(struct manifest *m, struct err *err)
{
    for (int i = 0; i < TEXTS; i++) {
        const char **at = (void *)((char *)m + texts[i].offset);
        const int rc = json_get_string(m->json, texts[i].key, NULL, at, err);
        if (rc != 0) {
            return rc;
        }
        if (*at == NULL && texts[i].required) {
            return err_set(err, ERR_CORRUPT, "%s is missing", texts[i].key);
        }
    }
    return 0;
}

static int read_eos(struct manifest *m, struct err *err)
{
    const json_t *ids = json_object_get(m->json, "eos_ids");
    const size_t n = json_array_size(ids);
    if (!json_is_array(ids) || n > MODEL_EOS_MAX) {
        return err_set(err, ERR_CORRUPT, "eos_ids is not a list of at most %d tokens",
                       MODEL_EOS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= MODEL_VOCAB_MAX) {
            return err_set(err, ERR_CORRUPT, "eos_ids holds something that is no token");
        }
        m->eos_ids[m->n_eos++] = (int32_t)json_integer_value(id);
    }
    return 0;
}

static int read_training(struct manifest *m, struct err *err)
{
    const json_t *training = json_object_get(m->json, "training");
    int rc = json_is_object(training) ? 0 : err_set(err, ERR_CORRUPT, "training is missing");
    for (int i = 0; i < NUMBERS && rc == 0; i++) {
        void *at = (char *)&m->training + numbers[i].offset;
        rc = numbers[i].real ? json_get_real(training, numbers[i].key, NAN, at, err)
                             : json_get_int(training, numbers[i].key, 0, at, err);
    }
    return rc;
}

static int read_object(struct manifest *m, struct err *err)
{
    int64_t version = 0, numerics = 0;
    int rc = json_get_int(m->json, "manifest", 0, &version, err);
    if (rc == 0 && version != MANIFEST_VERSION) {
        return err_set(err, ERR_UNSUPPORTED, "manifest version %lld; %d is read here",
                       (long long)version, MANIFEST_VERSION);
    }
    if (rc == 0) {
        rc = read_texts(m, err);
    }
    if (rc == 0) {
        rc = json_get_int(m->json, "numerics_version", 0, &numerics, err);
    }
    if (rc == 0) {
        rc = json_get_real(m->json, "lora_scale", NAN, &m->lora_scale, err);
    }
    if (rc == 0 && (!isfinite(m->lora_scale) || numerics < 1 || numerics > INT32_MAX)) {
        rc = err_set(err, ERR_CORRUPT, "lora_scale or numerics_version is missing");
    }
    m->numerics_version = (int)numerics;
    if (rc == 0) {
        rc = train_config_parse_stored(&m->config, json_object_get(m->json, "config"), err);
    }
    if (rc == 0) {
        rc = read_eos(m, err);
    }
    return rc == 0 ? read_training(m, err) : rc;
}

int manifest_read(struct manifest *manifest, const char *dir, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    struct err why = {0};
    memset(manifest, 0, sizeof *manifest);
    int rc = fs_join(path, dir, MANIFEST_FILE, err);
    if (rc != 0) {
        return rc;
    }
    manifest->json = json_parse_file(path, MANIFEST_BYTES_MAX, &why);
    rc = manifest->json != NULL ? 0 : -(int)why.code;
    if (rc == 0 && !json_is_object(manifest->json)) {
        rc = err_set(&why, ERR_CORRUPT, "not an object");
    }
    if (rc == 0) {
        rc = read_object(manifest, &why);
    }
    if (rc != 0) {
        manifest_release(manifest);
        /* Here what is malformed is a file of ours, not a request. */
        const enum err_code code = why.code == ERR_UNPROCESSABLE ? ERR_CORRUPT : why.code;
        rc = err_set(err, code, "%s: %s", path, why.message);
    }
    return rc;
}

void manifest_release(struct manifest *manifest)
{
    json_decref(manifest->json);
    memset(manifest, 0, sizeof *manifest);
}
