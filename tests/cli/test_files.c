/* Where a command finds tokenizer, template and weights, and what it says where it does not. */
#include "test.h"

#include "base/settings.h"
#include "cli/find_model.h"
#include "cli/text_files.h"

static const char base[] = "tests/fixtures/train/base";

static void write_text(const char *dir, const char *name, const char *text,
                       char path[FS_PATH_BYTES_MAX])
{
    struct err err = {0};
    assert_ok(fs_join(path, dir, name, &err), &err);
    assert_ok(fs_write_file(path, text, strlen(text), &err), &err);
}

static void opens_a_folder(void **state)
{
    struct err err = {0};
    struct text_files files;
    (void)state;
    assert_ok(text_files_open(&files, base, &err), &err);
    assert_non_null(files.tokenizer);
    assert_non_null(strstr(files.template_source, "<|im_start|>"));
    assert_string_equal(files.bos, "<|endoftext|>");
    assert_string_equal(files.eos, "<|im_end|>");
    text_files_release(&files);
    text_files_release(&files);
}

static void opens_each_kind_of_file(void **state)
{
    static const char config[] =
        "{\"chat_template\":[{\"name\":\"tool\",\"template\":\"T\"},"
        "{\"name\":\"default\",\"template\":\"D\"}],\"bos_token\":{\"content\":\"<b>\"}}";
    struct err err = {0};
    struct text_files files;
    char dir[FS_PATH_BYTES_MAX];
    char path[FS_PATH_BYTES_MAX];
    (void)state;
    test_dir_make(dir);

    write_text(dir, "config_of_tokenizer.json", config, path);
    assert_ok(text_files_open(&files, path, &err), &err);
    assert_string_equal(files.template_source, "D");
    assert_string_equal(files.bos, "<b>");
    assert_null(files.eos);
    text_files_release(&files);

    write_text(dir, "a template", "{{ messages[0].content }}", path);
    assert_ok(text_files_open(&files, path, &err), &err);
    assert_string_equal(files.template_source, "{{ messages[0].content }}");
    text_files_release(&files);

    assert_ok(text_files_open(&files, "tests/fixtures/train/base/tokenizer.json", &err), &err);
    assert_non_null(files.tokenizer);
    assert_null(files.template_source);
    text_files_release(&files);

    assert_ok(text_files_open(&files, "tests/fixtures/train/base/model.safetensors", &err), &err);
    assert_non_null(files.tokenizer);
    text_files_release(&files);

    /* weights without a vocabulary */
    assert_ok(text_files_open(&files, "tests/fixtures/engine/serve/q4_0.gguf", &err), &err);
    assert_null(files.tokenizer);
    text_files_release(&files);
    test_dir_remove(dir);
}

static void says_what_is_wrong_with_files(void **state)
{
    struct err err = {0};
    struct text_files files;
    char dir[FS_PATH_BYTES_MAX];
    char path[FS_PATH_BYTES_MAX];
    (void)state;
    test_dir_make(dir);
    assert_err(text_files_open(&files, "no/such/file", &err), &err, ERR_NOT_FOUND);
    write_text(dir, "tokenizer.json", "{", path);
    assert_true(text_files_open(&files, path, &err) != 0);
    err_clear(&err);
    write_text(dir, "x.json", "nonsense", path);
    assert_err(text_files_open(&files, path, &err), &err, ERR_UNPROCESSABLE);
    write_text(dir, "x.gguf", "GGUFxx", path);
    assert_err(text_files_open(&files, path, &err), &err, ERR_CORRUPT);
    assert_err(text_files_open(&files, "tests/fixtures/formats/mixed.safetensors", &err), &err,
               ERR_NOT_FOUND);
    test_dir_remove(dir);
}

static void survives_failing_allocations(void **state)
{
    (void)state;
    bool whole = false;
    for (uint64_t n = 1; !whole; n++) {
        struct err err = {0};
        struct text_files files;
        fault_arm(FAULT_MALLOC, n, false);
        const int rc = text_files_open(&files, base, &err);
        whole = !fault_fired();
        fault_disarm();
        /* regular expressions do without their compiled form when there is no room for it */
        if (rc != 0 && (whole || rc != -ERR_NOMEM)) {
            fail_msg("allocation %llu: %d %s", (unsigned long long)n, rc, err.message);
        }
        text_files_release(&files);
    }
}

static void knows_paths_from_names(void **state)
{
    static const struct {
        const char *text;
        bool is_path;
    } rows[] = {
        {"./x", true},    {"../x", true},    {"/x", true},        {".", true},
        {"x.gguf", true}, {"a.jinja", true}, {base, true},        {"README.md", true},
        {"src", false},   {"facts", false},  {"org/name", false}, {"facts@1.0.0", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (is_model_path(rows[i].text) != rows[i].is_path) {
            fail_msg("%s", rows[i].text);
        }
    }
}

static void finds_models_by_path(void **state)
{
    static struct settings settings;
    struct err err = {0};
    struct found_model one, two;
    (void)state;
    assert_ok(settings_load(&settings, NULL, NULL, 0, &err), &err);
    assert_ok(find_model(&one, &settings, base, &err), &err);
    assert_ok(find_model(&two, &settings, "tests/fixtures/formats/tiny-llama.gguf", &err), &err);
    assert_true(one.is_path && one.spec.base_path[0] == '/');
    assert_true(one.spec.memory_bytes > 100000);
    assert_string_not_equal(one.spec.base_key, two.spec.base_key);
    assert_null(one.version_dir);
    found_model_release(&one);
    found_model_release(&two);
    assert_err(find_model(&one, &settings, "./nothing.gguf", &err), &err, ERR_NOT_FOUND);
    found_model_release(&one);
}

/* Asking for a name makes neither a folder nor a database. */
static void a_name_without_a_hub_says_what_to_do(void **state)
{
    static struct settings settings;
    const char *names[] = {"storage_base_path"};
    struct err err = {0};
    struct found_model model;
    char dir[FS_PATH_BYTES_MAX];
    char storage[FS_PATH_BYTES_MAX];
    (void)state;
    test_dir_make(dir);
    assert_ok(fs_join(storage, dir, "storage", &err), &err);
    const char *values[] = {storage};
    assert_ok(settings_load(&settings, names, values, 1, &err), &err);
    assert_int_equal(find_model(&model, &settings, "facts", &err), -ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "mlx-hub import"));
    assert_false(fs_exists(storage));
    found_model_release(&model);
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_a_folder),
        cmocka_unit_test(opens_each_kind_of_file),
        cmocka_unit_test(says_what_is_wrong_with_files),
        cmocka_unit_test(survives_failing_allocations),
        cmocka_unit_test(knows_paths_from_names),
        cmocka_unit_test(finds_models_by_path),
        cmocka_unit_test(a_name_without_a_hub_says_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
