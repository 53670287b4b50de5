/* Byte for byte what jinja2 makes under transformers: snippets of the language, and published
 * templates over a few hundred conversations. scripts/golden/templates.py made the files. */
#include "test.h"

#include <dirent.h>

#include "base/hash.h"
#include "base/json.h"
#include "text/template.h"

#define FOLDER "tests/fixtures/text/templates"
static const char date[] = "2024-07-26";

enum { FIXTURE_BYTES_MAX = 4 << 20, DIGEST_DIGITS = 16, SHOWN = 20 };

static json_t *load(const char *name)
{
    char path[1024];
    struct err err = {0};
    snprintf(path, sizeof path, FOLDER "/%.500s", name);
    json_t *json = json_parse_file(path, FIXTURE_BYTES_MAX, &err);
    if (json == NULL)
        fail_msg("%s: %s", path, err.message);
    return json;
}

/* Compiles and renders; NULL for an error, which is then in err. */
static char *render(const struct template *t, const struct template_input *input, size_t *length,
                    struct err *err)
{
    struct buf out;
    buf_init(&out, TEMPLATE_OUTPUT_BYTES_MAX);
    int rc = template_render(t, input, &out, err);
    if (rc != 0) {
        assert_int_equal(err->code, -rc);
        assert_int_equal(out.len, 0);
        buf_release(&out);
        return NULL;
    }
    *length = out.len;
    return buf_take(&out);
}

/* Prints a difference and counts it. */
static void differ(size_t *failures, const char *what, const char *want, const char *got)
{
    if ((*failures)++ < SHOWN)
        print_error("%s\n  want: %s\n  got:  %s\n", what, want, got);
}

static void language_is_jinja2s(void **state)
{
    (void)state;
    json_t *file = load("language.json");
    json_t *cases = json_object_get(file, "cases");
    json_t *messages = json_array();
    size_t failures = 0;
    assert_true(json_array_size(cases) > 1000);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *source = json_array_get(json_array_get(cases, i), 0);
        const json_t *want = json_array_get(json_array_get(cases, i), 1);
        struct template_input input = {
            .messages = messages, .extra = json_object_get(file, "context"), .date = date};
        struct template *t = NULL;
        struct err err = {0};
        char *got = NULL;
        size_t length = 0;
        if (template_new(json_string_value(source), json_string_length(source), &t, &err) == 0)
            got = render(t, &input, &length, &err);
        if (json_is_null(want) ? got != NULL
                               : got == NULL || length != json_string_length(want) ||
                                     memcmp(got, json_string_value(want), length) != 0)
            differ(&failures, json_string_value(source),
                   json_is_null(want) ? "(an error)" : json_string_value(want),
                   got != NULL ? got : err.message);
        if (got == NULL && err.code != ERR_INVALID && err.code != ERR_TOO_LARGE)
            differ(&failures, json_string_value(source), "an error of the template's", err.message);
        mem_free(got);
        template_free(t);
    }
    json_decref(messages);
    json_decref(file);
    assert_int_equal(failures, 0);
}

static struct template_input input_of(const json_t *template, const json_t *one)
{
    return (struct template_input){
        .messages = json_object_get(one, "messages"),
        .tools = json_object_get(one, "tools"),
        .extra = json_object_get(one, "extra"),
        .add_generation_prompt = json_is_true(json_object_get(one, "add_generation_prompt")),
        .bos_token = json_string_value(json_object_get(template, "bos_token")),
        .eos_token = json_string_value(json_object_get(template, "eos_token")),
        .date = date,
    };
}

/* Renders every conversation with one template; `wants` has texts, or digests of them. */
static void check_talks(const char *name, const json_t *template, const json_t *talks,
                        const json_t *wants, bool digests, size_t *failures)
{
    const json_t *source = json_object_get(template, "source");
    struct template *t = NULL;
    struct err err = {0};
    assert_int_equal(json_array_size(wants), json_array_size(talks));
    assert_ok(template_new(json_string_value(source), json_string_length(source), &t, &err), &err);
    for (size_t i = 0; i < json_array_size(talks); i++) {
        const json_t *one = json_array_get(talks, i);
        const char *want = json_string_value(json_array_get(wants, i));
        struct template_input input = input_of(template, one);
        char digest[SHA256_HEX_BYTES];
        char what[256];
        size_t length = 0;
        char *got = render(t, &input, &length, &err);
        const char *compared = got;
        if (got != NULL && digests) {
            assert_ok(sha256_hex(got, length, digest, &err), &err);
            digest[DIGEST_DIGITS] = '\0';
            compared = digest;
        }
        snprintf(what, sizeof what, "%s, %s", name,
                 json_string_value(json_object_get(one, "name")));
        if (want == NULL ? got != NULL : compared == NULL || strcmp(want, compared) != 0)
            differ(failures, what, want != NULL ? want : "(an error)",
                   got != NULL ? got : err.message);
        err_clear(&err);
        mem_free(got);
    }
    template_free(t);
}

static void models_are_jinja2s(void **state)
{
    (void)state;
    json_t *talks = load("talks.json");
    size_t failures = 0;
    size_t n = 0;
    DIR *folder = opendir(FOLDER "/models");
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char name[512];
        if (strstr(entry->d_name, ".json") == NULL)
            continue;
        snprintf(name, sizeof name, "models/%.200s", entry->d_name);
        json_t *template = load(name);
        check_talks(entry->d_name, template, talks, json_object_get(template, "outputs"), false,
                    &failures);
        json_decref(template);
        n++;
    }
    closedir(folder);
    json_decref(talks);
    assert_true(n >= 8);
    assert_int_equal(failures, 0);
}

static void published_are_jinja2s(void **state)
{
    (void)state;
    json_t *talks = load("talks.json");
    json_t *published = load("published.json");
    size_t failures = 0;
    assert_true(json_array_size(published) >= 70);
    for (size_t i = 0; i < json_array_size(published); i++) {
        const json_t *template = json_array_get(published, i);
        check_talks(json_string_value(json_object_get(template, "name")), template, talks,
                    json_object_get(template, "digests"), true, &failures);
    }
    json_decref(published);
    json_decref(talks);
    assert_int_equal(failures, 0);
}

/* The constant in the header is the one that the golden file was made with. */
static void plain_is_the_recorded_one(void **state)
{
    (void)state;
    json_t *file = load("models/plain.json");
    assert_string_equal(json_string_value(json_object_get(file, "source")), template_plain);
    json_decref(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(language_is_jinja2s),
        cmocka_unit_test(models_are_jinja2s),
        cmocka_unit_test(published_are_jinja2s),
        cmocka_unit_test(plain_is_the_recorded_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
