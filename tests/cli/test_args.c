/* The argument parser: words to options, positionals, actions and settings. */
#include "test.h"

#include "base/json.h"
#include "cli/commands.h"
#include "formats/train_config.h"

enum { WORDS_MAX = 12, WORD_BYTES = 128 };

static int run_nothing(const struct args *args, struct err *err)
{
    (void)args;
    (void)err;
    return EXIT_DONE;
}

static const struct option_info plain_options[] = {
    {"max-tokens", "N", "…"}, {"raw", NULL, "…"}, {"heat", "X", "…"}};
static const struct command plain = {.name = "plain",
                                     .usage = "FILE [TEXT]",
                                     .options = plain_options,
                                     .n_options = 3,
                                     .positional_min = 1,
                                     .positional_max = 2,
                                     .run = run_nothing};
static const struct action plain_actions[] = {
    {"add", "FILE", "…", "max-tokens raw", 1, 1, run_nothing},
    {"list", "", "…", "", 0, 0, run_nothing},
};
static const struct command acting = {.name = "acting",
                                      .usage = "add|list",
                                      .options = plain_options,
                                      .n_options = 3,
                                      .actions = plain_actions,
                                      .n_actions = 2};

/* Parses a line of words parted by spaces; the words live in `words`. */
static int parse(struct args *args, const struct command *command, const char *line,
                 char words[WORDS_MAX][WORD_BYTES], struct err *err)
{
    char *argv[WORDS_MAX];
    int argc = 0;
    memset(args, 0, sizeof *args);
    while (*line != '\0') {
        const size_t n = strcspn(line, " ");
        assert_true(argc < WORDS_MAX && n < WORD_BYTES);
        memcpy(words[argc], line, n);
        words[argc][n] = '\0';
        argv[argc] = words[argc];
        argc++;
        line += n + (line[n] == ' ');
    }
    return args_parse(args, command, argc, argv, err);
}

static struct args args; /* too large for a stack */
static char words[WORDS_MAX][WORD_BYTES];

static void takes_words_in_any_order(void **state)
{
    (void)state;
    struct err err = {0};
    long n;
    double x;
    assert_ok(parse(&args, &plain, "--max-tokens 5 a --raw b --json", words, &err), &err);
    assert_int_equal(args.n_positional, 2);
    assert_string_equal(args.positional[0], "a");
    assert_string_equal(args.positional[1], "b");
    assert_true(args.json);
    assert_string_equal(args_get(&args, "raw"), "");
    assert_null(args_get(&args, "heat"));
    assert_ok(args_get_int(&args, "max-tokens", 1, &n, &err), &err);
    assert_int_equal(n, 5);
    assert_ok(args_get_real(&args, "heat", 0.5, &x, &err), &err);
    assert_true(x == 0.5);
}

static void takes_both_spellings(void **state)
{
    (void)state;
    struct err err = {0};
    assert_ok(parse(&args, &plain, "a --max_tokens=7 --heat=", words, &err), &err);
    assert_string_equal(args_get(&args, "max-tokens"), "7");
    assert_string_equal(args_get(&args, "heat"), "");
    assert_ok(parse(&args, &plain, "-- --raw", words, &err), &err);
    assert_string_equal(args.positional[0], "--raw");
    assert_null(args_get(&args, "raw"));
}

static void hands_settings_to_children(void **state)
{
    (void)state;
    struct err err = {0};
    assert_ok(parse(&args, &plain, "a --max-queue 9 --threads 2", words, &err), &err);
    assert_int_equal(args.settings.max_queue, 9);
    assert_int_equal(args.settings.threads, 2);
    assert_string_equal(getenv("MLX_HUB_MAX_QUEUE"), "9");
    assert_string_equal(getenv("MLX_HUB_THREADS"), "2");
    unsetenv("MLX_HUB_MAX_QUEUE");
    unsetenv("MLX_HUB_THREADS");
}

static void finds_actions(void **state)
{
    (void)state;
    struct err err = {0};
    assert_ok(parse(&args, &acting, "--raw add x", words, &err), &err);
    assert_string_equal(args.action->name, "add");
    assert_int_equal(args.n_positional, 1);
    assert_string_equal(args.positional[0], "x");
    assert_ok(parse(&args, &acting, "list", words, &err), &err);
    assert_string_equal(args.action->name, "list");
}

static void refuses_what_is_wrong(void **state)
{
    static const struct {
        const struct command *command;
        const char *line, *says;
    } rows[] = {
        {&plain, "", "too few arguments"},
        {&plain, "a b c", "one argument too many"},
        {&plain, "a --nope", "no option --nope"},
        {&plain, "a --nope=1", "no option --nope"},
        {&plain, "a --raw=1", "--raw takes no value"},
        {&plain, "a --max-tokens", "--max-tokens needs a value"},
        {&plain, "a --max-queue", "--max-queue needs a value"},
        {&plain, "a --port 70000", "70000"},
        {&acting, "", "say one of: add, list"},
        {&acting, "put", "'put' is not one of: add, list"},
        {&acting, "add", "too few arguments: mlx-hub acting add FILE"},
        {&acting, "add a b", "one argument too many"},
        {&acting, "list --raw", "acting list takes no --raw"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        const int rc = parse(&args, rows[i].command, rows[i].line, words, &err);
        if (rc != -ERR_INVALID || strstr(err.message, rows[i].says) == NULL) {
            fail_msg("'%s': %d \"%s\"", rows[i].line, rc, err.message);
        }
    }
}

static void refuses_what_is_no_number(void **state)
{
    static const char *const texts[] = {"", "x", "1x", "99999999999999999999", "1e999"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct err err = {0};
        char line[WORD_BYTES];
        long n;
        double x;
        snprintf(line, sizeof line, "a --max-tokens=%s --heat=%s", texts[i], texts[i]);
        assert_ok(parse(&args, &plain, line, words, &err), &err);
        assert_err(args_get_int(&args, "max-tokens", 1, &n, &err), &err, ERR_INVALID);
        if (i != 3) { /* as a real that one is fine */
            assert_err(args_get_real(&args, "heat", 1, &x, &err), &err, ERR_INVALID);
        }
    }
}

/* --- the program's own commands -----------------------------------------------------------------
 */

static bool names_an_option(const struct command *c, const char *name, size_t n)
{
    for (int i = 0; i < c->n_options; i++) {
        if (strlen(c->options[i].name) == n && memcmp(c->options[i].name, name, n) == 0) {
            return true;
        }
    }
    return false;
}

static void every_command_is_whole(void **state)
{
    (void)state;
    size_t n;
    const struct command *const *all = commands(&n);
    for (size_t i = 0; i < n; i++) {
        const struct command *c = all[i];
        assert_true(c->name != NULL && c->summary != NULL && c->usage != NULL);
        assert_true(c->examples != NULL && strlen(c->examples) > 0);
        assert_true(c->n_options <= OPTIONS_MAX);
        assert_true((c->run != NULL) != (c->actions != NULL));
        for (int o = 0; o < c->n_options; o++) {
            /* a setting of the same name could never be given */
            assert_int_equal(setting_find(c->options[o].name), -1);
        }
        for (int a = 0; a < c->n_actions; a++) {
            const char *at = c->actions[a].options;
            while (*at != '\0') {
                const size_t m = strcspn(at, " ");
                assert_true(names_an_option(c, at, m));
                at += m + (at[m] == ' ');
            }
        }
    }
}

static void train_has_every_config_key(void **state)
{
    (void)state;
    struct train_config config;
    struct err err = {0};
    struct buf buf;
    struct json_out out;
    const char *key;
    json_t *value;
    buf_init(&buf, 1 << 16);
    json_out_init(&out, &buf);
    train_config_defaults(&config);
    train_config_write(&config, &out);
    json_t *tree = json_parse(buf.data, buf.len, &err);
    assert_non_null(tree);
    assert_ok(parse(&args, &command_train, "m", words, &err), &err);
    json_object_foreach(tree, key, value)
    {
        assert_null(args_get(&args, key)); /* asserts that the option is there */
    }
    json_decref(tree);
    buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_words_in_any_order),   cmocka_unit_test(takes_both_spellings),
        cmocka_unit_test(hands_settings_to_children), cmocka_unit_test(finds_actions),
        cmocka_unit_test(refuses_what_is_wrong),      cmocka_unit_test(refuses_what_is_no_number),
        cmocka_unit_test(every_command_is_whole),     cmocka_unit_test(train_has_every_config_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
