/* Names and the folders that they become. */
#include "registry/names.h"
#include "test.h"

static void test_what_a_name_may_be(void **state)
{
    char many[257 * 2 + 1];
    const struct {
        const char *name, *why;
    } bad[] = {
        {NULL, "empty"},          {"", "empty"},       {" a", "space"},
        {"a ", "space"},          {".", "'.'"},        {"..", "'..'"},
        {"a/b", "'/'"},           {"a\\b", "'\\'"},    {"a:b", "':'"},
        {"a@b", "'@'"},           {"a\nb", "control"}, {"a\x7f", "control"},
        {"a\xc2\x85", "control"}, {"a\xff", "UTF-8"},  {many, "256"},
    };
    struct err err = {0};

    (void)state;
    for (int i = 0; i < 256; i++)
        memcpy(many + 2 * i, "\xc3\xa9", 2);
    many[512] = '\0';
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(name_check("name", bad[i].name, &err), -ERR_UNPROCESSABLE);
        if (!strstr(err.message, bad[i].why) || strncmp(err.message, "name ", 5) != 0)
            fail_msg("row %zu: %s", i, err.message);
        err_clear(&err);
    }
    many[510] = '\0';
    assert_ok(name_check("name", many, &err), &err);
    assert_ok(name_check("name", "My model, v2 (é) ...", &err), &err);
}

static void test_a_tag_may_follow(void **state)
{
    static const char *const good[] = {"mario", "mario:v2", "org/mario:7b-q4"};
    static const char *const bad[] = {"",      ":",     "mario:", ":v2",   "a:b:c", "a/b/c",
                                      "a@b:c", "a:b/c", "a: b",   "a /b:", "a:..",  "/a:b"};
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_ok(name_check_tagged("model", good[i], &err), &err);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (name_check_tagged("model", bad[i], &err) != -ERR_UNPROCESSABLE)
            fail_msg("'%s' was taken", bad[i]);
        err_clear(&err);
    }
    assert_err(name_check_tagged("model", NULL, &err), &err, ERR_UNPROCESSABLE);
}

static void test_a_base_may_hold_one_slash(void **state)
{
    struct err err = {0};

    (void)state;
    assert_ok(name_check_base("id", "SmolLM2", &err), &err);
    assert_ok(name_check_base("id", "org/SmolLM2-135M", &err), &err);
    assert_err(name_check_base("id", "a/b/c", &err), &err, ERR_UNPROCESSABLE);
    assert_err(name_check_base("id", "/b", &err), &err, ERR_UNPROCESSABLE);
    assert_err(name_check_base("id", "a/", &err), &err, ERR_UNPROCESSABLE);
    assert_err(name_check_base("id", "../b", &err), &err, ERR_UNPROCESSABLE);
    assert_err(name_check_base("id", "a/..", &err), &err, ERR_UNPROCESSABLE);
}

static void test_folders(void **state)
{
    static const struct {
        const char *name, *folder;
    } rows[] = {
        {"plain-Name_1.0", "plain-Name_1.0"},
        {"two words", "two words"},
        {".hidden", "%2Ehidden"},
        {"dots...", "dots..%2E"},
        {"100%", "100%25"},
        {"a~b", "a%7Eb"},
        {"\xc3\xa9", "%C3%A9"},
        {"what?*<>|\"", "what%3F%2A%3C%3E%7C%22"},
    };
    char folder[NAME_FOLDER_BYTES];
    struct err err = {0};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_ok(name_folder(rows[i].name, false, folder, &err), &err);
        assert_string_equal(folder, rows[i].folder);
    }
    assert_ok(name_folder("Plain", true, folder, &err), &err);
    assert_true(strncmp(folder, "Plain~", 6) == 0 && strlen(folder) == 6 + 16);
}

static void test_long_names_are_cut_and_hashed(void **state)
{
    char a[251], b[251], folder_a[NAME_FOLDER_BYTES], folder_b[NAME_FOLDER_BYTES];
    struct err err = {0};

    (void)state;
    memset(a, 'x', 250);
    memset(b, 'x', 250);
    b[249] = 'y';
    a[250] = b[250] = '\0';
    assert_ok(name_folder(a, false, folder_a, &err), &err);
    assert_ok(name_folder(b, false, folder_b, &err), &err);
    assert_int_equal(strlen(folder_a), NAME_FOLDER_BYTES_MAX);
    assert_string_not_equal(folder_a, folder_b);
    a[200] = '\0';
    assert_ok(name_folder(a, false, folder_a, &err), &err);
    assert_string_equal(folder_a, a);
    /* an escape is never split */
    for (int i = 0; i < 125; i++)
        memcpy(a + 2 * i, "\xc3\xa9", 2);
    assert_ok(name_folder(a, false, folder_a, &err), &err);
    assert_true(strlen(folder_a) <= NAME_FOLDER_BYTES_MAX);
    assert_true(strchr(folder_a, '~')[-3] == '%');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_name_may_be),
        cmocka_unit_test(test_a_tag_may_follow),
        cmocka_unit_test(test_a_base_may_hold_one_slash),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_long_names_are_cut_and_hashed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
