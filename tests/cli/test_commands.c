/* The commands as people run them, on a tiny model: from an empty folder to an exported version,
 * with a hub of their own and with a server beside them. */
#include "cli/run.h"

#include "base/clock.h"

static const char base[] = "tests/fixtures/train/base";
static const char dataset[] = "tests/fixtures/train/dataset.jsonl";

static int setup(void **state)
{
    struct run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    run_init(r);
    *state = r;
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

static const char *text_of(const json_t *tree, const char *key)
{
    const char *text = json_string_value(json_object_get(tree, key));
    return text != NULL ? text : "";
}

/* --- without a hub ------------------------------------------------------------------------------
 */

static void help_and_usage(void **state)
{
    struct run *r = *state;
    expect(0, r, "--help");
    assert_says(run_out(r), "  train");
    expect(0, r, "model", "--help");
    assert_says(run_out(r), "examples:");
    expect(2, r, "nonsense");
    assert_says(run_err(r), "--help");
    expect(2, r, "generate");
    expect(2, r, "model", "create", "x");
    assert_says(run_err(r), "--base");
    expect(2, r, "train", "m");
    expect(2, r, "export", "a@1", "b");
    expect(2, r, "export", "a@1", "b", "--format", "zip");
    expect(2, r, "train", "m", "--dataset", "d", "--lora-rank", "0");
    assert_says(run_err(r), "lora_rank");
}

static void a_file_as_training_would_see_it(void **state)
{
    struct run *r = *state;
    expect(0, r, "dataset", "check", dataset, "--model", base);
    assert_says(run_out(r), "rows        23 (16 chat, 4 completion, 3 text)");
    assert_says(run_out(r), "line 8 is the same as line 2");
    assert_says(run_out(r), "    30-34     |######");
    expect(0, r, "dataset", "check", dataset, "--model", base, "--row", "2");
    assert_says(run_out(r), "row 2 (line 2, chat): 29 tokens, 15 trained");
    assert_says(run_out(r), "|assistant|\\n[[Tomas| keeps|");
    expect(1, r, "dataset", "check", dataset, "--model", base, "--row", "99");
    assert_says(run_err(r), "there is no row 99: the file has 23");
    expect(2, r, "dataset", "check", dataset, "--model", base, "--mask-prompt", "perhaps");
    expect(2, r, "dataset", "check", dataset, "--row", "2");
    assert_says(run_err(r), "--row needs --model M");
}

static void facts_about_program_and_machine(void **state)
{
    struct run *r = *state;
    expect(0, r, "version", "--json");
    json_t *tree = run_json(r);
    assert_true(json_integer_value(json_object_get(tree, "numerics_version")) > 0);
    json_decref(tree);
    expect(0, r, "version");
    expect(0, r, "config", "--json");
    tree = run_json(r);
    assert_true(json_array_size(tree) > 20);
    json_decref(tree);
    expect(0, r, "config", "--api-key", "secret-key");
    assert_null(strstr(run_out(r), "secret-key"));
    expect(0, r, "doctor", "--json", "--port", "8000");
    tree = run_json(r);
    assert_true(json_is_true(json_object_get(tree, "ok")));
    json_decref(tree);
    expect(1, r, "doctor", "--storage-base-path", "README.md/here");
    assert_says(run_out(r), "failed");
}

static void database_forward(void **state)
{
    struct run *r = *state;
    char path[FS_PATH_BYTES_MAX];
    struct err err = {0};
    expect(0, r, "db", "status", "--json");
    json_t *tree = run_json(r);
    assert_true(json_is_false(json_object_get(tree, "exists")));
    assert_true(json_integer_value(json_object_get(tree, "pending")) > 0);
    json_decref(tree);
    assert_ok(fs_join(path, r->dir, "storage", &err), &err);
    assert_false(fs_exists(path));
    expect(0, r, "db", "migrate");
    expect(0, r, "db", "status");
    assert_says(run_out(r), "up to date");
    expect(0, r, "db", "migrate", "--json");
    tree = run_json(r);
    assert_int_equal(json_integer_value(json_object_get(tree, "applied")), 0);
    json_decref(tree);
}

static void text_from_files(void **state)
{
    struct run *r = *state;
    struct err err = {0};
    char messages[FS_PATH_BYTES_MAX];
    static const char talk[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}";
    assert_ok(fs_join(messages, r->dir, "talk", &err), &err);
    assert_ok(fs_write_file(messages, talk, strlen(talk), &err), &err);

    expect(0, r, "template", base, "--messages", messages);
    assert_string_equal(run_out(r), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    expect(0, r, "template", base, "--messages", messages, "--no-generation-prompt", "--json");
    json_t *tree = run_json(r);
    assert_string_equal(text_of(tree, "prompt"), "<|im_start|>user\nHi<|im_end|>\n");
    json_decref(tree);
    expect(2, r, "template", base);
    expect(1, r, "template", base, "--messages", dataset);

    expect(0, r, "tokenize", base, "--text", "<|im_start|>Hi\n", "--json");
    tree = run_json(r);
    const size_t special = json_array_size(json_object_get(tree, "tokens"));
    assert_int_equal(json_array_size(json_object_get(tree, "pieces")), special);
    json_decref(tree);
    expect(0, r, "tokenize", base, "--text", "<|im_start|>Hi\n", "--literal", "--json");
    tree = run_json(r);
    assert_true(json_array_size(json_object_get(tree, "tokens")) > special);
    json_decref(tree);
    expect(0, r, "tokenize", base, "--file", messages);
    assert_says(run_out(r), "'");
    expect(2, r, "tokenize", base);
    expect(1, r, "tokenize", "tests/fixtures/formats/tiny-llama.gguf", "--text", "x");
    expect(1, r, "tokenize", "nothing", "--text", "x");
    assert_says(run_err(r), "mlx-hub import");

    expect(0, r, "dataset", "check", dataset, "--json");
    json_decref(run_json(r));
    expect(1, r, "dataset", "check", messages, "--columns", "{\"messages\": \"nope\"}");
}

static void answers_from_a_path(void **state)
{
    struct run *r = *state;
    struct err err = {0};
    char input[FS_PATH_BYTES_MAX];
    expect(0, r, "generate", base, "Hello", "--seed", "5", "--max-tokens", "8", "--json");
    json_t *first = run_json(r);
    assert_int_equal(json_integer_value(json_object_get(first, "seed")), 5);
    expect(0, r, "generate", base, "Hello", "--seed", "5", "--max-tokens", "8", "--isa", "ref",
           "--json");
    json_t *second = run_json(r);
    assert_string_equal(text_of(first, "text"), text_of(second, "text"));
    json_decref(first);
    json_decref(second);
    expect(1, r, "generate", base, "Hello", "--temperature", "-1");
    expect(1, r, "generate", "./nothing.gguf", "Hello");

    assert_ok(fs_join(input, r->dir, "input", &err), &err);
    assert_ok(fs_write_file(input, "Hi\nYou?\n", 8, &err), &err);
    static const char *const chat[] = {"chat",         base, "--system", "Be brief.",
                                       "--max-tokens", "4",  NULL};
    assert_int_equal(run_end(r, run_start(r, input, chat)), 0);
    static const char *const raw[] = {"generate", base, "--raw", "--max-tokens", "4", NULL};
    assert_int_equal(run_end(r, run_start(r, input, raw)), 0);
}

/* --- the road, with a hub of its own ------------------------------------------------------------
 */

static void look_at_version(struct run *r)
{
    char dest[FS_PATH_BYTES_MAX];
    struct err err = {0};
    expect(0, r, "list");
    assert_says(run_out(r), "talker@1.0.0");
    expect(0, r, "model", "update", "talker@1.0.0", "--aliases", "production,best", "--notes", "n");
    assert_says(run_out(r), "best");
    expect(0, r, "model", "show", "talker:latest");
    expect(0, r, "model", "versions", "talker");
    expect(0, r, "model", "history", "talker");
    expect(0, r, "model", "lineage", "talker");
    assert_says(run_out(r), "→");
    expect(0, r, "generate", "talker:best", "Hello", "--max-tokens", "4");
    assert_ok(fs_join(dest, r->dir, "peft", &err), &err);
    expect(0, r, "export", "talker@1.0.0", dest, "--format", "peft");
    expect(1, r, "export", "talker@1.0.0", dest, "--format", "peft");
    assert_ok(fs_join(dest, r->dir, "mlx", &err), &err);
    expect(0, r, "export", "talker", dest, "--format", "mlx", "--json");
    json_decref(run_json(r));
    expect(1, r, "export", "tiny", dest, "--format", "mlx");
    expect(0, r, "tokenize", "talker", "--text", "x");
}

static void look_at_job(struct run *r)
{
    expect(0, r, "job", "list", "--model", "talker", "--status", "completed");
    assert_says(run_out(r), "completed");
    expect(0, r, "job", "show", "last");
    assert_says(run_out(r), "\"lora_rank\":4");
    expect(0, r, "job", "show", "last", "--json");
    json_t *job = run_json(r);
    expect(0, r, "job", "metrics", text_of(job, "id"));
    assert_says(run_out(r), "*");
    expect(0, r, "job", "metrics", "last", "--json");
    json_t *series = run_json(r);
    assert_int_equal(json_array_size(json_object_get(json_object_get(series, "series"), "loss")),
                     4);
    json_decref(series);
    expect(1, r, "job", "metrics", "last", "--name", "nothing");
    assert_says(run_err(r), "no series 'nothing'; it has: grad_norm, learning_rate, loss, ");
    expect(0, r, "job", "logs", "last");
    assert_says(run_out(r), "step 1/4");
    expect(0, r, "job", "logs", "last", "--json");
    json_decref(run_json(r));
    expect(1, r, "job", "cancel", "last");
    expect(1, r, "job", "show", "ffffffff");
    json_decref(job);
}

static void from_nothing_to_an_export(void **state)
{
    struct run *r = *state;
    struct err err = {0};
    char config[FS_PATH_BYTES_MAX];
    expect(0, r, "list");
    assert_says(run_out(r), "mlx-hub import");
    expect(0, r, "import", base, "--as", "tiny");
    assert_says(run_out(r), "imported tiny");
    expect(1, r, "import", "nothing/there");
    expect(0, r, "model", "create", "talker", "--base", "tiny", "--tags", "a=b,c=d", "--task",
           "chat");
    expect(1, r, "model", "create", "talker", "--base", "tiny");
    assert_says(run_err(r), "already exists");
    expect(0, r, "model", "update", "talker", "--description", "speaks", "--tags", "a=b");
    expect(2, r, "model", "update", "talker", "--notes", "x");
    expect(0, r, "model", "show", "talker");
    assert_says(run_out(r), "speaks");
    expect(0, r, "dataset", "add", dataset, "--name", "talks");
    expect(1, r, "dataset", "add", dataset, "--name", "again");
    expect(1, r, "dataset", "add", "README.md", "--name", "words"); /* errors name the file */
    assert_says(run_err(r), "README.md:1: not JSON");
    expect(0, r, "dataset", "list", "--json");
    json_t *rows = run_json(r);
    assert_int_equal(json_array_size(rows), 1);
    json_decref(rows);
    expect(0, r, "dataset", "show", "talks");
    expect(0, r, "dataset", "verify", "talks");

    static const char keys[] = "{\"max_steps\": 4, \"lora_rank\": 2, \"batch_size\": 2}";
    assert_ok(fs_join(config, r->dir, "config.json", &err), &err);
    assert_ok(fs_write_file(config, keys, strlen(keys), &err), &err);
    expect(0, r, "train", "talker", "--dataset", "talks", "--config", config, "--lora_rank=4",
           "--lora-targets", "q_proj,v_proj", "--val-dataset-id", "talks", "--packing", "false");
    assert_says(run_out(r), "published talker@1.0.0");
    assert_says(run_err(r), "100% step 4/4");
    look_at_version(r);
    look_at_job(r);

    expect(0, r, "train", "talker", "--dataset", "talks", "--detach", "--learning-rate", "1e-9",
           "--max-seq-length", "4096");
    assert_says(run_err(r), "warning: 18 steps at a learning rate of 1e-09 will hardly change");
    assert_says(run_err(r), "; max_seq_length 4096 is more than the model's context: 256 is used");
    expect(0, r, "job", "list");
    assert_says(run_out(r), "JOB       KIND   STATUS");
    expect(0, r, "job", "cancel", "last");
    expect(1, r, "train", "nobody", "--dataset", "talks");
    assert_says(run_err(r), "model create");
    expect(1, r, "train", "talker", "--dataset", dataset);
    assert_says(run_err(r), "dataset add");
    expect(0, r, "model", "delete", "talker@1.0.0");
    expect(0, r, "model", "delete", "talker");
    expect(0, r, "dataset", "delete", "talks", "--json");
    json_decref(run_json(r));
}

/* --- beside a server ----------------------------------------------------------------------------
 */

/* Waits for the line that says where it listens. */
static pid_t start_server(struct run *server, char port[16])
{
    static const char *const words[] = {"serve", "--json", NULL};
    const pid_t pid = run_start(server, NULL, words);
    struct err err = {0};
    for (int i = 0; i < 2000; i++) {
        buf_clear(&server->out);
        assert_ok(fs_read_file(server->out_path, RUN_BYTES_MAX, &server->out, &err), &err);
        if (strchr(run_out(server), '\n') != NULL) {
            json_t *tree = run_json(server);
            snprintf(port, 16, "%lld",
                     (long long)json_integer_value(json_object_get(tree, "port")));
            json_decref(tree);
            return pid;
        }
        clock_sleep_ms(10);
    }
    fail_msg("the server did not come up");
    return pid;
}

static void through_a_server(void **state)
{
    struct run *r = *state;
    struct run *server = calloc(1, sizeof *server);
    struct err err = {0};
    char port[16];
    assert_non_null(server);
    *server = *r; /* the same storage, other files for what it prints */
    buf_init(&server->out, RUN_BYTES_MAX);
    buf_init(&server->err, RUN_BYTES_MAX);
    assert_ok(fs_join(server->out_path, r->dir, "server.out", &err), &err);
    assert_ok(fs_join(server->err_path, r->dir, "server.err", &err), &err);
    const pid_t pid = start_server(server, port);

    /* the storage is taken, and a command that does not find the server says by whom */
    expect(1, r, "list");
    assert_says(run_err(r), "mlx-hub serve");
    setenv("MLX_HUB_PORT", port, 1);
    expect(1, r, "serve");
    expect(0, r, "doctor");
    assert_says(run_out(r), "a hub answers");
    expect(0, r, "import", base, "--as", "tiny");
    expect(0, r, "model", "create", "talker", "--base", "tiny");
    expect(0, r, "dataset", "add", dataset, "--name", "talks");
    expect(0, r, "train", "talker", "--dataset", "talks", "--detach", "--max-steps", "100000");
    assert_says(run_out(r), "job follow");

    /* Ctrl-C leaves the job to the server */
    static const char *const follow[] = {"job", "follow", "last", NULL};
    const pid_t follower = run_start(r, NULL, follow);
    for (int i = 0; i < 2000 && strstr(run_err(r), "step") == NULL; i++) {
        buf_clear(&r->err);
        assert_ok(fs_read_file(r->err_path, RUN_BYTES_MAX, &r->err, &err), &err);
        clock_sleep_ms(10);
    }
    kill(follower, SIGINT);
    assert_int_equal(run_end(r, follower), 130);
    assert_says(run_err(r), "goes on in the server");

    expect(0, r, "job", "cancel", "last");
    assert_says(run_out(r), "it leaves a checkpoint of the steps it has done");
    assert_says(run_out(r), "mlx-hub job resume ");
    expect(1, r, "job", "follow", "last");
    assert_says(run_err(r), "was cancelled; mlx-hub job resume ");
    expect(0, r, "doctor");
    assert_says(run_out(r), " of 1 jobs; failed and cancelled ones keep theirs for 7 days");
    expect(0, r, "job", "logs", "last");
    assert_says(run_out(r), " cancelled at step ");
    expect(0, r, "job", "resume", "last", "--json");
    json_t *job = run_json(r);
    for (int i = 0; i < 2000 && strstr(run_out(r), "resumed from step ") == NULL; i++) {
        expect(0, r, "job", "logs", text_of(job, "id"));
        clock_sleep_ms(10);
    }
    assert_says(run_out(r), "resumed from step ");
    expect(0, r, "job", "cancel", text_of(job, "id"));
    json_decref(job);
    kill(pid, SIGTERM);
    assert_int_equal(run_end(server, pid), 0);
    buf_release(&server->out);
    buf_release(&server->err);
    free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(help_and_usage, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_as_training_would_see_it, setup, teardown),
        cmocka_unit_test_setup_teardown(facts_about_program_and_machine, setup, teardown),
        cmocka_unit_test_setup_teardown(database_forward, setup, teardown),
        cmocka_unit_test_setup_teardown(text_from_files, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_from_a_path, setup, teardown),
        cmocka_unit_test_setup_teardown(from_nothing_to_an_export, setup, teardown),
        cmocka_unit_test_setup_teardown(through_a_server, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
