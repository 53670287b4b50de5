/* Settings: every row's default, where values come from, bad values by kind, what rows do together.
 */
#include "test.h"

#include <ctype.h>

#include "base/machine.h"
#include "base/settings.h"

extern char **environ;

enum { SHOWN_BYTES = 1200 };

static char dir[FS_PATH_BYTES_MAX], before[FS_PATH_BYTES_MAX];
static char *no_environment[] = {NULL};
static char **whole_environment;

/* Each test runs in an empty folder with an empty environment. */
static int set_up(void **state)
{
    (void)state;
    test_dir_make(dir);
    if (!getcwd(before, sizeof before) || chdir(dir) != 0 || !getcwd(dir, sizeof dir))
        return -1;
    whole_environment = environ;
    environ = no_environment;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    environ = whole_environment;
    if (chdir(before) != 0)
        return -1;
    test_dir_remove(dir);
    return 0;
}

static int load_flag(struct settings *settings, const char *name, const char *value,
                     struct err *err)
{
    return settings_load(settings, &name, &value, 1, err);
}

static int load(struct settings *settings, struct err *err)
{
    return settings_load(settings, NULL, NULL, 0, err);
}

static void dotenv(const char *text)
{
    struct err err = {0};
    assert_ok(fs_write_file(".env", text, strlen(text), &err), &err);
}

static const char *shown(const struct settings *settings, const char *name)
{
    static char out[SHOWN_BYTES + FS_PATH_BYTES_MAX];
    int row = setting_find(name);
    assert_true(row >= 0);
    settings_show(settings, (size_t)row, out, sizeof out);
    return out;
}

static void test_defaults(void **state)
{
    (void)state;
    struct err err = {0};
    struct settings settings;
    char want[FS_PATH_BYTES_MAX + 64];
    assert_ok(load(&settings, &err), &err);
    size_t count;
    const struct setting_info *table = settings_table(&count);
    assert_int_equal(count, 34);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(settings.source[i], SETTING_DEFAULT);
        assert_int_equal(setting_find(table[i].name), i);
        assert_true(strlen(table[i].help) > 0 && strlen(table[i].allowed) > 0);
    }
    assert_string_equal(settings.app_name, "MLX Model Hub");
    assert_string_equal(settings.host, "127.0.0.1");
    assert_int_equal(settings.port, 8000);
    assert_string_equal(settings.default_quantization, "4bit");
    assert_true(settings.keep_alive_ms == 300000);
    assert_string_equal(shown(&settings, "KEEP_ALIVE"), "5m");
    assert_true(settings.job_patience_ms == 300000);
    assert_int_equal(settings.checkpoint_days, 7);
    assert_string_equal(settings.log_level, "INFO");
    assert_false(settings.log_json);
    assert_string_equal(settings.isa, "best");
    assert_string_equal(settings.engine, "auto");
    assert_string_equal(settings.hf_endpoint, "https://huggingface.co");
    snprintf(want, sizeof want, "%s/storage", dir);
    assert_string_equal(settings.storage_base_path, want);
    snprintf(want, sizeof want, "%s/storage/models", dir);
    assert_string_equal(settings.storage_models_path, want);
    snprintf(want, sizeof want, "%s/storage/datasets", dir);
    assert_string_equal(settings.storage_datasets_path, want);
    snprintf(want, sizeof want, "sqlite:///%s/storage/hub.db", dir);
    assert_string_equal(settings.database_url, want);
}

static void test_first_source_wins(void **state)
{
    (void)state;
    struct err err = {0};
    struct settings settings;
    dotenv("# comment\n\nexport PORT=1001\nmax_queue = 7 # seven\nAPP_NAME=\"a \\\"b\\\" c\"\n"
           "ALLOWED_HOSTS='x # y'\r\nUNKNOWN=1\nMLX_HUB_MAX_MODELS=3\nMAX_MODELS=2\nENGINE=\n");
    assert_ok(load(&settings, &err), &err);
    assert_int_equal(settings.port, 1001);
    assert_int_equal(settings.max_queue, 7);
    assert_string_equal(settings.app_name, "a \"b\" c");
    assert_string_equal(settings.allowed_hosts, "x # y");
    assert_int_equal(settings.max_models, 3);
    assert_string_equal(settings.engine, "auto"); /* empty is unset */
    assert_int_equal(settings.source[setting_find("PORT")], SETTING_DOTENV);
    assert_int_equal(settings.source[setting_find("ENGINE")], SETTING_DEFAULT);
    char one[] = "port=1002", two[] = "API_KEY=", three[] = "MLX_HUB_THREADS=2";
    char *environment[] = {one, two, three, NULL};
    environ = environment;
    assert_ok(load(&settings, &err), &err);
    assert_int_equal(settings.port, 1002);
    assert_int_equal(settings.threads, 2);
    assert_int_equal(settings.source[setting_find("port")], SETTING_ENV);
    char four[] = "Mlx_Hub_Port=1003", five[] = "PORT=1004";
    char *both[] = {one, four, five, NULL};
    environ = both;
    assert_ok(load(&settings, &err), &err);
    assert_int_equal(settings.port, 1003);
    assert_ok(load_flag(&settings, "port", "1005", &err), &err);
    assert_int_equal(settings.port, 1005);
    assert_int_equal(settings.source[setting_find("PORT")], SETTING_FLAG);
    assert_string_equal(setting_source_name(SETTING_FLAG), "flag");
    environ = no_environment;
    assert_ok(load_flag(&settings, "threads", "3", &err), &err);
    assert_int_equal(settings.threads, 3);
    assert_ok(load_flag(&settings, "mlx-hub-threads", "4", &err), &err);
    assert_int_equal(settings.threads, 4);
    assert_ok(load_flag(&settings, "Max_Queue", "0", &err), &err);
    assert_int_equal(settings.max_queue, 0);
    assert_err(load_flag(&settings, "nope", "1", &err), &err, ERR_INVALID);
}

static void test_bad_values(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
    } ROWS[] = {
        {"port", "-1"},
        {"port", "65536"},
        {"port", ""},
        {"port", " 1"},
        {"port", "1x"},
        {"port", "99999999999999999999"},
        {"debug", "maybe"},
        {"log-level", "LOUD"},
        {"log-format", "xml"},
        {"database-url", "mysql://x"},
        {"database-url", "sqlite://x"},
        {"database-url", "sqlite:///"},
        {"database-url", "sqlite:///:memory:"},
        {"database-url", "postgresql://"},
        {"database-url", "x"},
        {"mlflow-tracking-uri", "ftp://x"},
        {"mlflow-tracking-uri", "http://"},
        {"mlflow-tracking-uri", "http://a b"},
        {"storage-base-path", ""},
        {"mlx-memory-limit-gb", "0"},
        {"mlx-memory-limit-gb", "nan"},
        {"mlx-memory-limit-gb", "1e9"},
        {"mlx-memory-limit-gb", "4x"},
        {"mlx-default-quantization", "2bit"},
        {"mlx-default-quantization", "4bit|8bit"},
        {"host", ""},
        {"host", "a b"},
        {"max-sessions", "0"},
        {"max-models", "65"},
        {"keep-alive", "soon"},
        {"context-length", "127"},
        {"context-length", "-1"},
        {"prefix-cache-mb", "-1"},
        {"max-body-mb", "0"},
        {"max-connections", "7"},
        {"workers", "65"},
        {"engine", "gpu"},
        {"threads", "257"},
        {"isa", "sse"},
        {"app-name", "a\nb"},
        {"app-name", "\xff"},
        {"allowed-hosts", "a\x7f"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct err err = {0};
        struct settings settings;
        size_t count;
        int rc = load_flag(&settings, ROWS[i].name, ROWS[i].value, &err);
        const char *name = settings_table(&count)[setting_find(ROWS[i].name)].name;
        bool path = strcmp(name, "STORAGE_BASE_PATH") == 0;
        if (rc != -ERR_INVALID || !strstr(err.message, name) ||
            (!path && !strstr(err.message, "allowed:")))
            fail_msg("%s=%s: %s", ROWS[i].name, ROWS[i].value, err.message);
    }
}

static void test_good_values(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *shows;
    } ROWS[] = {
        {"debug", "YES", "true"},
        {"log-format", "JSON", "json"},
        {"log-level", "info,store=debug", "info,store=debug"},
        {"engine", "Native", "native"},
        {"isa", "AVX2", "avx2"},
        {"keep-alive", "-1", "-1"},
        {"keep-alive", "90s", "90s"},
        {"keep-alive", "3600", "1h"},
        {"mlx-memory-limit-gb", "0.5", "0.5"},
        {"context-length", "128", "128"},
        {"hf-endpoint", "http://h:1//", "http://h:1"},
        {"mlflow-tracking-uri", "https://u:p@w@h/x", "https://u:****@h/x"},
        {"database-url", "sqlite:////abs/x.db", "sqlite:////abs/x.db"},
        {"database-url", "sqlite+aiosqlite:////abs/x.db", "sqlite:////abs/x.db"},
        {"database-url", "postgres://h/db", "postgresql://h/db"},
        {"database-url", "postgresql+asyncpg://u:pw@h/db", "postgresql://u:****@h/db"},
        {"api-key", "secret", "********"},
        {"api-key", "", ""},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct err err = {0};
        struct settings settings;
        assert_ok(load_flag(&settings, ROWS[i].name, ROWS[i].value, &err), &err);
        assert_string_equal(shown(&settings, ROWS[i].name), ROWS[i].shows);
    }
}

static void test_secrets_stay_out_of_messages(void **state)
{
    (void)state;
    struct err err = {0};
    struct settings settings;
    assert_int_equal(load_flag(&settings, "api-key", "two words", &err), -ERR_INVALID);
    assert_null(strstr(err.message, "words"));
    err_clear(&err);
    assert_int_equal(load_flag(&settings, "database-url", "mysql://u:hunter2@h/d", &err),
                     -ERR_INVALID);
    assert_null(strstr(err.message, "hunter2"));
}

static void test_bad_dotenv(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } ROWS[] = {
        {"PORT", "line 1"},
        {"\n=1\n", "line 2"},
        {"# x\nA B=1", "line 2"},
        {"A=\"open\nB=1", "line 1"},
        {"A='open", "line 1"},
        {"A=\"x\" y", "line 1"},
        {"PORT=zero", "PORT is \"zero\" (.env)"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct err err = {0};
        struct settings settings;
        dotenv(ROWS[i].text);
        if (load(&settings, &err) != -ERR_INVALID || !strstr(err.message, ROWS[i].says))
            fail_msg("row %zu: %s", i, err.message);
    }
    struct err err = {0};
    struct settings settings;
    assert_ok(fs_write_file(".env", "A=1\0B=2", 7, &err), &err);
    assert_err(load(&settings, &err), &err, ERR_INVALID);
}

static void test_memory_limit(void **state)
{
    (void)state;
    struct err err = {0};
    struct settings settings;
    char text[32];
    double ram_gb = (double)machine_ram_bytes() / (double)(1 << 30);
    assert_ok(load(&settings, &err), &err);
    assert_true(settings.memory_limit_lowered == (ram_gb * 0.75 < 36));
    assert_true(settings.memory_limit_gb <= ram_gb * 0.75 && settings.memory_limit_gb > 0);
    snprintf(text, sizeof text, "%.2f", ram_gb * 0.75 + 0.1);
    assert_err(load_flag(&settings, "mlx-memory-limit-gb", text, &err), &err, ERR_INVALID);
    snprintf(text, sizeof text, "%.2f", ram_gb * 0.7);
    assert_ok(load_flag(&settings, "mlx-memory-limit-gb", text, &err), &err);
    assert_false(settings.memory_limit_lowered);
}

static void test_own_address_as_tracking_server(void **state)
{
    (void)state;
    static const struct {
        const char *host, *uri;
        bool own;
    } ROWS[] = {
        {"127.0.0.1", "http://127.0.0.1:8000", true},
        {"127.0.0.1", "http://localhost:8000/", true},
        {"0.0.0.0", "http://localhost:8000", true},
        {"hub.example", "http://hub.example:8000", true},
        {"127.0.0.1", "http://localhost:5000", false},
        {"127.0.0.1", "http://other:8000", false},
        {"127.0.0.1", "https://127.0.0.1:8000", false},
        {"127.0.0.1", "http://127.0.0.1", false},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct err err = {0};
        struct settings settings;
        const char *names[] = {"host", "mlflow-tracking-uri"};
        const char *values[] = {ROWS[i].host, ROWS[i].uri};
        assert_ok(settings_load(&settings, names, values, 2, &err), &err);
        if ((settings.mlflow_tracking_uri[0] == '\0') != ROWS[i].own)
            fail_msg("row %zu", i);
    }
}

static void test_serving_rules(void **state)
{
    (void)state;
    struct err err = {0};
    struct settings settings;
    assert_ok(load_flag(&settings, "host", "0.0.0.0", &err), &err);
    assert_err(settings_check_serve(&settings, &err), &err, ERR_INVALID);
    const char *names[] = {"host", "api-key"};
    const char *values[] = {"0.0.0.0", "k"};
    assert_ok(settings_load(&settings, names, values, 2, &err), &err);
    assert_ok(settings_check_serve(&settings, &err), &err);
    static const char *const LOOPBACK[] = {"localhost", "::1", "127.0.0.2"};
    for (size_t i = 0; i < sizeof LOOPBACK / sizeof *LOOPBACK; i++) {
        assert_ok(load_flag(&settings, "host", LOOPBACK[i], &err), &err);
        assert_ok(settings_check_serve(&settings, &err), &err);
    }
    assert_ok(load_flag(&settings, "workers", "2", &err), &err);
    assert_err(settings_check_serve(&settings, &err), &err, ERR_INVALID);
    assert_ok(load_flag(&settings, "debug", "1", &err), &err);
    assert_string_equal(settings.log_level, "INFO,store=DEBUG");
}

static void test_folders_are_made(void **state)
{
    (void)state;
    struct err err = {0};
    struct settings settings;
    assert_ok(load_flag(&settings, "storage-models-path", "elsewhere/m", &err), &err);
    assert_ok(settings_make_dirs(&settings, &err), &err);
    static const char *const WANT[] = {"storage/datasets",     "storage/cache",
                                       "storage/blobs/sha256", "storage/checkpoints",
                                       "storage/artifacts",    "elsewhere/m"};
    for (size_t i = 0; i < sizeof WANT / sizeof *WANT; i++)
        assert_true(fs_is_dir(WANT[i]));
    assert_false(fs_exists("storage/models"));
}

static void test_load_survives_faults(void **state)
{
    (void)state;
    static const enum fault_kind KINDS[] = {FAULT_MALLOC, FAULT_OPEN, FAULT_READ};
    dotenv("PORT=1\n\nHOST=x\n");
    size_t used = mem_used();
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
        for (uint64_t n = 1;; n++) {
            struct err err = {0};
            struct settings settings;
            fault_arm(KINDS[k], n, false);
            int rc = load(&settings, &err);
            fault_disarm();
            assert_true(fault_fired() == (rc != 0));
            assert_true(mem_used() == used);
            if (rc == 0)
                break;
        }
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_defaults),
        CASE(test_first_source_wins),
        CASE(test_bad_values),
        CASE(test_good_values),
        CASE(test_secrets_stay_out_of_messages),
        CASE(test_bad_dotenv),
        CASE(test_memory_limit),
        CASE(test_own_address_as_tracking_server),
        CASE(test_serving_rules),
        CASE(test_folders_are_made),
        CASE(test_load_survives_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
