/* Names that are created over a base: what they keep, what they may be called, when they go. */
#include "base/hash.h"
#include "registry/hub.h"
#include "registry/presets.h"
#include "registry/resolve.h"

static struct preset_draft draft_of(const char *name)
{
    return (struct preset_draft){
        .name = name, .base_model = "org/tiny", .source = "org/tiny", .digest = "dd"};
}

static int put(struct hub *hub, const struct preset_draft *draft, struct preset_row *row)
{
    struct preset_row unused;

    err_clear(&hub->err);
    return registry_put_preset(hub->registry, draft, &hub->arena, row ? row : &unused, &hub->err);
}

static void make(struct hub *hub, const char *name)
{
    struct preset_draft draft = draft_of(name);

    assert_ok(put(hub, &draft, NULL), &hub->err);
}

static void refuse(struct hub *hub, const struct preset_draft *draft, enum err_code code,
                   const char *part)
{
    assert_int_equal(put(hub, draft, NULL), -(int)code);
    if (!strstr(hub->err.message, part))
        fail_msg("%s: %s", draft->name, hub->err.message);
}

static const char *hash_of(const char *text)
{
    static char hex[SHA256_HEX_BYTES];
    struct err err = {0};

    assert_ok(sha256_hex(text, strlen(text), hex, &err), &err);
    return hex;
}

static bool has_blob(struct hub *hub, const char *content)
{
    return hub_has(hub, arena_printf(&hub->arena, "blobs/sha256/%s", hash_of(content)));
}

static void test_what_goes_in_is_resolved(void **state)
{
    struct hub *hub = *state;
    struct resolved_model out;
    struct preset_draft draft = draft_of("mario:v2");

    hub_fill(hub);
    hub_write(hub, "adapter", "factors");
    draft.adapter_path = hub_path(hub, "adapter");
    draft.adapter_sha256 = hash_of("factors");
    draft.adapter_scale = 0.1;
    draft.system = "You are Mario.";
    draft.parameters = "{\"top_k\":3}";
    assert_ok(put(hub, &draft, NULL), &hub->err);
    assert_ok(registry_resolve_model(hub->registry, "mario:v2", &hub->arena, &out, &hub->err),
              &hub->err);
    assert_true(out.has_preset && out.has_weights);
    assert_false(out.is_registered || out.has_version);
    assert_string_equal(out.base_id, "org/tiny");
    assert_string_equal(out.preset.system, "You are Mario.");
    assert_string_equal(out.preset.parameters, "{\"top_k\":3}");
    assert_string_equal(out.preset.messages, "[]");
    assert_string_equal(out.preset.license, "[]");
    assert_null(out.preset.template);
    assert_true(out.preset.adapter_scale == 0.1);
    assert_int_equal(out.preset.adapter_bytes, 7);
    assert_true(has_blob(hub, "factors"));
    assert_err(registry_resolve_model(hub->registry, "mario", &hub->arena, &out, &hub->err),
               &hub->err, ERR_NOT_FOUND);
    make(hub, "luigi");
    err_clear(&hub->err);
    assert_ok(registry_resolve_model(hub->registry, "luigi:latest", &hub->arena, &out, &hub->err),
              &hub->err);
    assert_string_equal(out.preset.name, "luigi");
}

static void test_names_are_taken_once(void **state)
{
    struct hub *hub = *state;
    struct preset_draft draft;
    struct model_draft model = {.name = "mario", .base_model = "org/tiny"};
    struct model_row row;
    struct base_row base;
    struct model_patch patch = {.name = "mario"};

    hub_fill(hub);
    make(hub, "mario");
    draft = draft_of("shop");
    refuse(hub, &draft, ERR_CONFLICT, "already exists");
    draft = draft_of("shop:v2");
    refuse(hub, &draft, ERR_CONFLICT, "versions");
    draft = draft_of("org/tiny");
    refuse(hub, &draft, ERR_CONFLICT, "already exists");
    draft = draft_of("a@b");
    refuse(hub, &draft, ERR_UNPROCESSABLE, "'@'");
    draft = draft_of("peach");
    draft.base_model = "nobody";
    refuse(hub, &draft, ERR_NOT_FOUND, "nobody");
    err_clear(&hub->err);
    assert_err(registry_create_model(hub->registry, &model, &hub->arena, &row, &hub->err),
               &hub->err, ERR_CONFLICT);
    assert_err(
        registry_patch_model(hub->registry, hub->model, &patch, &hub->arena, &row, &hub->err),
        &hub->err, ERR_CONFLICT);
    hub_write(hub, "other.gguf", "other weights");
    assert_err(registry_import_base(hub->registry, hub_path(hub, "other.gguf"), "mario", &hub_facts,
                                    NULL, NULL, &hub->arena, &base, &hub->err),
               &hub->err, ERR_CONFLICT);
    assert_false(has_blob(hub, "other weights"));
}

static void test_too_much_is_refused(void **state)
{
    struct hub *hub = *state;
    struct preset_draft draft = draft_of("mario");
    char *long_text = calloc(1, PRESET_TEXT_BYTES_MAX + 2);

    assert_non_null(long_text);
    memset(long_text, 'x', PRESET_TEXT_BYTES_MAX + 1);
    hub_fill(hub);
    draft.system = long_text;
    refuse(hub, &draft, ERR_TOO_LARGE, "'system'");
    free(long_text);
    for (int i = 0; i < PRESETS_MAX; i++)
        make(hub, arena_printf(&hub->arena, "m%d", i));
    draft.system = NULL;
    refuse(hub, &draft, ERR_TOO_LARGE, "1000");
    make(hub, "m7"); /* again */
}

static void put_adapter(struct hub *hub, const char *name, const char *content)
{
    struct preset_draft draft = draft_of(name);

    hub_write(hub, "adapter", content);
    draft.adapter_path = hub_path(hub, "adapter");
    draft.adapter_sha256 = hash_of(content);
    assert_ok(put(hub, &draft, NULL), &hub->err);
}

static void test_an_adapter_is_kept_while_it_is_used(void **state)
{
    struct hub *hub = *state;
    struct preset_draft draft;

    hub_fill(hub);
    put_adapter(hub, "a", "factors");
    put_adapter(hub, "b", "factors");
    put_adapter(hub, "a", "other factors"); /* in its place */
    assert_true(has_blob(hub, "factors") && has_blob(hub, "other factors"));
    make(hub, "a");
    assert_false(has_blob(hub, "other factors"));
    assert_ok(registry_delete_preset(hub->registry, "b", &hub->err), &hub->err);
    assert_false(has_blob(hub, "factors"));
    assert_err(registry_delete_preset(hub->registry, "b", &hub->err), &hub->err, ERR_NOT_FOUND);
    /* refused ones leave nothing */
    hub_write(hub, "adapter", "third");
    draft = draft_of("shop");
    draft.adapter_path = hub_path(hub, "adapter");
    refuse(hub, &draft, ERR_CONFLICT, "already exists");
    draft.name = "c";
    draft.adapter_sha256 = "another";
    refuse(hub, &draft, ERR_CONFLICT, "SHA-256 differs");
    assert_false(has_blob(hub, "third"));
}

static void test_a_base_stays_under_its_presets(void **state)
{
    struct hub *hub = *state;
    struct preset_draft draft = draft_of("sent");

    hub_base(hub, "sent", "weights that were sent");
    draft.base_model = "sent";
    refuse(hub, &draft, ERR_CONFLICT, "already exists");
    draft.with_base = true;
    assert_ok(put(hub, &draft, NULL), &hub->err);
    draft.with_base = false;
    assert_ok(put(hub, &draft, NULL), &hub->err); /* made again */
    draft.name = "other";
    assert_ok(put(hub, &draft, NULL), &hub->err);
    err_clear(&hub->err);
    assert_err(registry_delete_base(hub->registry, "sent", &hub->err), &hub->err, ERR_CONFLICT);
    assert_err(registry_delete_preset(hub->registry, "sent", &hub->err), &hub->err, ERR_CONFLICT);
    assert_ok(registry_delete_preset(hub->registry, "other", &hub->err), &hub->err);
    assert_ok(registry_delete_preset(hub->registry, "sent", &hub->err), &hub->err);
    assert_false(has_blob(hub, "weights that were sent"));
}

/* Whatever write fails, the preset is as it was or as it should be, with its adapter. */
static void test_a_failed_write_leaves_one_or_the_other(void **state)
{
    struct hub *hub = *state;
    struct resolved_model out;
    struct preset_draft draft = draft_of("a");
    int rc = -1;

    hub_fill(hub);
    put_adapter(hub, "a", "old factors");
    hub_write(hub, "adapter", "new factors");
    draft.adapter_path = hub_path(hub, "adapter");
    for (int n = 1; rc != 0; n++) {
        fault_arm(FAULT_WRITE, (uint64_t)n, false);
        rc = put(hub, &draft, NULL);
        fault_disarm();
        err_clear(&hub->err);
        assert_ok(registry_resolve_model(hub->registry, "a", &hub->arena, &out, &hub->err),
                  &hub->err);
        assert_string_equal(out.preset.adapter_sha256,
                            hash_of(rc == 0 ? "new factors" : "old factors"));
        assert_true(has_blob(hub, rc == 0 ? "new factors" : "old factors"));
        assert_true(n < 1000);
    }
    assert_false(has_blob(hub, "old factors"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HUB_TEST(test_what_goes_in_is_resolved),
        HUB_TEST(test_names_are_taken_once),
        HUB_TEST(test_too_much_is_refused),
        HUB_TEST(test_an_adapter_is_kept_while_it_is_used),
        HUB_TEST(test_a_base_stays_under_its_presets),
        HUB_TEST(test_a_failed_write_leaves_one_or_the_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
