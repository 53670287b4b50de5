/* Whole runs on a tiny model: the losses of PEFT, the same bytes however they are made, and what a
 * run leaves behind when it does not end well. */
#include "formats/checksums.h"
#include "formats/manifest.h"
#include "formats/model_digest.h"
#include "kernels/kernels.h"
#include "train/run_fixture.h"

/* fp32 both, in another order of summation: ten steps stay within this. */
static const double loss_tolerance = 2e-5, norm_tolerance = 1e-4;

static void test_golden_losses(void **state)
{
    struct run_fixture f;
    (void)state;
    json_t *golden = fixture_json("golden.json");
    fixture_new(&f, FIXTURE_CONFIG(FIXTURE_GOLDEN));
    f.spec.init_adapter_path = FIXTURE_INIT;
    fixture_run(&f);
    assert_int_equal(f.n_seen, FIXTURE_STEPS);
    for (int i = 0; i < FIXTURE_STEPS; i++) {
        const struct train_progress *p = &f.seen[i];
        const double loss = json_real_value(json_array_get(json_object_get(golden, "loss"), i));
        const double norm =
            json_real_value(json_array_get(json_object_get(golden, "grad_norm"), i));
        const double rate =
            json_real_value(json_array_get(json_object_get(golden, "learning_rate"), i));
        if (fabs(p->loss - loss) > loss_tolerance * loss ||
            fabs(p->grad_norm - norm) > norm_tolerance * norm ||
            fabs(p->learning_rate - rate) > 1e-15) {
            fail_msg("step %d: loss %.9g (PEFT %.9g), norm %.9g (%.9g), rate %.9g (%.9g)", i + 1,
                     p->loss, loss, p->grad_norm, norm, p->learning_rate, rate);
        }
    }
    assert_true(f.result.first_loss == f.seen[0].loss);
    assert_true(f.result.final_loss == f.seen[FIXTURE_STEPS - 1].loss);
    assert_int_equal(f.result.rows, 23);
    json_decref(golden);
    fixture_free(&f);
}

/* --- the same bytes --------------------------------------------------------------------------- */

static void test_same_bits(void **state)
{
    static const struct {
        const char *what, *config, *isa;
        int threads;
    } rows[] = {
        {"two threads", FIXTURE_CONFIG(",\"lora_dropout\":0.1"), "best", 2},
        {"four threads", FIXTURE_CONFIG(",\"lora_dropout\":0.1"), "best", 4},
        {"one row at a time", FIXTURE_CONFIG(",\"lora_dropout\":0.1,\"packing\":false"), "best", 1},
        {"a checkpoint every step", FIXTURE_CONFIG(",\"lora_dropout\":0.1,\"checkpoint_every\":1"),
         "best", 1},
        {"evaluated at every step", FIXTURE_CONFIG(",\"lora_dropout\":0.1,\"eval_every\":1"),
         "best", 1},
    };
    char want[SHA256_HEX_BYTES];
    (void)state;
    fixture_checksum(FIXTURE_CONFIG(",\"lora_dropout\":0.1"), want);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct run_fixture f;
        fixture_new(&f, rows[i].config);
        f.spec.threads = rows[i].threads;
        f.spec.isa = rows[i].isa;
        fixture_run(&f);
        if (strcmp(f.result.checksum, want) != 0) {
            fail_msg("%s gives other bytes", rows[i].what);
        }
        fixture_free(&f);
    }
}

/* The adapter's file on every path that this machine has, of a base in fp32 and of one in 4 bits.
 */
static void test_same_bits_on_every_path(void **state)
{
    static const char *const configs[] = {
        FIXTURE_CONFIG(",\"lora_dropout\":0.1,\"lora_targets\":\"all-linear\""),
        FIXTURE_CONFIG(",\"quantization\":\"4bit\""),
    };
    (void)state;
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        char want[SHA256_HEX_BYTES] = "";
        for (const char *const *isa = kernels_available(); *isa != NULL; isa++) {
            print_message("config %zu: %s\n", i, *isa);
            for (int threads = 1; threads <= 4; threads *= 2) {
                struct run_fixture f;
                fixture_new(&f, configs[i]);
                f.spec.threads = threads;
                f.spec.isa = *isa;
                fixture_run(&f);
                if (want[0] == '\0') {
                    memcpy(want, f.result.checksum, sizeof want);
                } else if (strcmp(f.result.checksum, want) != 0) {
                    fail_msg("config %zu, %s, %d threads: other bytes", i, *isa, threads);
                }
                fixture_free(&f);
            }
        }
    }
}

static void test_another_seed_gives_other_bits(void **state)
{
    char a[SHA256_HEX_BYTES], b[SHA256_HEX_BYTES];
    struct run_fixture f;
    (void)state;
    fixture_checksum(FIXTURE_CONFIG(""), a);
    fixture_new(&f, FIXTURE_CONFIG(""));
    f.config.seed = 8;
    fixture_run(&f);
    memcpy(b, f.result.checksum, sizeof b);
    assert_string_not_equal(a, b);
    fixture_free(&f);
}

/* Stops at every poll in turn, in the middle of steps and evaluations too, and goes on. */
static void test_stop_anywhere_and_resume(void **state)
{
    static const char config[] =
        FIXTURE_CONFIG(",\"eval_every\":2,\"early_stopping_patience\":50,\"packing\":false,"
                       "\"checkpoint_every\":4");
    char want[SHA256_HEX_BYTES];
    int stopped = 0;
    (void)state;
    fixture_checksum(config, want);
    for (int at = 1;; at++) {
        struct run_fixture f;
        struct err err = {0};
        fixture_new(&f, config);
        f.stop = at % 2 == 0 ? TRAIN_CHECKPOINT_AND_STOP : TRAIN_CANCEL;
        f.stop_at_poll = at;
        const int rc = train_run(&f.spec, &f.hooks, &f.result, &err);
        if (rc == 0) {
            assert_string_equal(f.result.checksum, want);
            fixture_free(&f);
            break;
        }
        assert_int_equal(rc, at % 2 == 0 ? -ERR_CLOSED : -ERR_CANCELLED);
        assert_false(fs_exists(f.output));
        const int64_t step = train_checkpoint_step(f.checkpoints);
        assert_int_equal(step, f.n_seen > 0
                                   ? f.seen[f.n_seen - 1].step + (step > f.seen[f.n_seen - 1].step)
                                   : step);
        f.stop_at_poll = 0;
        fixture_run(&f);
        if (strcmp(f.result.checksum, want) != 0) {
            fail_msg("stopped at poll %d (step %d): other bytes", at, (int)step);
        }
        assert_int_equal(f.result.resumed_from_step, step);
        stopped++;
        fixture_free(&f);
    }
    assert_true(stopped > FIXTURE_STEPS);
}

/* A worker that is no longer the job's leaves its folder to the one that is. */
static void test_an_abandoned_run_writes_nothing(void **state)
{
    static const char config[] = FIXTURE_CONFIG(FIXTURE_GOLDEN ",\"quantization\":\"4bit\"");
    struct run_fixture f;
    struct err err = {0};
    char copy[FS_PATH_BYTES_MAX];
    (void)state;
    fixture_new(&f, config);
    assert_ok(fs_join(copy, f.checkpoints, "base-4bit", &err), &err);
    f.stop = TRAIN_ABANDON;
    f.stop_at_poll = fixture_polls(config) - 3;
    assert_err(train_run(&f.spec, &f.hooks, &f.result, &err), &err, ERR_CANCELLED);
    assert_true(f.n_seen > 2);
    assert_int_equal(train_checkpoint_step(f.checkpoints), 0);
    assert_true(fs_exists(copy));
    fixture_free(&f);
}

/* One stop after another within one job. */
static void test_stop_at_every_step(void **state)
{
    char want[SHA256_HEX_BYTES];
    struct run_fixture f;
    int rc, starts = 0;
    (void)state;
    fixture_checksum(FIXTURE_CONFIG(""), want);
    fixture_new(&f, FIXTURE_CONFIG(""));
    f.stop = TRAIN_CHECKPOINT_AND_STOP;
    do {
        struct err err = {0};
        f.polls = 0;
        f.stop_at_poll = 8; /* one for the rows, the others within two or three steps */
        rc = train_run(&f.spec, &f.hooks, &f.result, &err);
        assert_true(rc == 0 || rc == -ERR_CLOSED);
        assert_true(++starts < 50);
    } while (rc != 0);
    assert_true(starts > 2);
    assert_string_equal(f.result.checksum, want);
    fixture_free(&f);
}

/* --- what a run does -------------------------------------------------------------------------- */

static void test_version_folder(void **state)
{
    static const char *const files[] = {"adapter.safetensors", "adapters.safetensors",
                                        "adapter_config.json", "config.json", CHECKSUMS_FILE};
    struct run_fixture f;
    struct manifest m;
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX], sha256[SHA256_HEX_BYTES];
    (void)state;
    fixture_new(&f, FIXTURE_CONFIG(",\"use_rslora\":true"));
    fixture_run(&f);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        assert_ok(fs_join(path, f.output, files[i], &err), &err);
        assert_true(fs_exists(path));
    }
    assert_ok(checksums_verify(f.output, &err), &err);
    assert_ok(manifest_read(&m, f.output, &err), &err);
    assert_string_equal(m.adapter_sha256, f.result.checksum);
    assert_string_equal(m.model, "harbour");
    assert_string_equal(m.version, "1.0.0");
    assert_string_equal(m.base_model, "tiny");
    assert_ok(model_digest(FIXTURE_BASE, sha256, &err), &err);
    assert_string_equal(m.base_sha256, sha256);
    assert_ok(sha256_file_hex(FIXTURE_DATASET, sha256, &err), &err);
    assert_string_equal(m.dataset_sha256, sha256);
    assert_string_equal(m.engine, "native");
    assert_string_equal(m.date, "2026-01-31");
    assert_non_null(strstr(m.chat_template, "<|im_start|>"));
    assert_true(m.lora_scale == 4.0);
    assert_int_equal(m.config.lora_rank, 4);
    assert_int_equal(m.n_eos, 1);
    assert_int_equal(m.training.steps, FIXTURE_STEPS);
    manifest_release(&m);
    fixture_free(&f);
}

/* Everything is there before the first step; steps, evaluations and checkpoints keep nothing. */
static void test_memory_is_planned(void **state)
{
    struct run_fixture f;
    uint64_t bytes = 0;
    struct err err = {0};
    (void)state;
    fixture_new(&f, FIXTURE_CONFIG(",\"checkpoint_every\":3,\"early_stopping_patience\":50,"
                                   "\"eval_every\":1"));
    const size_t before = mem_used();
    fixture_run(&f);
    assert_int_equal(f.used_at_first, f.used_at_most);
    assert_int_equal(mem_used(), before);
    assert_ok(train_estimate(FIXTURE_BASE, &f.config, 0, &bytes, &err), &err);
    assert_true(bytes > 0);
    fixture_free(&f);
}

/* The copy of the base that a QLoRA run trains on goes with the run, however that ends; one that is
 * only interrupted keeps it, unless that was while it was made. */
static void test_the_quantised_copy_goes(void **state)
{
    static const char config[] = FIXTURE_CONFIG(FIXTURE_GOLDEN ",\"quantization\":\"4bit\"");
    const int quantising = fixture_polls(config) - fixture_polls(FIXTURE_CONFIG(FIXTURE_GOLDEN));
    struct run_fixture f;
    struct err err = {0};
    char copy[FS_PATH_BYTES_MAX];
    (void)state;
    assert_true(quantising > 0);
    fixture_new(&f, config);
    assert_ok(fs_join(copy, f.checkpoints, "base-4bit", &err), &err);
    f.stop = TRAIN_CHECKPOINT_AND_STOP;
    f.stop_at_poll = 1;
    assert_err(train_run(&f.spec, &f.hooks, &f.result, &err), &err, ERR_CLOSED);
    assert_false(fs_exists(copy));
    f.polls = 0;
    f.stop_at_poll = quantising + 20;
    assert_err(train_run(&f.spec, &f.hooks, &f.result, &err), &err, ERR_CLOSED);
    assert_true(fs_exists(copy));
    f.polls = 0;
    f.stop_at_poll = 3;
    f.stop = TRAIN_CANCEL;
    assert_err(train_run(&f.spec, &f.hooks, &f.result, &err), &err, ERR_CANCELLED);
    assert_false(fs_exists(copy));
    f.stop_at_poll = 0;
    fixture_run(&f);
    assert_false(fs_exists(copy));
    fixture_free(&f);
}

struct counted {
    uint64_t after_first, after_last;
};

static void count_allocations(void *ctx, const struct train_progress *progress, bool log)
{
    struct counted *counted = ctx;
    (void)log;
    if (progress->step == 1) {
        counted->after_first = fault_seen(FAULT_MALLOC);
    }
    counted->after_last = fault_seen(FAULT_MALLOC);
}

/* Not one call of the allocator between the first step and the last, whatever the method: dropout,
 * validation and its best adapter included. Only checkpoints allocate. */
static void test_steps_allocate_nothing(void **state)
{
    static const char *const configs[] = {
        FIXTURE_CONFIG(FIXTURE_GOLDEN ",\"checkpoint_every\":1000"),
        FIXTURE_CONFIG(FIXTURE_GOLDEN ",\"checkpoint_every\":1000,\"lora_dropout\":0.2,"
                                      "\"lora_targets\":\"all-linear\",\"packing\":false"),
        FIXTURE_CONFIG(",\"checkpoint_every\":1000,\"val_fraction\":0.2,\"eval_every\":1,"
                       "\"early_stopping_patience\":100"),
    };
    (void)state;
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        struct run_fixture f;
        struct counted counted = {0};
        struct err err = {0};
        fixture_new(&f, configs[i]);
        const struct train_hooks hooks = {.ctx = &counted, .progress = count_allocations};
        fault_arm(FAULT_MALLOC, UINT64_MAX, false);
        assert_ok(train_run(&f.spec, &hooks, &f.result, &err), &err);
        fault_disarm();
        assert_true(counted.after_first > 0);
        assert_int_equal(counted.after_last, counted.after_first);
        assert_true(fault_seen(FAULT_MALLOC) > counted.after_last); /* it is published */
        fixture_free(&f);
    }
}

static void overshoot(struct train_config *config, int64_t steps)
{
    config->learning_rate = 0.1;
    config->lr_schedule = TRAIN_CONSTANT;
    config->warmup_steps = 0;
    config->max_steps = steps;
}

/* What f published is the last adapter of a run that ends at that step. */
static void assert_ends_at(const struct run_fixture *f, int64_t step)
{
    struct run_fixture other;
    fixture_new(&other, FIXTURE_CONFIG(",\"publish\":\"last\""));
    overshoot(&other.config, step);
    fixture_run(&other);
    assert_string_equal(other.result.checksum, f->result.checksum);
    fixture_free(&other);
}

static void test_early_stopping_keeps_the_best(void **state)
{
    struct run_fixture f;
    struct err err = {0};
    struct manifest m;
    (void)state;
    /* A rate at which the tiny model soon forgets more than it learns. */
    fixture_new(&f, FIXTURE_CONFIG(",\"eval_every\":1,\"early_stopping_patience\":2"));
    overshoot(&f.config, 40);
    fixture_run(&f);
    assert_true(f.result.steps < 40);
    assert_non_null(strstr(f.notes, "stopped early at step"));
    assert_ok(manifest_read(&m, f.output, &err), &err);
    assert_int_equal(m.training.best_step, f.result.steps - 2);
    assert_true(m.training.best_val_loss <= m.training.val_loss);
    manifest_release(&m);

    assert_ends_at(&f, f.result.steps - 2);
    fixture_free(&f);
}

static void test_the_best_is_published_unless_the_last_is_asked_for(void **state)
{
    struct run_fixture f;
    struct manifest m;
    struct err err = {0};
    (void)state;
    fixture_new(&f, FIXTURE_CONFIG(",\"eval_every\":1"));
    overshoot(&f.config, 12);
    fixture_run(&f);
    assert_int_equal(f.result.steps, 12);
    assert_ok(manifest_read(&m, f.output, &err), &err);
    assert_true(m.training.best_step < 12);
    assert_int_equal(f.result.best_step, m.training.best_step);
    assert_true(f.result.best_val_loss < f.result.val_loss);
    assert_true(f.result.best_val_perplexity < f.result.val_perplexity);
    assert_non_null(strstr(f.notes, "which validated best, is published"));
    assert_ends_at(&f, m.training.best_step);
    manifest_release(&m);
    fixture_free(&f);

    fixture_new(&f, FIXTURE_CONFIG(",\"eval_every\":1,\"publish\":\"last\""));
    overshoot(&f.config, 12);
    fixture_run(&f);
    assert_null(strstr(f.notes, "is published"));
    assert_ends_at(&f, 12);
    fixture_free(&f);
}

/* Every validation is told once, at its own step, also where a run was stopped in between: a series
 * has no points that nobody measured. */
static void test_a_validation_is_told_once(void **state)
{
    static const int validated_at[] = {0, 4, 8, FIXTURE_STEPS};
    (void)state;
    for (int at = 3; at < 30; at++) {
        struct run_fixture f;
        struct err err = {0};
        int told[FIXTURE_STEPS + 1] = {0};
        fixture_new(&f, FIXTURE_CONFIG(",\"eval_every\":4,\"packing\":false"));
        f.stop = TRAIN_CHECKPOINT_AND_STOP;
        f.stop_at_poll = at;
        const int rc = train_run(&f.spec, &f.hooks, &f.result, &err);
        assert_true(rc == 0 || rc == -ERR_CLOSED);
        for (int part = 0; part < 2; part++) {
            for (int i = 0; i < f.n_seen; i++) {
                told[f.seen[i].step] += f.seen[i].validated;
            }
            if (part == 0) {
                /* A run that was stopped before its first step begins anew. */
                memset(told, 0, f.n_seen < 2 ? sizeof told : 0);
                fixture_run(&f);
            }
        }
        for (size_t i = 0; i < sizeof validated_at / sizeof validated_at[0] && rc != 0; i++) {
            assert_int_equal(told[validated_at[i]], 1);
            told[validated_at[i]] = 0;
        }
        for (int step = 0; step <= FIXTURE_STEPS && rc != 0; step++) {
            assert_int_equal(told[step], 0);
        }
        fixture_free(&f);
    }
}

static void test_validation_file(void **state)
{
    struct run_fixture f;
    (void)state;
    fixture_new(&f, FIXTURE_CONFIG(",\"eval_every\":5"));
    f.spec.validation_path = FIXTURE_DATASET;
    fixture_run(&f);
    assert_true(isfinite(f.result.best_val_loss));
    assert_non_null(strstr(f.notes, "23 to train on, 23 to validate with"));
    fixture_free(&f);
}

static void test_published_already(void **state)
{
    struct run_fixture f;
    struct err err = {0};
    char checksum[SHA256_HEX_BYTES];
    (void)state;
    fixture_new(&f, FIXTURE_CONFIG(""));
    fixture_run(&f);
    memcpy(checksum, f.result.checksum, sizeof checksum);
    fixture_run(&f); /* this very version: a run that died before it could say so */
    assert_int_equal(f.n_seen, 0);
    assert_string_equal(f.result.checksum, checksum);
    assert_int_equal(f.result.steps, FIXTURE_STEPS);
    f.config.seed = 99; /* another one */
    assert_err(train_run(&f.spec, &f.hooks, &f.result, &err), &err, ERR_CONFLICT);
    fixture_free(&f);
}

/* --- what goes wrong -------------------------------------------------------------------------- */

struct failure {
    const char *what;
    void (*arrange)(struct run_fixture *f);
    enum err_code code;
    const char *says;
};

static char bad_path[FS_PATH_BYTES_MAX];

static void put_dataset(struct run_fixture *f, const char *text)
{
    struct err err = {0};
    assert_ok(fs_join(bad_path, f->dir, "bad.jsonl", &err), &err);
    assert_ok(fs_write_file(bad_path, text, strlen(text), &err), &err);
    f->spec.dataset_path = bad_path;
}
static void not_json(struct run_fixture *f)
{
    put_dataset(f, "{\"text\": \"fine\"}\n{oops\n");
}
static void no_target(struct run_fixture *f)
{
    put_dataset(f, "{\"messages\": [{\"role\": \"user\", \"content\": \"hm\"}]}\n");
}
static void all_too_long(struct run_fixture *f)
{
    put_dataset(f, "{\"prompt\": \"a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e\","
                   " \"completion\": \"x\"}\n");
    f->config.max_seq_length = 8;
}
static void empty_file(struct run_fixture *f)
{
    put_dataset(f, "\n");
}
static void no_file(struct run_fixture *f)
{
    f->spec.dataset_path = "/nowhere/at/all.jsonl";
}
static void changed_dataset(struct run_fixture *f)
{
    f->spec.dataset_sha256 = "0000000000000000000000000000000000000000000000000000000000000000";
}
static void changed_base(struct run_fixture *f)
{
    f->spec.base_sha256 = "0000000000000000000000000000000000000000000000000000000000000000";
}
static void no_base(struct run_fixture *f)
{
    f->spec.base_path = "/nowhere/model.gguf";
}
static void diverges(struct run_fixture *f)
{
    f->config.learning_rate = 1e30;
}
static void diverges_unclipped(struct run_fixture *f)
{
    f->config.learning_rate = 1e30;
    f->config.max_grad_norm = 0;
}
static void no_room(struct run_fixture *f)
{
    f->spec.memory_bytes_max = 1000;
}
static void wrong_rank(struct run_fixture *f)
{
    f->config.lora_rank = 8;
    f->spec.init_adapter_path = FIXTURE_INIT;
}
static void wrong_precision(struct run_fixture *f)
{
    f->spec.base_path = "tests/fixtures/engine/serve/q4_1.gguf";
    f->config.quantization = TRAIN_8BIT;
}
static void bad_columns(struct run_fixture *f)
{
    f->spec.dataset_columns = "{\"question\": \"q\"}";
}
static void incomplete(struct run_fixture *f)
{
    f->spec.model_name = NULL;
}
static void cancelled(struct run_fixture *f)
{
    f->stop = TRAIN_CANCEL;
    f->stop_at_poll = 12;
}

static void test_failures(void **state)
{
    static const struct failure rows[] = {
        {"a row that is not JSON", not_json, ERR_INVALID, "bad.jsonl:2: not JSON"},
        {"a row without an answer", no_target, ERR_INVALID, "bad.jsonl:1: "},
        {"rows that are all too long", all_too_long, ERR_INVALID, "nothing to learn"},
        {"an empty file", empty_file, ERR_INVALID, "nothing to learn"},
        {"no dataset", no_file, ERR_NOT_FOUND, "/nowhere/at/all.jsonl"},
        {"a changed dataset", changed_dataset, ERR_CORRUPT, "changed since it was registered"},
        {"a changed base", changed_base, ERR_CORRUPT, "changed since it was imported"},
        {"no base", no_base, ERR_NOT_FOUND, "/nowhere/model.gguf"},
        {"a run that diverges", diverges, ERR_INVALID, "NaN/Inf loss detected at step "},
        {"one that clips", diverges, ERR_INVALID, "lower learning_rate or max_grad_norm, or"},
        {"one that does not clip", diverges_unclipped, ERR_INVALID,
         "lower learning_rate, set max_grad_norm to clip gradients, or"},
        {"no room", no_room, ERR_UNAVAILABLE, "0 MB are allowed"},
        {"a first adapter of another rank", wrong_rank, ERR_INVALID, "rank 4"},
        {"another precision", wrong_precision, ERR_UNSUPPORTED, "8bit"},
        {"unknown columns", bad_columns, ERR_UNPROCESSABLE, "question"},
        {"an incomplete spec", incomplete, ERR_INVALID, "incomplete"},
        {"a cancelled run", cancelled, ERR_CANCELLED, "cancelled at step"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct run_fixture f;
        struct err err = {0};
        fixture_new(&f, FIXTURE_CONFIG(""));
        rows[i].arrange(&f);
        const size_t before = mem_used();
        const int rc = train_run(&f.spec, &f.hooks, &f.result, &err);
        if (rc != -(int)rows[i].code || strstr(err.message, rows[i].says) == NULL) {
            fail_msg("%s: %d \"%s\"", rows[i].what, rc, err.message);
        }
        assert_int_equal(mem_used(), before);
        assert_false(fs_exists(f.output));
        fixture_free(&f);
    }
}

static void test_columns(void **state)
{
    struct run_fixture f;
    (void)state;
    fixture_new(&f, FIXTURE_CONFIG(""));
    put_dataset(&f, "{\"q\": \"one\", \"a\": \"two\"}\n{\"q\": \"three\", \"a\": \"four\"}\n");
    f.spec.dataset_columns = "{\"prompt\": \"q\", \"completion\": \"a\"}";
    fixture_run(&f);
    assert_int_equal(f.result.rows, 2);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_losses),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_same_bits_on_every_path),
        cmocka_unit_test(test_another_seed_gives_other_bits),
        cmocka_unit_test(test_stop_anywhere_and_resume),
        cmocka_unit_test(test_an_abandoned_run_writes_nothing),
        cmocka_unit_test(test_stop_at_every_step),
        cmocka_unit_test(test_version_folder),
        cmocka_unit_test(test_memory_is_planned),
        cmocka_unit_test(test_steps_allocate_nothing),
        cmocka_unit_test(test_the_quantised_copy_goes),
        cmocka_unit_test(test_early_stopping_keeps_the_best),
        cmocka_unit_test(test_the_best_is_published_unless_the_last_is_asked_for),
        cmocka_unit_test(test_a_validation_is_told_once),
        cmocka_unit_test(test_validation_file),
        cmocka_unit_test(test_published_already),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
