/* Every method that a config can ask for, against PEFT's losses, and what is arithmetic by hand. */
#include "engine/engine.h"
#include "formats/manifest.h"
#include "train/run_fixture.h"

/* fp32 both, in another order of summation: ten steps stay within this. */
static const double loss_tolerance = 5e-5, norm_tolerance = 2e-4, rate_tolerance = 1e-12;

static double number_at(const json_t *method, const char *key, size_t i)
{
    return json_real_value(json_array_get(json_object_get(method, key), i));
}

static void compare(const json_t *method)
{
    struct run_fixture f;
    const char *name = json_string_value(json_object_get(method, "name"));
    const json_t *config = json_object_get(method, "config");
    char *text = json_dumps(config, 0);
    fixture_new(&f, text);
    mem_free(text);
    f.spec.init_adapter_path = json_is_string(json_object_get(config, "lora_targets"))
                                   ? "tests/fixtures/train/init_all_linear.safetensors"
                                   : FIXTURE_INIT;
    fixture_run(&f);
    assert_int_equal(f.n_seen, FIXTURE_STEPS);
    for (size_t i = 0; i < FIXTURE_STEPS; i++) {
        const struct train_progress *p = &f.seen[i];
        const double loss = number_at(method, "loss", i);
        const double norm = number_at(method, "grad_norm", i);
        const double rate = number_at(method, "learning_rate", i);
        if (fabs(p->loss - loss) > loss_tolerance * loss ||
            fabs(p->grad_norm - norm) > norm_tolerance * norm ||
            fabs(p->learning_rate - rate) > rate_tolerance) {
            fail_msg("%s, step %zu: loss %.9g (PEFT %.9g), norm %.9g (%.9g), rate %.9g (%.9g)",
                     name, i + 1, p->loss, loss, p->grad_norm, norm, p->learning_rate, rate);
        }
    }
    fixture_free(&f);
}

static void test_methods_as_peft(void **state)
{
    json_t *golden = fixture_json("methods.json");
    size_t i;
    const json_t *method;
    (void)state;
    assert_int_equal(json_array_size(json_object_get(golden, "methods")), 4);
    json_array_foreach(json_object_get(golden, "methods"), i, method)
    {
        compare(method);
    }
    json_decref(golden);
}

/* A run that goes on from a version begins with that version's factors: its first loss is that of
 * the version on the same rows, and its manifest names what it went on from. */
static void test_goes_on_from_a_version(void **state)
{
    static const char one_batch[] =
        "{\"lora_rank\":4,\"max_steps\":4,\"batch_size\":64,\"learning_rate\":0.005,"
        "\"warmup_steps\":0,\"lr_schedule\":\"constant\",\"val_fraction\":0}";
    struct run_fixture f, next;
    struct manifest m;
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX];
    (void)state;
    fixture_new(&f, one_batch);
    fixture_run(&f);
    fixture_new(&next, one_batch);
    assert_ok(fs_join(path, f.output, MANIFEST_ADAPTER, &err), &err);
    next.spec.init_adapter_path = path;
    fixture_run(&next);
    /* The fourth step's loss was taken before that step moved the factors. */
    assert_true(next.result.first_loss < f.result.final_loss);
    assert_ok(manifest_read(&m, next.output, &err), &err);
    assert_string_equal(m.init_sha256, f.result.checksum);
    manifest_release(&m);
    fixture_free(&next);
    fixture_free(&f);
}

/* Ten steps over 23 rows of four a step: one epoch ends within them, and a run that pauses there is
 * asked meanwhile whether it shall go on. */
static void test_cools_down_between_epochs(void **state)
{
    struct run_fixture plain, cool;
    (void)state;
    fixture_new(&plain, FIXTURE_CONFIG(FIXTURE_GOLDEN));
    fixture_run(&plain);
    fixture_new(&cool, FIXTURE_CONFIG(FIXTURE_GOLDEN ",\"cooldown_seconds\":0.001"));
    fixture_run(&cool);
    assert_int_equal(cool.polls, plain.polls + 1);
    assert_string_equal(cool.result.checksum, plain.result.checksum);
    fixture_free(&cool);
    fixture_free(&plain);
}

/* The adapter's file is the same on all machines: it changes when ENGINE_NUMERICS_VERSION does, and
 * never otherwise. */
_Static_assert(ENGINE_NUMERICS_VERSION == 1, "new numerics: write down the new checksum");

static void test_the_same_file_on_all_machines(void **state)
{
    static const char config[] = FIXTURE_CONFIG(
        ",\"lora_dropout\":0.1,\"lora_targets\":\"all-linear\",\"lr_schedule\":\"cosine\","
        "\"eval_every\":3");
    char checksum[SHA256_HEX_BYTES];
    (void)state;
    fixture_checksum(config, checksum);
    assert_string_equal(checksum,
                        "9d240a0f27854e6e9974dd518b613050cab1a70664473cdbea6b1d56d10da733");
}

/* How many rows and steps a config makes of the 23 rows. */
static void test_rows_and_steps(void **state)
{
    static const struct {
        const char *config, *note;
        int64_t steps;
    } rows[] = {
        {"{\"epochs\":2,\"batch_size\":4}", "22 to train on, 1 to validate with", 12},
        {"{\"epochs\":1,\"batch_size\":4,\"val_fraction\":0}", "23 to train on, 0 to", 6},
        {"{\"epochs\":1,\"batch_size\":4,\"val_fraction\":0.5}", "12 to train on, 11 to", 3},
        {"{\"epochs\":9,\"batch_size\":4,\"max_steps\":2}", "22 to train on, 1 to", 2},
        {"{\"epochs\":1,\"batch_size\":4,\"gradient_accumulation_steps\":3,\"val_fraction\":0}",
         "23 to train on", 2},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct run_fixture f;
        fixture_new(&f, rows[i].config);
        fixture_run(&f);
        assert_non_null(strstr(f.notes, rows[i].note));
        assert_int_equal(f.result.steps, rows[i].steps);
        fixture_free(&f);
    }
}

static void test_validates_as_often_as_asked(void **state)
{
    struct run_fixture f;
    int times = 0;
    (void)state;
    fixture_new(&f, FIXTURE_CONFIG(",\"eval_every\":4"));
    fixture_run(&f);
    for (const char *at = f.notes; (at = strstr(at, "(best ")) != NULL; at++) {
        times++;
    }
    assert_int_equal(times, 3); /* steps 4, 8 and the last one, 10 */
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods_as_peft),
        cmocka_unit_test(test_goes_on_from_a_version),
        cmocka_unit_test(test_cools_down_between_epochs),
        cmocka_unit_test(test_the_same_file_on_all_machines),
        cmocka_unit_test(test_rows_and_steps),
        cmocka_unit_test(test_validates_as_often_as_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
