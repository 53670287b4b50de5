/* A version's manifest, a folder's checksums and a base's digest: round trips, and one row for
 * every kind of damage. */
#include "formats/manifest.h"

#include <math.h>

#include "base/hash.h"
#include "formats/checksums.h"
#include "formats/model_digest.h"
#include "test.h"

static void put(const char *dir, const char *name, const char *text)
{
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    assert_ok(fs_join(path, dir, name, &err), &err);
    assert_ok(fs_write_file(path, text, strlen(text), &err), &err);
}

static struct manifest sample(void)
{
    struct manifest m = {.model = "harbour",
                         .version = "1.0.0",
                         .base_model = "tiny",
                         .base_sha256 = "aa",
                         .dataset_sha256 = "bb",
                         .adapter_sha256 = "cc",
                         .engine = "native",
                         .date = "2026-01-31",
                         .chat_template = "{{ messages }}\n",
                         .numerics_version = 1,
                         .lora_scale = 2.5,
                         .eos_ids = {2, 7},
                         .n_eos = 2,
                         .training = {.steps = 9,
                                      .best_step = 3,
                                      .first_loss = 2.5,
                                      .final_loss = 0.1,
                                      .val_loss = NAN,
                                      .best_val_loss = NAN,
                                      .rows = 4,
                                      .targets = 11}};
    train_config_defaults(&m.config);
    m.config.lora_rank = 8;
    return m;
}

static void test_round_trip(void **state)
{
    struct manifest m = sample(), back;
    struct err err = {0};
    char dir[FS_PATH_BYTES_MAX];
    (void)state;
    test_dir_make(dir);
    assert_ok(manifest_write(&m, dir, &err), &err);
    assert_ok(manifest_read(&back, dir, &err), &err);
    assert_string_equal(back.model, m.model);
    assert_string_equal(back.base_sha256, m.base_sha256);
    assert_string_equal(back.chat_template, m.chat_template);
    assert_null(back.validation_sha256);
    assert_null(back.source_revision);
    assert_true(back.lora_scale == 2.5);
    assert_int_equal(back.numerics_version, 1);
    assert_int_equal(back.config.lora_rank, 8);
    assert_int_equal(back.n_eos, 2);
    assert_int_equal(back.eos_ids[1], 7);
    assert_int_equal(back.training.steps, 9);
    assert_true(back.training.final_loss == 0.1 && isnan(back.training.val_loss));
    manifest_release(&back);
    test_dir_remove(dir);
}

/* The sample with `config` in place of its own, read back: what it publishes. */
static enum train_publish published_by(const char *config)
{
    struct manifest m = sample(), back;
    struct err err = {0};
    char dir[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    test_dir_make(dir);
    assert_ok(manifest_write(&m, dir, &err), &err);
    snprintf(path, sizeof path, "%s/config.json", dir);
    json_t *json = json_load_file(path, 0, NULL);
    json_t *other = json_loads(config, 0, NULL);
    assert_true(json != NULL && json_object_set_new(json, "config", other) == 0);
    assert_int_equal(json_dump_file(json, path, 0), 0);
    json_decref(json);
    assert_ok(manifest_read(&back, dir, &err), &err);
    const enum train_publish publish = back.config.publish;
    manifest_release(&back);
    test_dir_remove(dir);
    return publish;
}

/* Runs of a manifest that does not know the key have to repeat as they were. */
static void test_what_older_manifests_published(void **state)
{
    (void)state;
    assert_int_equal(published_by("{}"), TRAIN_PUBLISH_LAST);
    assert_int_equal(published_by("{\"early_stopping_patience\":2}"), TRAIN_PUBLISH_BEST);
    assert_int_equal(published_by("{\"publish\":\"best\"}"), TRAIN_PUBLISH_BEST);
}

static void test_bad_manifests(void **state)
{
    static const struct {
        const char *what, *text;
        enum err_code code;
    } rows[] = {
        {"empty", "", ERR_CORRUPT},
        {"no JSON", "{oops", ERR_CORRUPT},
        {"no object", "[]", ERR_CORRUPT},
        {"another version", "{\"manifest\": 99}", ERR_UNSUPPORTED},
        {"nothing in it", "{\"manifest\": 1}", ERR_CORRUPT},
        {"a name that is a number", "{\"manifest\": 1, \"model\": 3}", ERR_CORRUPT},
    };
    char dir[FS_PATH_BYTES_MAX];
    struct manifest m;
    struct err err = {0};
    (void)state;
    test_dir_make(dir);
    assert_err(manifest_read(&m, dir, &err), &err, ERR_NOT_FOUND);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put(dir, MANIFEST_FILE, rows[i].text);
        if (manifest_read(&m, dir, &err) != -(int)rows[i].code) {
            fail_msg("%s: %s", rows[i].what, err.message);
        }
        err_clear(&err);
    }
    test_dir_remove(dir);
}

static void test_failed_allocations(void **state)
{
    struct manifest m = sample();
    char dir[FS_PATH_BYTES_MAX];
    struct err err = {0};
    (void)state;
    test_dir_make(dir);
    assert_ok(manifest_write(&m, dir, &err), &err);
    for (uint64_t n = 1;; n++) {
        struct manifest back;
        struct err why = {0};
        const size_t before = mem_used();
        fault_arm(FAULT_MALLOC, n, false);
        const int rc = manifest_read(&back, dir, &why);
        fault_disarm();
        if (rc == 0) {
            manifest_release(&back);
        }
        assert_int_equal(mem_used(), before);
        if (!fault_fired()) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ERR_NOMEM);
    }
    test_dir_remove(dir);
}

static void test_checksums(void **state)
{
    static const char *const names[] = {"a", "b"};
    char dir[FS_PATH_BYTES_MAX];
    struct err err = {0};
    (void)state;
    test_dir_make(dir);
    assert_err(checksums_verify(dir, &err), &err, ERR_NOT_FOUND);
    put(dir, "a", "one");
    put(dir, "b", "two");
    assert_ok(checksums_write(dir, names, 2, &err), &err);
    assert_ok(checksums_verify(dir, &err), &err);
    put(dir, "b", "three");
    assert_err(checksums_verify(dir, &err), &err, ERR_CORRUPT);
    test_dir_remove(dir);
}

static void test_digest_of_a_folder(void **state)
{
    char dir[FS_PATH_BYTES_MAX], a[SHA256_HEX_BYTES], b[SHA256_HEX_BYTES];
    struct err err = {0};
    (void)state;
    test_dir_make(dir);
    put(dir, "config.json", "{}");
    put(dir, "model.safetensors", "weights");
    assert_ok(model_digest(dir, a, &err), &err);
    put(dir, ".hidden.json", "x");
    put(dir, "notes.md", "x");
    assert_ok(model_digest(dir, b, &err), &err);
    assert_string_equal(a, b);
    put(dir, "model.safetensors", "weighty");
    assert_ok(model_digest(dir, b, &err), &err);
    assert_string_not_equal(a, b);
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_bad_manifests),
        cmocka_unit_test(test_what_older_manifests_published),
        cmocka_unit_test(test_failed_allocations),
        cmocka_unit_test(test_checksums),
        cmocka_unit_test(test_digest_of_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
