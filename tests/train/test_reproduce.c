/* A version trained again from its manifest gives its checksum; what is no longer as it was is
 * named, and then nothing is trained. */
#include "train/reproduce.h"

#include <stddef.h>
#include <unistd.h>

#include "formats/checksums.h"
#include "train/run_fixture.h"

/* A version with everything that a manifest can name. */
static void make_version(struct run_fixture *f)
{
    fixture_new(f, FIXTURE_CONFIG(",\"lora_dropout\":0.1,\"checkpoint_every\":3"));
    f->spec.init_adapter_path = FIXTURE_INIT;
    f->spec.validation_path = FIXTURE_DATASET;
    f->spec.dataset_columns = "{\"text\":\"text\"}";
    fixture_run(f);
}

static void aim(const struct run_fixture *f, char scratch[FS_PATH_BYTES_MAX],
                struct reproduce_spec *spec)
{
    struct err err = {0};
    assert_ok(fs_join(scratch, f->dir, "scratch", &err), &err);
    *spec = (struct reproduce_spec){.version_dir = f->output,
                                    .base_path = FIXTURE_BASE,
                                    .dataset_path = FIXTURE_DATASET,
                                    .validation_path = FIXTURE_DATASET,
                                    .init_adapter_path = FIXTURE_INIT,
                                    .scratch_dir = scratch,
                                    .source_revision = "another",
                                    .threads = 2,
                                    .isa = "ref"};
}

static void test_the_same_bytes_again(void **state)
{
    struct run_fixture f;
    struct reproduce_spec spec;
    struct reproduce_result result;
    struct err err = {0};
    char scratch[FS_PATH_BYTES_MAX];
    (void)state;
    make_version(&f);
    aim(&f, scratch, &spec);
    assert_ok(train_reproduce(&spec, NULL, &result, &err), &err);
    assert_true(result.pass);
    assert_int_equal(result.n_differences, 0);
    assert_string_equal(result.expected, f.result.checksum);
    assert_string_equal(result.actual, f.result.checksum);
    assert_int_equal(result.steps, FIXTURE_STEPS);
    fixture_free(&f);
}

/* A stopped reproduction goes on where it was. */
static void test_stopped_and_taken_up(void **state)
{
    struct run_fixture f;
    struct reproduce_spec spec;
    struct reproduce_result result;
    struct err err = {0};
    char scratch[FS_PATH_BYTES_MAX];
    (void)state;
    make_version(&f);
    aim(&f, scratch, &spec);
    f.polls = 0;
    f.stop = TRAIN_CHECKPOINT_AND_STOP;
    f.stop_at_poll = 40; /* past the first evaluation, within the steps */
    assert_err(train_reproduce(&spec, &f.hooks, &result, &err), &err, ERR_CLOSED);
    err_clear(&err);
    assert_ok(train_reproduce(&spec, &f.hooks, &result, &err), &err);
    assert_true(result.pass);
    assert_non_null(strstr(f.notes, "resumed from step"));
    fixture_free(&f);
}

static void edit_manifest(const struct run_fixture *f, const char *from, const char *to)
{
    struct err err = {0};
    struct buf text;
    char path[FS_PATH_BYTES_MAX];
    buf_init(&text, 1 << 20);
    assert_ok(fs_join(path, f->output, "config.json", &err), &err);
    assert_ok(fs_read_file(path, 1 << 20, &text, &err), &err);
    char *at = strstr(text.data, from);
    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
    assert_ok(fs_write_file(path, text.data, text.len, &err), &err);
    buf_release(&text);
}

static void test_what_differs_is_named(void **state)
{
    static const struct {
        const char *what;
        size_t member; /* of the spec, to be `path` */
        const char *path;
        const char *says;
    } rows[] = {
        {"no base", offsetof(struct reproduce_spec, base_path), NULL, "base model: the one of"},
        {"another base", offsetof(struct reproduce_spec, base_path), FIXTURE_INIT,
         "base model: the manifest says sha256"},
        {"no dataset", offsetof(struct reproduce_spec, dataset_path), "/nowhere",
         "dataset: the one of sha256"},
        {"another dataset", offsetof(struct reproduce_spec, dataset_path), FIXTURE_INIT,
         "dataset: the manifest says sha256"},
        {"another validation set", offsetof(struct reproduce_spec, validation_path), FIXTURE_INIT,
         "validation dataset: the manifest says"},
        {"no first adapter", offsetof(struct reproduce_spec, init_adapter_path), NULL,
         "the adapter that it went on from: the one of"},
    };
    struct run_fixture f;
    struct reproduce_result result;
    struct reproduce_spec spec;
    struct err err = {0};
    char scratch[FS_PATH_BYTES_MAX];
    (void)state;
    make_version(&f);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        aim(&f, scratch, &spec);
        memcpy((char *)&spec + rows[i].member, &rows[i].path, sizeof rows[i].path);
        assert_ok(train_reproduce(&spec, NULL, &result, &err), &err);
        assert_false(result.pass);
        if (result.n_differences != 1 || strstr(result.differences[0], rows[i].says) == NULL) {
            fail_msg("%s: %d \"%s\"", rows[i].what, result.n_differences, result.differences[0]);
        }
        assert_string_equal(result.actual, "");
    }
    fixture_free(&f);
}

/* Another seed in the manifest: the files are no longer those that were published, which is seen
 * before anything is trained; with fitting checksums the training itself tells. */
static void test_a_changed_manifest(void **state)
{
    struct run_fixture f;
    struct reproduce_spec spec;
    struct reproduce_result result;
    struct err err = {0};
    char scratch[FS_PATH_BYTES_MAX], path[FS_PATH_BYTES_MAX];
    (void)state;
    make_version(&f);
    aim(&f, scratch, &spec);
    edit_manifest(&f, "\"learning_rate\":0.005", "\"learning_rate\":0.004");
    assert_ok(train_reproduce(&spec, NULL, &result, &err), &err);
    assert_false(result.pass);
    assert_non_null(strstr(result.differences[0], "the version's own files"));
    assert_ok(fs_join(path, f.output, "checksum.sha256", &err), &err);
    assert_int_equal(unlink(path), 0);
    static const char *const files[] = {"adapter.safetensors", "config.json"};
    assert_ok(checksums_write(f.output, files, 2, &err), &err);
    assert_ok(train_reproduce(&spec, NULL, &result, &err), &err);
    assert_false(result.pass);
    assert_string_not_equal(result.actual, "");
    assert_string_not_equal(result.actual, result.expected);
    assert_non_null(strstr(result.differences[0], "source revision"));
    assert_non_null(strstr(result.differences[1], "lora_a: differs by up to"));
    fixture_free(&f);
}

static void test_another_numerics_version(void **state)
{
    struct run_fixture f;
    struct reproduce_spec spec;
    struct reproduce_result result;
    struct err err = {0};
    char scratch[FS_PATH_BYTES_MAX];
    (void)state;
    make_version(&f);
    aim(&f, scratch, &spec);
    edit_manifest(&f, "\"numerics_version\":1", "\"numerics_version\":9");
    assert_ok(train_reproduce(&spec, NULL, &result, &err), &err);
    assert_false(result.pass);
    assert_non_null(strstr(result.differences[0], "numerics version: the manifest says 9"));
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_bytes_again),
        cmocka_unit_test(test_stopped_and_taken_up),
        cmocka_unit_test(test_what_differs_is_named),
        cmocka_unit_test(test_a_changed_manifest),
        cmocka_unit_test(test_another_numerics_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
