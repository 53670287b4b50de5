/* Checkpoints: what is written is read back bit for bit, the newest valid one is chosen, and every
 * kind of damage is passed over. */
#include "train/checkpoint.h"

#include "base/buf.h"
#include "train/run_fixture.h"

struct work {
    char dir[FS_PATH_BYTES_MAX];
    struct engine_model *model;
    struct engine_adapter *adapter;
    struct adamw adamw;
    float *best;
    struct checkpoint_parts parts;
    struct train_state state;
    int notes;
};

static void note(void *ctx, const char *line)
{
    struct work *w = ctx;
    assert_non_null(strstr(line, "passed over"));
    w->notes++;
}

static void work_new(struct work *w)
{
    const struct engine_options options = {.threads = 1, .isa = "best"};
    const struct engine_lora lora = {.rank = 2, .scale = 1.0f, .targets = 3};
    struct err err = {0};
    int n;
    memset(w, 0, sizeof *w);
    test_dir_make(w->dir);
    assert_ok(engine_model_open(&w->model, FIXTURE_BASE, &options, &err), &err);
    assert_ok(engine_adapter_new(&w->adapter, w->model, &lora, 3, &err), &err);
    const struct engine_tensor *tensors = engine_adapter_tensors(w->adapter, &n);
    assert_ok(adamw_init(&w->adamw, tensors_values(tensors, n), &err), &err);
    w->best = mem_calloc(w->adamw.n, sizeof *w->best);
    assert_non_null(w->best);
    for (size_t i = 0; i < w->adamw.n; i++) {
        w->adamw.m[i] = (float)i;
        w->adamw.v[i] = (float)i / 3.0f;
        w->best[i] = -(float)i;
    }
    w->parts = (struct checkpoint_parts){w->adapter, &w->adamw, w->best};
    w->state = (struct train_state){.step = 4,
                                    .epoch = 1,
                                    .row = 2,
                                    .evaluate = true,
                                    .stale = 3,
                                    .best_step = 2,
                                    .first_loss = 5.5,
                                    .loss = 1.0 / 3.0,
                                    .val_loss = NAN,
                                    .best_val_loss = 0.1,
                                    .date = "2026-01-31"};
}

static void work_free(struct work *w)
{
    mem_free(w->best);
    adamw_release(&w->adamw);
    engine_adapter_free(w->adapter);
    engine_model_free(w->model);
    test_dir_remove(w->dir);
}

static void write_step(struct work *w, int64_t step)
{
    struct err err = {0};
    w->state.step = step;
    assert_ok(checkpoint_write(w->dir, &w->state, &w->parts, "run", &err), &err);
}

static void test_round_trip(void **state)
{
    struct work w;
    struct train_state found;
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    int n;
    (void)state;
    work_new(&w);
    const size_t bytes = w.adamw.n * sizeof(float);
    struct engine_tensor *tensors = engine_adapter_tensors(w.adapter, &n);
    float *before = mem_calloc(w.adamw.n, sizeof *before), *after = mem_calloc(w.adamw.n, 4);
    tensors_gather(tensors, n, before);
    write_step(&w, 4);
    assert_ok(checkpoint_find(w.dir, "run", path, &found, note, &w, &err), &err);
    assert_int_equal(w.notes, 0);
    assert_int_equal(found.step, 4);
    assert_int_equal(found.epoch, 1);
    assert_int_equal(found.row, 2);
    assert_true(found.evaluate);
    assert_int_equal(found.stale, 3);
    assert_int_equal(found.best_step, 2);
    assert_true(found.first_loss == 5.5 && found.loss == 1.0 / 3.0 && isnan(found.val_loss) &&
                found.best_val_loss == 0.1);
    assert_string_equal(found.date, "2026-01-31");

    memset(tensors[0].data, 0, 16);
    memset(w.adamw.m, 0, bytes);
    memset(w.adamw.v, 0, bytes);
    memset(w.best, 0, bytes);
    assert_ok(checkpoint_read(path, w.model, 1.0f, &w.parts, &err), &err);
    tensors_gather(tensors, n, after);
    assert_memory_equal(before, after, bytes);
    for (size_t i = 0; i < w.adamw.n; i++) {
        assert_true(w.adamw.m[i] == (float)i && w.adamw.v[i] == (float)i / 3.0f &&
                    w.best[i] == -(float)i);
    }
    mem_free(before);
    mem_free(after);
    work_free(&w);
}

static void test_only_the_newest_are_kept(void **state)
{
    struct work w;
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    (void)state;
    work_new(&w);
    write_step(&w, 400); /* another run's, that never came as far */
    for (int64_t step = 9; step <= 12; step++) {
        write_step(&w, step);
        checkpoint_prune(w.dir, step, 2);
    }
    for (int64_t step = 9; step <= 12; step++) {
        char name[32];
        snprintf(name, sizeof name, "step-%010d", (int)step);
        assert_ok(fs_join(path, w.dir, name, &err), &err);
        assert_int_equal(fs_exists(path), step > 10);
    }
    assert_int_equal(train_checkpoint_step(w.dir), 12);
    work_free(&w);
}

static void test_none(void **state)
{
    struct train_state found;
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX], dir[FS_PATH_BYTES_MAX];
    (void)state;
    assert_ok(checkpoint_find("/nowhere/at/all", NULL, path, &found, NULL, NULL, &err), &err);
    assert_string_equal(path, "");
    assert_int_equal(train_checkpoint_step(test_dir_make(dir)), 0);
    test_dir_remove(dir);
}

/* --- damage ----------------------------------------------------------------------------------- */

static void spoil(const char *dir, const char *file, const char *text)
{
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    assert_ok(fs_join(path, dir, file, &err), &err);
    if (text == NULL) {
        assert_ok(fs_remove_file(path, &err), &err);
    } else {
        assert_ok(fs_write_file(path, text, strlen(text), &err), &err);
    }
}

static void test_damaged_ones_are_passed_over(void **state)
{
    static const struct {
        const char *what, *file, *text;
    } rows[] = {
        {"no marker", "checksum.sha256", NULL},
        {"an empty marker", "checksum.sha256", ""},
        {"a marker that is cut off", "checksum.sha256", "0123"},
        {"a marker that leaves the folder", "checksum.sha256",
         "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef  ../x\n"},
        {"no adapter", "adapter.safetensors", NULL},
        {"another adapter", "adapter.safetensors", "x"},
        {"no moments", "moments.safetensors", NULL},
        {"other moments", "moments.safetensors", "x"},
        {"no state", "state.json", NULL},
        {"another state", "state.json", "{}"},
    };
    struct work w;
    (void)state;
    work_new(&w);
    write_step(&w, 5);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct train_state found;
        struct err err = {0};
        char path[FS_PATH_BYTES_MAX];
        write_step(&w, 8);
        assert_ok(fs_join(path, w.dir, "step-0000000008", &err), &err);
        spoil(path, rows[i].file, rows[i].text);
        w.notes = 0;
        assert_ok(checkpoint_find(w.dir, "run", path, &found, note, &w, &err), &err);
        if (found.step != 5 || w.notes != 1) {
            fail_msg("%s: step %d, %d notes", rows[i].what, (int)found.step, w.notes);
        }
    }
    work_free(&w);
}

static void test_another_run_is_passed_over(void **state)
{
    struct work w;
    struct train_state found;
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    (void)state;
    work_new(&w);
    write_step(&w, 5);
    assert_ok(checkpoint_find(w.dir, "another", path, &found, note, &w, &err), &err);
    assert_int_equal(found.step, 0);
    assert_string_equal(path, "");
    assert_int_equal(w.notes, 1);
    work_free(&w);
}

static void test_other_shapes_are_refused(void **state)
{
    struct work w;
    struct engine_adapter *larger = NULL;
    const struct engine_lora lora = {.rank = 3, .scale = 1.0f, .targets = 3};
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    (void)state;
    work_new(&w);
    write_step(&w, 5);
    assert_ok(fs_join(path, w.dir, "step-0000000005", &err), &err);
    assert_ok(engine_adapter_new(&larger, w.model, &lora, 3, &err), &err);
    const struct checkpoint_parts parts = {larger, &w.adamw, w.best};
    assert_err(checkpoint_read(path, w.model, 1.0f, &parts, &err), &err, ERR_INVALID);
    w.adamw.n--;
    assert_err(checkpoint_read(path, w.model, 1.0f, &w.parts, &err), &err, ERR_CORRUPT);
    w.adamw.n++;
    engine_adapter_free(larger);
    work_free(&w);
}

static void test_failed_allocations_while_writing(void **state)
{
    struct work w;
    (void)state;
    work_new(&w);
    for (uint64_t n = 1;; n++) {
        struct err err = {0};
        const size_t before = mem_used();
        fault_arm(FAULT_MALLOC, n, false);
        const int rc = checkpoint_write(w.dir, &w.state, &w.parts, "run", &err);
        fault_disarm();
        assert_int_equal(mem_used(), before);
        assert_int_equal(rc, fault_fired() ? -ERR_NOMEM : 0);
        if (!fault_fired()) {
            break;
        }
    }
    work_free(&w);
}

static void test_failed_allocations_while_reading(void **state)
{
    struct work w;
    (void)state;
    work_new(&w);
    write_step(&w, 4);
    for (uint64_t n = 1;; n++) {
        struct train_state found;
        struct err err = {0};
        char path[FS_PATH_BYTES_MAX];
        const size_t before = mem_used();
        fault_arm(FAULT_MALLOC, n, false);
        int rc = checkpoint_find(w.dir, "run", path, &found, NULL, NULL, &err);
        if (rc == 0) {
            rc = checkpoint_read(path, w.model, 1.0f, &w.parts, &err);
        }
        fault_disarm();
        assert_int_equal(mem_used(), before);
        assert_int_equal(rc, fault_fired() ? -ERR_NOMEM : 0);
        if (!fault_fired()) {
            break;
        }
    }
    work_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_only_the_newest_are_kept),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_damaged_ones_are_passed_over),
        cmocka_unit_test(test_another_run_is_passed_over),
        cmocka_unit_test(test_other_shapes_are_refused),
        cmocka_unit_test(test_failed_allocations_while_writing),
        cmocka_unit_test(test_failed_allocations_while_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
