/* What a client's `model` means. */
#include "registry/hub.h"
#include "registry/resolve.h"

static struct resolved_model resolve(struct hub *hub, const char *name)
{
    struct resolved_model out;

    assert_ok(registry_resolve_model(hub->registry, name, &hub->arena, &out, &hub->err), &hub->err);
    return out;
}

static void alias(struct hub *hub, const char *version, const char *name)
{
    const char *const names[] = {name};
    struct version_patch patch = {.aliases = names, .n_aliases = 1};
    struct version_row row;

    assert_ok(registry_patch_version(hub->registry, hub->model, version, &patch, &hub->arena, &row,
                                     &hub->err),
              &hub->err);
}

static void test_a_registered_name(void **state)
{
    struct hub *hub = *state;
    struct resolved_model out;

    hub_fill(hub);
    out = resolve(hub, "shop");
    assert_true(out.is_registered && !out.has_version && out.has_weights);
    assert_string_equal(out.base_id, "org/tiny");
    out = resolve(hub, "shop:latest"); /* nothing ready yet: the base */
    assert_true(out.is_registered && !out.has_version);
    hub_version(hub);
    hub_version(hub);
    out = resolve(hub, "shop");
    assert_true(out.has_version);
    assert_string_equal(out.version.version, "1.1.0");
    alias(hub, "1.0.0", "production");
    assert_string_equal(resolve(hub, "shop").version.version, "1.0.0");
    assert_string_equal(resolve(hub, "shop:latest").version.version, "1.1.0");
    assert_string_equal(resolve(hub, "shop:production").version.version, "1.0.0");
    assert_string_equal(resolve(hub, "shop@1.1.0").version.version, "1.1.0");
}

static void test_a_base(void **state)
{
    struct hub *hub = *state;
    struct resolved_model out;

    hub_fill(hub);
    out = resolve(hub, "org/tiny");
    assert_false(out.is_registered || out.has_version);
    assert_true(out.has_weights);
    assert_string_equal(out.base_id, "org/tiny");
    assert_string_equal(resolve(hub, "org/tiny:latest").base_id, "org/tiny");
    /* as Ollama's clients name what they have pulled; the file is weights.gguf */
    assert_string_equal(resolve(hub, "hf.co/org/tiny").base_id, "org/tiny");
    assert_string_equal(resolve(hub, "hf.co/org/tiny:Weights").base_id, "org/tiny");
    for (const char *const *other =
             (const char *const[]){"org/tiny:Q8_0", "org/tiny:eights", "org/tiny:weights.gguf",
                                   "org/tiny:gguf", "org/tiny:", NULL};
         *other; other++)
        assert_err(registry_resolve_model(hub->registry, *other, &hub->arena, &out, &hub->err),
                   &hub->err, ERR_NOT_FOUND);
}

static void test_exact_names_win(void **state)
{
    struct hub *hub = *state;

    hub_fill(hub);
    hub_base(hub, "shop", "other weights"); /* a base with a model's name */
    assert_true(resolve(hub, "shop").is_registered);
}

static void test_without_weights(void **state)
{
    struct hub *hub = *state;
    struct resolved_model out;

    hub_model(hub, "bare", "org/none");
    out = resolve(hub, "bare");
    assert_true(out.is_registered && !out.has_weights);
    assert_string_equal(out.base_id, "org/none");
}

static void test_what_is_not_there(void **state)
{
    struct hub *hub = *state;
    struct resolved_model out;
    struct version_row version;
    struct job_row job;
    char path[FS_PATH_BYTES_MAX];
    static const struct {
        const char *name;
        int rc;
        const char *why;
    } rows[] = {
        {"nobody", -ERR_NOT_FOUND, "Model 'nobody' not found"},
        {"nobody@1.0.0", -ERR_NOT_FOUND, "Model 'nobody@1.0.0' not found"},
        {"shop@9.0.0", -ERR_NOT_FOUND, "Model 'shop' has no version 9.0.0"},
        {"shop:none", -ERR_NOT_FOUND, "Model 'shop' has no alias 'none'"},
        {"shop@1.0.0", -ERR_CONFLICT, "Version 1.0.0 of model 'shop' is not ready: it is training"},
        {"org/tiny:q4", -ERR_NOT_FOUND, "Model 'org/tiny:q4' not found"},
        {"", -ERR_NOT_FOUND, "Model '' not found"},
        {"@", -ERR_NOT_FOUND, "Model '@' not found"},
    };

    hub_fill(hub);
    hub_job(hub);
    assert_true(hub_claim(hub, &job));
    assert_ok(registry_job_version(hub->registry, job.id, job.fence, &hub->arena, &version, path,
                                   &hub->err),
              &hub->err);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (registry_resolve_model(hub->registry, rows[i].name, &hub->arena, &out, &hub->err) !=
                rows[i].rc ||
            strcmp(hub->err.message, rows[i].why) != 0)
            fail_msg("row %zu: %s", i, hub->err.message);
        err_clear(&hub->err);
    }
}

static void test_by_ids(void **state)
{
    struct hub *hub = *state;
    struct resolved_model out;
    struct version_row version;

    hub_fill(hub);
    version = hub_version(hub);
    assert_ok(registry_resolve_ids(hub->registry, hub->model, NULL, &hub->arena, &out, &hub->err),
              &hub->err);
    assert_string_equal(out.version.id, version.id);
    assert_ok(
        registry_resolve_ids(hub->registry, hub->model, version.id, &hub->arena, &out, &hub->err),
        &hub->err);
    assert_true(out.has_version && out.has_weights);
    const char *other = hub_model(hub, "other", "org/tiny");
    assert_err(registry_resolve_ids(hub->registry, other, version.id, &hub->arena, &out, &hub->err),
               &hub->err, ERR_NOT_FOUND);
    assert_err(registry_resolve_ids(hub->registry, version.id, NULL, &hub->arena, &out, &hub->err),
               &hub->err, ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HUB_TEST(test_a_registered_name), HUB_TEST(test_a_base),
        HUB_TEST(test_exact_names_win),   HUB_TEST(test_without_weights),
        HUB_TEST(test_what_is_not_there), HUB_TEST(test_by_ids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
