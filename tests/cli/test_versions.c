/* What people do with versions that they have: evaluate them, hold two beside one another, train
 * them again from their manifests. */
#include "cli/run.h"

static const char base[] = "tests/fixtures/train/base";
static const char dataset[] = "tests/fixtures/train/dataset.jsonl";

/* A hub with two versions of one model. */
static int setup(void **state)
{
    struct run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    run_init(r);
    *state = r;
    expect(0, r, "import", base, "--as", "tiny");
    expect(0, r, "model", "create", "talker", "--base", "tiny");
    expect(0, r, "dataset", "add", dataset, "--name", "talks");
    expect(0, r, "train", "talker", "--dataset", "talks", "--max-steps", "3", "--lora-rank", "4",
           "--learning-rate", "0.01", "--max-seq-length", "96");
    expect(0, r, "train", "talker", "--dataset", "talks", "--max-steps", "6", "--lora-rank", "4",
           "--learning-rate", "0.01", "--max-seq-length", "96", "--init-from", "talker@1.0.0",
           "--checkpoint-every", "2");
    return 0;
}

static int teardown(void **state)
{
    run_release(*state);
    free(*state);
    return 0;
}

static void assert_says(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("no \"%s\" in:\n%s", part, text);
    }
}

static double real_of(const json_t *tree, const char *key)
{
    return json_number_value(json_object_get(tree, key));
}

static const json_t *at(const json_t *tree, const char *key, size_t i)
{
    return json_array_get(json_object_get(tree, key), i);
}

static int count_merges(void *ctx, const char *name, bool is_dir)
{
    (void)is_dir;
    *(int *)ctx += strncmp(name, "merge-", 6) == 0;
    return 0;
}

static int count_all(void *ctx, const char *name, bool is_dir)
{
    (void)name;
    (void)is_dir;
    ++*(int *)ctx;
    return 0;
}

static void evaluations_join_the_version(void **state)
{
    struct run *r = *state;
    char adapter[FS_PATH_BYTES_MAX];
    expect(0, r, "eval", "talker@1.1.0", "--dataset", "talks", "--json");
    json_t *one = run_json(r);
    assert_true(real_of(one, "loss") > 0 && real_of(one, "perplexity") > 1);
    assert_int_equal(json_array_size(json_object_get(one, "samples")), 8);
    expect(0, r, "model", "versions", "talker", "--json");
    json_t *versions = run_json(r);
    const json_t *kept = at(json_array_get(versions, 0), "evaluations", 0);
    assert_true(json_equal(kept, one));
    const json_t *metrics = json_object_get(json_array_get(versions, 0), "metrics");
    snprintf(adapter, sizeof adapter, "%s/adapter.safetensors",
             json_string_value(json_object_get(json_array_get(versions, 1), "artifact_path")));
    assert_true(real_of(metrics, "first_val_loss") > 0 && real_of(metrics, "val_perplexity") > 1);
    json_decref(versions);
    json_decref(one);

    expect(0, r, "eval", "talker", "--dataset", "talks", "--against", "talker@1.0.0");
    assert_says(run_out(r), "23 rows, 501 tokens predicted, dataset talks");
    assert_says(run_out(r), "talker@1.0.0");
    assert_says(run_out(r), "exact match");
    assert_says(run_out(r), "expected");
    expect(0, r, "eval", "talker@1.0.0", "--dataset", "talks", "--against", "talker@1.1.0",
           "--json");
    json_t *both = run_json(r);
    assert_true(real_of(json_object_get(both, "version"), "loss") >
                real_of(json_object_get(both, "against"), "loss"));
    json_decref(both);

    /* A base, and a file, stand for what there was before. */
    expect(0, r, "eval", "talker@1.1.0", "--dataset", "talks", "--against", "tiny", "--json");
    both = run_json(r);
    const json_t *bare = json_object_get(both, "against");
    assert_true(real_of(json_object_get(both, "version"), "loss") < real_of(bare, "loss"));
    assert_true(real_of(json_object_get(both, "version"), "targets") == real_of(bare, "targets"));
    assert_int_equal(json_array_size(json_object_get(bare, "samples")), 8);
    const double loss = real_of(bare, "loss");
    json_decref(both);
    expect(0, r, "eval", base, "--dataset", "talks", "--against", "talker@1.0.0", "--json");
    both = run_json(r);
    assert_true(real_of(json_object_get(both, "version"), "loss") == loss);
    json_decref(both);
    expect(0, r, "eval", "tiny", "--dataset", "talks");
    assert_says(run_out(r), "tokens predicted, dataset talks");
    expect(1, r, "eval", "talker@9.0.0", "--dataset", "talks");
    expect(1, r, "eval", "talker", "--dataset", "nothing");
    expect(1, r, "eval", "talker", "--dataset", dataset);
    assert_says(run_err(r), "is a file and no dataset yet");
    expect(1, r, "eval", "talker", "--dataset", "talks", "--against", "nobody");
    assert_null(strstr(run_err(r), "completed")); /* said before anything was measured */
    assert_int_equal(unlink(adapter), 0);
    expect(1, r, "train", "talker", "--dataset", "talks", "--init-from", "talker@1.0.0",
           "--lora-rank", "4");
    assert_says(run_err(r), "failed: ");
    expect(1, r, "eval", "talker", "--dataset", "talks", "--against", "talker@1.2.0");
    assert_says(run_err(r), "Version 1.2.0 is failed");
    assert_null(strstr(run_err(r), "completed"));
    expect(0, r, "eval", "tiny", "--text", dataset); /* a window of the model's context, 256 */
    expect(1, r, "eval", "tiny", "--text", dataset, "--window", "512");
    expect(2, r, "eval", "talker");
    expect(2, r, "eval", "talker", "--dataset", "talks", "--text", dataset);
}

/* The base, with a tokenizer that merges nothing. */
static void base_of_characters(struct run *r, char out[FS_PATH_BYTES_MAX])
{
    static const char *const same[] = {"config.json", "generation_config.json", "model.safetensors",
                                       "chat_template.jinja", "tokenizer_config.json"};
    struct err err = {0};
    char from[FS_PATH_BYTES_MAX], to[FS_PATH_BYTES_MAX];
    assert_ok(fs_join(out, r->dir, "characters", &err), &err);
    assert_ok(fs_mkdirs(out, &err), &err);
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_ok(fs_join(from, base, same[i], &err), &err);
        assert_ok(fs_join(to, out, same[i], &err), &err);
        assert_ok(fs_copy_file(from, to, &err), &err);
    }
    assert_ok(fs_join(from, base, "tokenizer.json", &err), &err);
    assert_ok(fs_join(to, out, "tokenizer.json", &err), &err);
    json_t *tree = json_parse_file(from, 8 << 20, &err);
    json_object_set_new(json_object_get(tree, "model"), "merges", json_array());
    assert_int_equal(json_dump_file(tree, to, 0), 0);
    json_decref(tree);
}

/* Versions that cut rows differently are compared on what both take; a version alone is measured as
 * it was trained. */
static void versions_that_cut_rows_differently(void **state)
{
    static const char rows[] =
        "{\"prompt\":\"a b c d e f g h i j k l m n o p q r s t u v w x y z\","
        "\"completion\":\"one\"}\n"
        "{\"prompt\":\"a\",\"completion\":\"two\"}\n"
        "{\"prompt\":\"b\",\"completion\":\"three\"}\n";
    static const char called[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"z\"},{\"role\":\"assistant\","
        "\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{}}}]}]}\n";
    struct run *r = *state;
    struct err err = {0};
    char path[FS_PATH_BYTES_MAX], refused[FS_PATH_BYTES_MAX];
    assert_ok(fs_join(refused, r->dir, "refused.jsonl", &err), &err);
    assert_ok(fs_write_file(refused, called, sizeof called - 1, &err), &err);
    assert_ok(fs_join(path, r->dir, "cut.jsonl", &err), &err);
    assert_ok(fs_write_file(path, rows, sizeof rows - 1, &err), &err);
    expect(0, r, "dataset", "add", path, "--name", "cut");
    expect(0, r, "train", "talker", "--dataset", "cut", "--max-steps", "1", "--max-seq-length",
           "16");
    expect(0, r, "eval", "talker@1.0.0", "--dataset", "cut", "--json");
    json_t *alone = run_json(r);
    assert_int_equal(json_integer_value(json_object_get(alone, "rows")), 3);
    assert_int_equal(json_integer_value(json_object_get(alone, "max_seq_length")), 96);
    json_decref(alone);
    expect(0, r, "eval", "talker", "--dataset", "cut", "--against", "talker@1.0.0", "--json");
    json_t *both = run_json(r);
    const json_t *one = json_object_get(both, "version"), *other = json_object_get(both, "against");
    assert_int_equal(json_integer_value(json_object_get(other, "max_seq_length")), 16);
    assert_int_equal(json_integer_value(json_object_get(one, "rows")), 2);
    assert_int_equal(json_integer_value(json_object_get(other, "rows")), 2);
    assert_true(real_of(one, "targets") == real_of(other, "targets"));
    assert_int_equal(json_integer_value(json_object_get(at(other, "samples", 0), "row")), 2);
    json_decref(both);
    expect(0, r, "eval", "talker", "--dataset", "cut", "--against", "talker@1.0.0");
    assert_says(run_out(r), "both on rows cut to 16 tokens: talker was trained on 16, talker@1.0.0 "
                            "on 96\n2 rows, ");
    assert_null(strstr(run_out(r), "do not compare"));
    const char *second = strstr(run_out(r), "\nrow 2\n");
    assert_non_null(second);
    assert_null(strstr(run_out(r), "\nrow 1\n"));
    assert_non_null(strstr(second, "two<|im_end|>"));

    /* one that learnt prompts, too, is compared on answers */
    expect(0, r, "train", "talker", "--dataset", "cut", "--max-steps", "1", "--max-seq-length",
           "16", "--mask-prompt", "false");
    expect(0, r, "eval", "talker", "--dataset", "cut", "--against", "talker@1.2.0");
    assert_says(run_out(r), "both on answers alone: talker was trained on prompts, too\n");
    assert_null(strstr(run_out(r), "do not compare"));

    /* another tokenizer has other tokens: nothing makes these the same */
    expect(0, r, "dataset", "add", refused, "--name", "refused");
    expect(1, r, "eval", "talker", "--dataset", "refused");
    assert_says(run_err(r), ".jsonl:1: messages[1]: template line ");
    assert_null(strstr(run_err(r), "queued")); /* before it waited for its turn */
    base_of_characters(r, path);
    expect(0, r, "eval", path, "--dataset", "cut", "--against", "talker");
    assert_says(run_out(r), "loss and perplexity do not compare");
}

/* What a run goes on from is named as everywhere, and has the factors that the run makes. */
static void versions_that_runs_go_on_from(void **state)
{
    struct run *r = *state;
    expect(1, r, "train", "talker", "--dataset", "talks", "--init-from", "talker");
    assert_says(run_err(r), "Version 1.1.0 has factors of rank 4, which a run of rank 16 cannot");
    expect(1, r, "train", "talker", "--dataset", "talks", "--init-from", "talker:latest",
           "--lora-rank", "4", "--lora-targets", "q_proj");
    assert_says(run_err(r),
                "Version 1.1.0 has factors on q_proj, k_proj, v_proj, o_proj, which a run "
                "on q_proj cannot go on from: name the same lora_targets");
    expect(1, r, "train", "talker", "--dataset", "talks", "--init-from", "talker", "--lora-rank",
           "4", "--num-layers", "1");
    assert_says(run_err(r),
                "Version 1.1.0 has factors on the last 2 layers, which a run on the last "
                "1 cannot go on from: set num_layers -1");
    expect(0, r, "train", "talker", "--dataset", "talks", "--init-from", "talker", "--lora-rank",
           "4", "--lora-alpha", "8", "--max-steps", "1", "--learning-rate", "0.01", "--num-layers",
           "2");
    assert_says(run_err(r), "version 1.1.0 was trained with its factors scaled by 8, this "
                            "run scales them by 2: set lora_alpha 32");
    expect(1, r, "train", "talker", "--dataset", "talks", "--init-from", "nobody:latest");
}

static void versions_are_reproduced(void **state)
{
    struct run *r = *state;
    struct err err = {0};
    char checkpoints[FS_PATH_BYTES_MAX];
    expect(0, r, "reproduce", "talker@1.0.0");
    assert_says(run_out(r), "PASS  talker@1.0.0\nexpected  ");
    expect(0, r, "reproduce", "talker", "--json"); /* this one went on from the other */
    json_t *result = run_json(r);
    assert_true(json_is_true(json_object_get(result, "pass")));
    assert_string_equal(json_string_value(json_object_get(result, "expected")),
                        json_string_value(json_object_get(result, "actual")));
    json_decref(result);
    /* what it went on from is looked for by its bytes, which another version has, too */
    expect(0, r, "train", "talker", "--dataset", "talks", "--max-steps", "3", "--lora-rank", "4",
           "--learning-rate", "0.01", "--max-seq-length", "96");
    expect(0, r, "model", "delete", "talker@1.0.0");
    expect(0, r, "reproduce", "talker@1.1.0");
    expect(0, r, "model", "delete", "talker@1.2.0");
    expect(1, r, "reproduce", "talker@1.1.0");
    assert_says(run_out(r), "differs   the adapter that it went on from: the one of sha256 ");
    int left = 0; /* of jobs that are completed, nothing that only a resume needs */
    assert_ok(fs_join(checkpoints, r->dir, "storage/checkpoints", &err), &err);
    assert_ok(fs_list_dir(checkpoints, count_all, &left, &err), &err);
    assert_int_equal(left, 0);
    expect(0, r, "dataset", "show", "talks", "--json");
    json_t *row = run_json(r);
    const char *path = json_string_value(json_object_get(row, "path"));
    assert_ok(fs_write_file(path, "{\"text\":\"other\"}\n", 17, &err), &err);
    json_decref(row);
    expect(1, r, "reproduce", "talker@1.1.0");
    assert_says(run_out(r), "FAIL  talker@1.1.0\n");
    assert_says(run_out(r), "differs   dataset: the manifest says sha256 2e29f955");
    expect(1, r, "eval", "talker@1.1.0", "--dataset", "talks");
    assert_says(run_err(r), "changed since it was registered");
    expect(1, r, "reproduce", "nobody");
}

/* A merged version is a base of its own, and a folder that another tool loads. */
static void versions_are_merged(void **state)
{
    struct run *r = *state;
    struct err err = {0};
    char dest[FS_PATH_BYTES_MAX], weights[FS_PATH_BYTES_MAX], cache[FS_PATH_BYTES_MAX];
    int left = 0;
    assert_ok(fs_join(dest, r->dir, "full", &err), &err);
    assert_ok(fs_join(weights, dest, "model.safetensors", &err), &err);
    expect(2, r, "merge", "talker@1.0.0");
    expect(2, r, "merge", "talker@1.0.0", "--as", "x", "--type", "q8_0");
    expect(1, r, "merge", "tiny", "--as", "x");
    assert_says(run_err(r), "is no version");
    expect(1, r, "merge", "talker@1.1.0", "--as", "tiny");
    assert_says(run_err(r), "Base model 'tiny' already exists");
    assert_null(strstr(run_err(r), " MB")); /* no progress: nothing was written yet */
    expect(1, r, "merge", "talker@1.1.0", "--as", "a/b/c");
    assert_says(run_err(r), "as must not hold");
    expect(0, r, "merge", "talker@1.1.0", "--as", "tiny-merged", "--type", "f32");
    assert_says(run_out(r), "20 tensors, ");
    assert_says(run_out(r), "merged talker@1.1.0 into tiny-merged");
    expect(0, r, "generate", "tiny-merged", "x", "--max-tokens", "2", "--seed", "1");
    assert_ok(fs_join(cache, r->dir, "storage/cache", &err), &err);
    if (fs_exists(cache)) {
        assert_ok(fs_list_dir(cache, count_merges, &left, &err), &err);
    }
    assert_int_equal(left, 0);

    expect(2, r, "export", "talker", dest, "--format", "peft", "--merge", "talker");
    expect(1, r, "export", "other", dest, "--format", "safetensors", "--merge", "talker@1.0.0");
    assert_says(run_err(r), "was trained on 'tiny', not on 'other'");
    expect(0, r, "export", "tiny", dest, "--format", "safetensors", "--merge", "talker@1.0.0",
           "--json");
    json_t *result = run_json(r);
    assert_int_equal(json_integer_value(json_object_get(result, "merged")), 8);
    json_decref(result);
    assert_true(fs_exists(weights));
    expect(1, r, "export", "tiny", dest, "--format", "safetensors");
    assert_says(run_err(r), "exists already");
    expect(2, r, "export", "tiny", dest, "--format", "gguf", "--type", "q9");
    expect(2, r, "export", "tiny", dest, "--format", "gguf", "--bits", "4");
    assert_ok(fs_join(dest, r->dir, "tiny.gguf", &err), &err);
    expect(0, r, "export", "tiny", "--out", dest, "--format", "gguf", "--type", "f16");
    assert_says(run_out(r), "exported tiny for gguf");
    expect(0, r, "import", dest, "--as", "tiny-again");
    expect(2, r, "quantize", "tiny");
    expect(2, r, "quantize", "tiny", "--as", "tiny-8bit", "--bits", "5");
    expect(1, r, "quantize", "nobody", "--as", "tiny-8bit");
    expect(0, r, "quantize", "tiny", "--as", "tiny-8bit", "--bits", "8", "--group-size", "32");
    assert_says(run_out(r), "quantised tiny as tiny-8bit");
    expect(1, r, "quantize", "tiny", "--as", "tiny-8bit");
    assert_says(run_err(r), "already exists");
    expect(0, r, "generate", "tiny-8bit", "x", "--max-tokens", "2", "--seed", "1");
    expect(0, r, "import", dest, "--as", "tiny-4bit", "--quantization", "4bit");
    assert_says(run_out(r), "quantised to 4 bits");
    expect(0, r, "generate", "tiny-again", "x", "--max-tokens", "2", "--seed", "1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(evaluations_join_the_version, setup, teardown),
        cmocka_unit_test_setup_teardown(versions_that_cut_rows_differently, setup, teardown),
        cmocka_unit_test_setup_teardown(versions_that_runs_go_on_from, setup, teardown),
        cmocka_unit_test_setup_teardown(versions_are_reproduced, setup, teardown),
        cmocka_unit_test_setup_teardown(versions_are_merged, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
