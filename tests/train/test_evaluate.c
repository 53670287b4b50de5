/* Evaluations: the loss is the trainer's and PEFT's, answers are those of greedy decoding, and a
 * model that has learnt its rows by heart matches them. */
#include "train/evaluate.h"

#include "formats/manifest.h"
#include "train/run_fixture.h"

static int evaluate(const struct evaluate_spec *with, struct evaluate_result *result,
                    struct err *err)
{
    struct evaluate_spec spec = *with;
    spec.base_id = "tiny";
    spec.base_path = spec.base_path != NULL ? spec.base_path : FIXTURE_BASE;
    spec.dataset_path = spec.dataset_path != NULL ? spec.dataset_path : FIXTURE_DATASET;
    spec.max_seq_length = spec.max_seq_length > 0 ? spec.max_seq_length : 96;
    spec.mask_prompt = true;
    spec.threads = spec.threads > 0 ? spec.threads : 1;
    spec.isa = spec.isa != NULL ? spec.isa : "best";
    return train_evaluate(&spec, NULL, result, err);
}

/* The first loss of a run whose first step takes every row is the loss of the bare base: the
 * factors B are zero. */
static void test_loss_is_that_of_training(void **state)
{
    struct run_fixture f;
    struct evaluate_result result, again;
    struct err err = {0};
    (void)state;
    fixture_new(&f, "{\"max_steps\":1,\"batch_size\":64,\"val_fraction\":0,\"lora_rank\":4}");
    fixture_run(&f);
    const size_t before = mem_used();
    assert_ok(evaluate(&(struct evaluate_spec){.n_samples = 2}, &result, &err), &err);
    assert_int_equal(result.rows, 23);
    assert_true(fabs(result.loss - f.result.first_loss) < 1e-5);
    assert_true(fabs(result.perplexity - exp(result.loss)) < 1e-9 * result.perplexity);
    assert_int_equal(result.n_samples, 2);
    assert_non_null(strstr(result.samples[0].prompt, "What does Anneka keep?<|im_end|>"));
    assert_non_null(strstr(result.samples[0].expected, "<|im_end|>"));
    assert_non_null(result.samples[1].answer);
    assert_ok(
        evaluate(&(struct evaluate_spec){.n_samples = 2, .threads = 2, .isa = "ref"}, &again, &err),
        &err);
    assert_true(again.loss == result.loss);
    assert_int_equal(again.matches, result.matches);
    assert_string_equal(again.samples[1].answer, result.samples[1].answer);
    evaluate_result_release(&again);
    evaluate_result_release(&result);
    assert_int_equal(mem_used(), before);
    fixture_free(&f);
}

static void test_a_model_that_knows_its_rows_matches(void **state)
{
    struct run_fixture f;
    struct evaluate_result bare, learnt;
    struct err err = {0};
    struct manifest m;
    char path[FS_PATH_BYTES_MAX], rows[FS_PATH_BYTES_MAX];
    static const char text[] = "{\"prompt\":\"one \",\"completion\":\"two\"}\n"
                               "{\"prompt\":\"three \",\"completion\":\"four\"}\n";
    (void)state;
    fixture_new(&f, "{\"max_steps\":60,\"batch_size\":2,\"learning_rate\":0.02,\"lora_rank\":8,"
                    "\"lora_targets\":\"all-linear\",\"warmup_steps\":0,\"max_seq_length\":64,"
                    "\"lr_schedule\":\"constant\",\"weight_decay\":0}");
    assert_ok(fs_join(rows, f.dir, "rows.jsonl", &err), &err);
    assert_ok(fs_write_file(rows, text, sizeof text - 1, &err), &err);
    f.spec.dataset_path = rows;
    fixture_run(&f);
    assert_ok(manifest_read(&m, f.output, &err), &err);
    assert_ok(fs_join(path, f.output, MANIFEST_ADAPTER, &err), &err);
    const struct evaluate_spec base = {.dataset_path = rows, .n_samples = 2};
    struct evaluate_spec version = base;
    version.adapter_path = path;
    version.adapter_scale = (float)m.lora_scale;
    version.chat_template = m.chat_template;
    assert_ok(evaluate(&base, &bare, &err), &err);
    assert_ok(evaluate(&version, &learnt, &err), &err);
    assert_int_equal(bare.matches, 0);
    assert_int_equal(learnt.matches, 2);
    assert_true(learnt.exact_match == 1.0);
    assert_true(learnt.loss < bare.loss / 2);
    for (int i = 0; i < 2; i++) {
        assert_true(learnt.samples[i].match);
        assert_string_equal(learnt.samples[i].answer, learnt.samples[i].expected);
    }
    manifest_release(&m);
    evaluate_result_release(&bare);
    evaluate_result_release(&learnt);
    fixture_free(&f);
}

/* The run itself says what the model knew before, and after. */
static void test_validation_before_and_after(void **state)
{
    struct run_fixture f;
    struct evaluate_result bare;
    struct err err = {0};
    struct manifest m;
    (void)state;
    fixture_new(&f, FIXTURE_CONFIG(",\"eval_every\":5"));
    f.spec.validation_path = FIXTURE_DATASET;
    fixture_run(&f);
    assert_ok(evaluate(&(struct evaluate_spec){0}, &bare, &err), &err);
    assert_int_equal(f.seen[0].step, 0);
    assert_true(f.seen[0].val_loss == f.result.first_val_loss);
    assert_true(fabs(f.result.first_val_loss - bare.loss) < 1e-5);
    assert_true(f.result.val_loss < f.result.first_val_loss);
    assert_non_null(strstr(f.notes, "before training: validation loss"));
    assert_ok(manifest_read(&m, f.output, &err), &err);
    assert_true(m.training.first_val_loss == f.result.first_val_loss);
    assert_true(m.training.val_loss == f.result.val_loss);
    manifest_release(&m);
    evaluate_result_release(&bare);
    fixture_free(&f);
}

static void test_refusals(void **state)
{
    static const struct {
        struct evaluate_spec spec;
        enum err_code code;
        const char *says;
    } rows[] = {
        {{.base_path = "/nowhere"}, ERR_NOT_FOUND, "/nowhere"},
        {{.dataset_path = "/nowhere.jsonl"}, ERR_NOT_FOUND, "/nowhere.jsonl"},
        {{.dataset_sha256 = "00"}, ERR_CORRUPT, "changed since it was registered"},
        {{.base_sha256 = "00"}, ERR_CORRUPT, "changed since it was imported"},
        {{.adapter_path = "/nowhere.safetensors", .adapter_scale = 1}, ERR_NOT_FOUND, "/nowhere"},
        {{.memory_bytes_max = 1000}, ERR_UNAVAILABLE, "0 MB are allowed"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct evaluate_result result;
        struct err err = {0};
        const size_t before = mem_used();
        const int rc = evaluate(&rows[i].spec, &result, &err);
        if (rc != -(int)rows[i].code || strstr(err.message, rows[i].says) == NULL) {
            fail_msg("row %zu: %d \"%s\"", i, rc, err.message);
        }
        assert_int_equal(mem_used(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_is_that_of_training),
        cmocka_unit_test(test_a_model_that_knows_its_rows_matches),
        cmocka_unit_test(test_validation_before_and_after),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
