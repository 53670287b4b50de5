/* The config of a training job: defaults, bounds, the round trip, the plan. */
#include "formats/train_config.h"
#include "test.h"

static int parse(struct train_config *config, const char *text, struct err *err)
{
    json_t *json = json_parse(text, strlen(text), err);
    const int rc = json ? train_config_parse(config, json, err) : -(int)err->code;

    json_decref(json);
    return rc;
}

static char *to_text(const struct train_config *config)
{
    struct buf buf;
    struct json_out out;
    struct err err = {0};

    buf_init(&buf, 1 << 16);
    json_out_init(&out, &buf);
    train_config_write(config, &out);
    assert_ok(buf_check(&buf, "config", &err), &err);
    return buf_take(&buf);
}

static void test_defaults_are_the_contract(void **state)
{
    struct train_config config;
    struct err err = {0};

    (void)state;
    assert_ok(train_config_parse(&config, NULL, &err), &err);
    char *text = to_text(&config);
    assert_string_equal(
        text, "{\"quantization\":\"loaded\",\"lora_rank\":16,\"lora_alpha\":32,\"lora_dropout\":0,"
              "\"use_rslora\":false,\"lora_targets\":[\"q_proj\",\"k_proj\",\"v_proj\",\"o_proj\"],"
              "\"num_layers\":-1,\"init_from\":null,\"learning_rate\":5e-05,\"weight_decay\":0.01,"
              "\"lr_schedule\":\"linear\",\"warmup_steps\":100,\"max_grad_norm\":1,\"epochs\":3,"
              "\"max_steps\":null,\"batch_size\":4,\"gradient_accumulation_steps\":1,"
              "\"max_seq_length\":512,\"mask_prompt\":true,\"packing\":true,\"seed\":42,"
              "\"val_fraction\":0.05,\"val_dataset_id\":null,\"eval_every\":null,"
              "\"early_stopping_patience\":null,\"publish\":\"best\",\"checkpoint_every\":100,"
              "\"checkpoints_kept\":2,\"log_every\":10,\"cooldown_seconds\":0}");
    mem_free(text);
}

static void test_what_is_written_reads_back(void **state)
{
    struct train_config config, again;
    struct err err = {0};

    (void)state;
    memset(&again, 0, sizeof again);
    assert_ok(parse(&config,
                    "{\"quantization\":\"4bit\",\"lora_rank\":8,\"lora_alpha\":2.5,"
                    "\"use_rslora\":true,\"lora_targets\":[\"down_proj\",\"q_proj\"],"
                    "\"num_layers\":4,\"init_from\":\"shop@1.0.0\",\"learning_rate\":1e-3,"
                    "\"lr_schedule\":\"cosine\",\"max_steps\":7,\"seed\":-9223372036854775808,"
                    "\"val_dataset_id\":\"12345678-1234-1234-1234-123456789012\","
                    "\"eval_every\":5,\"early_stopping_patience\":2,\"publish\":\"last\","
                    "\"packing\":false}",
                    &err),
              &err);
    assert_int_equal(config.lora_targets, TRAIN_Q_PROJ | TRAIN_DOWN_PROJ);
    assert_true(config.seed == INT64_MIN);
    char *first = to_text(&config);
    assert_ok(parse(&again, first, &err), &err);
    char *second = to_text(&again);
    assert_string_equal(first, second);
    mem_free(first);
    mem_free(second);
    assert_ok(parse(&config, "{\"lora_targets\":\"all-linear\",\"seed\":null}", &err), &err);
    assert_int_equal(config.lora_targets, TRAIN_ALL_LINEAR);
    assert_int_equal(config.seed, 42);
    first = to_text(&config);
    assert_non_null(strstr(first, "\"lora_targets\":\"all-linear\""));
    mem_free(first);
}

static void test_what_is_refused(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"[]", "config must be an object"},
        {"{", ""},
        {"{\"lora_rnak\":1}", "Unknown config key 'lora_rnak'"},
        {"{\"quantization\":\"2bit\"}", "config.quantization must be one of loaded, 4bit, 8bit"},
        {"{\"quantization\":4}", "quantization"},
        {"{\"lora_rank\":0}", "config.lora_rank must be between 1 and 256"},
        {"{\"lora_rank\":1.5}", "lora_rank"},
        {"{\"lora_rank\":\"8\"}", "lora_rank"},
        {"{\"lora_alpha\":0}", "config.lora_alpha must be between"},
        {"{\"lora_dropout\":1}", "config.lora_dropout"},
        {"{\"use_rslora\":1}", "use_rslora"},
        {"{\"lora_targets\":[]}", "config.lora_targets must name at least one layer"},
        {"{\"lora_targets\":[\"lm_head\"]}", "config.lora_targets must be one of q_proj"},
        {"{\"lora_targets\":[1]}", "config.lora_targets"},
        {"{\"lora_targets\":\"all\"}", "config.lora_targets must be a list"},
        {"{\"num_layers\":0}", "config.num_layers must be -1 (all) or at least 1"},
        {"{\"num_layers\":-2}", "config.num_layers"},
        {"{\"learning_rate\":0}", "config.learning_rate"},
        {"{\"learning_rate\":2}", "config.learning_rate"},
        {"{\"lr_schedule\":\"step\"}", "config.lr_schedule must be one of constant, linear"},
        {"{\"max_steps\":0}", "or null"},
        {"{\"seed\":9223372036854775808}", ""},
        {"{\"val_fraction\":0.6}", "config.val_fraction must be between 0 and 0.5"},
        {"{\"val_dataset_id\":\"x\"}", "config.val_dataset_id must be a UUID"},
        {"{\"batch_size\":0}", "config.batch_size"},
        {"{\"max_seq_length\":1}", "config.max_seq_length"},
        {"{\"checkpoints_kept\":0}", "config.checkpoints_kept"},
    };
    char long_text[512];
    struct train_config config;
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(parse(&config, rows[i].text, &err), -ERR_UNPROCESSABLE);
        if (!strstr(err.message, rows[i].why))
            fail_msg("row %zu: %s", i, err.message);
        err_clear(&err);
    }
    snprintf(long_text, sizeof long_text, "{\"init_from\":\"%0400d\"}", 0);
    assert_err(parse(&config, long_text, &err), &err, ERR_UNPROCESSABLE);
}

static void test_plan(void **state)
{
    static const struct {
        const char *text;
        int64_t rows, val, train, per_epoch, steps, warmup, eval_every;
    } rows[] = {
        {"{}", 100, 5, 95, 24, 72, 7, 24},
        {"{}", 20, 1, 19, 5, 15, 1, 5},
        {"{}", 19, 0, 19, 5, 15, 1, 5},
        {"{}", 1, 0, 1, 1, 3, 0, 1},
        {"{}", 8000, 400, 7600, 1900, 5700, 100, 1900},
        {"{\"max_steps\":10}", 100, 5, 95, 24, 10, 1, 24},
        {"{\"gradient_accumulation_steps\":4,\"eval_every\":2}", 100, 5, 95, 6, 18, 1, 2},
        {"{\"val_dataset_id\":\"12345678-1234-1234-1234-123456789012\"}", 100, 0, 100, 25, 75, 7,
         25},
        {"{\"val_fraction\":0}", 100, 0, 100, 25, 75, 7, 25},
        {"{\"val_fraction\":0.001}", 100, 1, 99, 25, 75, 7, 25},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct train_config config;
        struct train_plan plan;
        struct err err = {0};

        assert_ok(parse(&config, rows[i].text, &err), &err);
        train_config_plan(&config, rows[i].rows, &plan);
        assert_int_equal(plan.val_rows, rows[i].val);
        assert_int_equal(plan.train_rows, rows[i].train);
        assert_int_equal(plan.steps_per_epoch, rows[i].per_epoch);
        assert_int_equal(plan.steps, rows[i].steps);
        assert_int_equal(plan.warmup_steps, rows[i].warmup);
        assert_int_equal(plan.eval_every, rows[i].eval_every);
    }
}

static void test_allocations_fail(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct train_config config;
        struct err err = {0};

        fault_arm(FAULT_MALLOC, n, false);
        int rc = parse(&config, "{\"lora_targets\":[\"q_proj\"],\"init_from\":\"x\"}", &err);
        bool fired = fault_fired();
        fault_disarm();
        if (!fired) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_the_contract),
        cmocka_unit_test(test_what_is_written_reads_back),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_allocations_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
