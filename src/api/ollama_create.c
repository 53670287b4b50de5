/* POST /api/create and /api/copy. Both make presets (registry/presets.h): a name over a base, with
 * what the source had and what the request adds.
 *
 *   files alone            a base of that id
 *   files and more         that base, and a preset of the same name over it
 *   from, copy             a preset over the base that the source stands on
 *   quantize               first a base of the name asked for, then the same
 *
 * A copy of a trained version is a name for what the version is now: the base, the adapter's bytes
 * and the template are the copy's own, so it lives on when the version or its model is deleted, and
 * a version that is trained later does not change it. To follow a model's newest version is what
 * the model's own name and aliases are for. Making a preset again replaces it, as Ollama does; the
 * names of registered models and of bases are not taken. */
#include "api/handlers.h"
#include "api/ollama.h"

#include <stdio.h>
#include <string.h>

#include "api/bases.h"
#include "base/hash.h"
#include "base/log.h"
#include "registry/bases.h"
#include "registry/names.h"
#include "registry/storage.h"
#include "train/adapter_import.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct http_field message_fields[] = {
    {.name = "role", .kind = HTTP_STRING, .flags = HTTP_REQUIRED},
    {.name = "content", .kind = HTTP_ANY},
};
static const struct http_field message_item = {.kind = HTTP_OBJECT,
                                               .flags = HTTP_OPEN,
                                               .fields = message_fields,
                                               .n_fields = COUNT_OF(message_fields)};
static const struct http_field create_fields[] = {
    {.name = "model", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "name", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "from", .kind = HTTP_STRING, .flags = HTTP_NULLABLE | HTTP_MAX, .max = 800},
    {.name = "files", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},
    {.name = "adapters", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},
    {.name = "template", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
    {.name = "system", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
    {.name = "license", .kind = HTTP_ANY},
    {.name = "parameters", .kind = HTTP_OBJECT, .flags = HTTP_NULLABLE},
    {.name = "messages", .kind = HTTP_ARRAY, .flags = HTTP_NULLABLE, .items = &message_item},
    {.name = "quantize", .kind = HTTP_STRING, .flags = HTTP_NULLABLE},
    {.name = "stream", .kind = HTTP_BOOL, .flags = HTTP_NULLABLE},
};
const struct api_body ollama_create_body = {create_fields, COUNT_OF(create_fields), true};
static const struct http_field copy_fields[] = {
    {.name = "source", .kind = HTTP_STRING, .flags = HTTP_REQUIRED | HTTP_MIN, .min = 1},
    {.name = "destination", .kind = HTTP_STRING, .flags = HTTP_REQUIRED | HTTP_MIN, .min = 1},
};
const struct api_body ollama_copy_body = {copy_fields, COUNT_OF(copy_fields), true};

static const struct member_unsupported unsupported[] = {{"modelfile", NULL}};

/* What is being made, and of what. */
struct creation {
    struct hub *hub;
    struct http_request *request;
    struct resolved_model source;
    struct infer_spec spec; /* of the source */
    struct preset_draft draft;
    bool replaces;                   /* a preset of that name over its own base */
    bool made_base;                  /* which goes again when the rest fails */
    char adapter[FS_PATH_BYTES_MAX]; /* made of what was sent; "" = none */
};

/* --- bases --- */

/* Ollama's words and the hub's. Weights are kept in MLX's affine form of so many bits, which
 * details.quantization_level shows. */
static int read_quantize(const json_t *body, const char **bits, struct err *err)
{
    static const struct {
        const char *word, *bits;
    } words[] = {{"4bit", "4bit"},   {"q4_0", "4bit"},   {"q4_1", "4bit"},   {"q4_k_m", "4bit"},
                 {"q4_k_s", "4bit"}, {"q4_K_M", "4bit"}, {"q4_K_S", "4bit"}, {"Q4_0", "4bit"},
                 {"Q4_1", "4bit"},   {"Q4_K_M", "4bit"}, {"Q4_K_S", "4bit"}, {"8bit", "8bit"},
                 {"q8_0", "8bit"},   {"Q8_0", "8bit"}};
    const char *asked = body_string(body, "quantize");
    *bits = NULL;
    if (asked == NULL || *asked == '\0') {
        return 0;
    }
    for (size_t i = 0; i < COUNT_OF(words) && *bits == NULL; i++) {
        *bits = strcmp(words[i].word, asked) == 0 ? words[i].bits : NULL;
    }
    return *bits != NULL ? 0
                         : err_set(err, ERR_INVALID,
                                   "'quantize' \"%.40s\" is not supported; q4_K_M and the other "
                                   "q4 (4 bits in all) and q8_0 are",
                                   asked);
}

/* Takes a base in under the name asked for and makes it the source. */
static int make_base(struct creation *c, const char *path, const char *quantization,
                     struct err *err)
{
    struct arena *arena = c->request->arena;
    struct resolved_model taken = {0};
    struct err missing = {0}, unknown = {0};
    struct base_row row;
    int rc = name_check_base("model", c->draft.name, err);
    const bool is_new =
        registry_get_base(c->hub->registry, c->draft.name, arena, &row, &unknown) == -ERR_NOT_FOUND;
    if (rc == 0 &&
        registry_resolve_model(c->hub->registry, c->draft.name, arena, &taken, &missing) == 0 &&
        taken.is_registered) {
        rc = err_set(err, ERR_CONFLICT, "Model with name '%s' already exists", c->draft.name);
    }
    rc = rc == 0 ? base_import(c->hub, c->request, path, c->draft.name, quantization, &row, err)
                 : rc;
    if (rc == 0) {
        c->source = (struct resolved_model){.base_id = row.id, .has_weights = true, .base = row};
        c->draft.source = row.id;
        c->draft.with_base = true;
        c->made_base = is_new;
        c->replaces = taken.has_preset;
        rc = spec_of(c->hub, &c->source, arena, &c->spec, err);
    }
    return rc;
}

static int take_files(struct creation *c, const json_t *body, struct err *err)
{
    json_t *files = json_object_get(body, "files");
    const char *digest = json_string_value(json_object_iter_value(json_object_iter(files)));
    const char *quantization = NULL;
    char path[FS_PATH_BYTES_MAX];
    if (json_object_size(files) != 1 || digest == NULL) {
        return err_set(err, ERR_INVALID,
                       "'files' must name one GGUF file by its digest; folders come in by "
                       "'mlx-hub import'");
    }
    int rc = read_quantize(body, &quantization, err);
    rc = rc == 0 ? ollama_blob_find(c->hub, digest, path, err) : rc;
    rc = rc == 0 ? make_base(c, path, quantization, err) : rc;
    if (rc == 0) {
        ollama_blob_forget(path);
    }
    return rc;
}

/* --- the source --- */

static int find_source(struct creation *c, const char *from, struct err *err)
{
    struct arena *arena = c->request->arena;
    const int rc = registry_resolve_model(c->hub->registry, from, arena, &c->source, err);
    c->draft.source = ollama_without_latest(from, arena);
    return rc == 0 ? spec_of(c->hub, &c->source, arena, &c->spec, err) : rc;
}

static int quantize_source(struct creation *c, const json_t *body, struct err *err)
{
    const char *quantization = NULL;
    const int rc = read_quantize(body, &quantization, err);
    if (rc != 0 || quantization == NULL) {
        return rc;
    }
    if (c->spec.adapter_key != NULL || c->source.has_preset) {
        return err_set(err, ERR_INVALID,
                       "'quantize' takes a base: '%s' has more than weights; merge it first",
                       c->draft.source);
    }
    return make_base(c, c->spec.base_path, quantization, err);
}

/* --- the adapter --- */

static int sort_adapters(struct hub *hub, const json_t *adapters, char factors[FS_PATH_BYTES_MAX],
                         char config[FS_PATH_BYTES_MAX], struct err *err)
{
    const char *name;
    const json_t *digest;
    int rc = 0;
    factors[0] = config[0] = '\0';
    json_object_foreach((json_t *)adapters, name, digest)
    {
        const char *dot = strrchr(name, '.');
        char *path = dot == NULL                        ? NULL
                     : strcmp(dot, ".safetensors") == 0 ? factors
                     : strcmp(dot, ".json") == 0        ? config
                                                        : NULL;
        if (path == NULL || path[0] != '\0' || !json_is_string(digest)) {
            return err_set(err, ERR_INVALID,
                           "'adapters' must name one .safetensors file of PEFT's or mlx-lm's and "
                           "its adapter_config.json by their digests; '%.60s' is neither, or one "
                           "too many",
                           name);
        }
        rc = ollama_blob_find(hub, json_string_value(digest), path, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (factors[0] == '\0' || config[0] == '\0') {
        return err_set(err, ERR_INVALID, "'adapters' lacks %s",
                       config[0] == '\0' ? "adapter_config.json, which holds the scale"
                                         : "the .safetensors file of the factors");
    }
    return 0;
}

/* A file of the client's is not called by its place in the cache. */
static const char *without_path(const char *message, const char *path, const char *name,
                                struct arena *arena)
{
    const char *at = strstr(message, path);
    const char *plain = at != NULL ? arena_printf(arena, "%.*s%s%s", (int)(at - message), message,
                                                  name, at + strlen(path))
                                   : NULL;
    return plain != NULL ? plain : message;
}

/* What the files hold is the request's fault, whatever the reader calls it. */
static int import_adapter(struct creation *c, const struct adapter_import *import, struct err *err)
{
    struct err why = {0};
    const int rc =
        train_adapter_import_child(c->hub->program, import, &c->draft.adapter_scale, &why);
    if (rc == 0) {
        return 0;
    }
    const bool theirs = rc == -ERR_CORRUPT || rc == -ERR_UNSUPPORTED || rc == -ERR_UNPROCESSABLE ||
                        rc == -ERR_TOO_LARGE;
    struct arena *arena = c->request->arena;
    const char *message =
        without_path(why.message, import->factors_path, "the .safetensors file", arena);
    message = without_path(message, import->config_path, "adapter_config.json", arena);
    return err_set(err, theirs ? ERR_INVALID : why.code, "%s", message);
}

static int take_adapters(struct creation *c, const json_t *adapters, struct err *err)
{
    char factors[FS_PATH_BYTES_MAX], config[FS_PATH_BYTES_MAX];
    char uuid[UUID_BYTES], name[UUID_BYTES + 32];
    if (c->spec.adapter_key != NULL) {
        return err_set(err, ERR_INVALID,
                       "'%s' brings an adapter already: merge it into a base before another",
                       c->draft.source);
    }
    int rc = sort_adapters(c->hub, adapters, factors, config, err);
    rc = rc == 0 ? uuid_make(uuid, err) : rc;
    if (rc == 0) {
        (void)snprintf(name, sizeof name, "adapter-%s.safetensors", uuid);
        rc = storage_cache(registry_storage(c->hub->registry), name, c->adapter, err);
    }
    if (rc == 0) {
        const struct adapter_import import = {.base_path = c->spec.base_path,
                                              .factors_path = factors,
                                              .config_path = config,
                                              .dest = c->adapter};
        rc = import_adapter(c, &import, err);
        c->draft.adapter_path = c->adapter;
    }
    return rc;
}

/* --- presets --- */

/* Of a name that adds nothing, what its source has; else of all that it is. */
static int put_digest(struct creation *c, bool adds, const char *adapter_sha256, struct err *err)
{
    struct arena *arena = c->request->arena;
    const struct preset_draft *d = &c->draft;
    char hex[SHA256_HEX_BYTES];
    struct json_out out;
    struct buf text;
    if (!adds) {
        c->draft.digest = c->source.has_preset    ? c->source.preset.digest
                          : c->source.has_version ? c->source.version.checksum
                                                  : c->spec.base_key;
        return 0;
    }
    buf_init(&text, 8 * PRESET_JSON_BYTES_MAX);
    json_out_init(&out, &text);
    json_out_object(&out);
    json_out_kv_string(&out, "base", c->spec.base_key);
    json_out_kv_string(&out, "adapter", adapter_sha256);
    json_out_kv_real(&out, "scale", d->adapter_scale);
    json_out_kv_string(&out, "system", d->system);
    json_out_kv_string(&out, "template", d->template);
    json_out_kv_string(&out, "license", d->license);
    json_out_kv_string(&out, "parameters", d->parameters);
    json_out_kv_string(&out, "messages", d->messages);
    json_out_object_end(&out);
    int rc = buf_check(&text, "a model's texts", err);
    rc = rc == 0 ? sha256_hex(text.data, text.len, hex, err) : rc;
    buf_release(&text);
    c->draft.digest = rc == 0 ? arena_strdup(arena, hex) : NULL;
    return rc != 0 || c->draft.digest != NULL ? rc : mem_err(err, sizeof hex);
}

/* Of the source and what the draft has by now. */
static int put_preset(struct creation *c, bool adds, struct err *err)
{
    struct arena *arena = c->request->arena;
    struct preset_draft *d = &c->draft;
    char sent[SHA256_HEX_BYTES];
    const char *adapter_sha256 = c->spec.adapter_key;
    struct preset_row row;
    int rc = 0;
    d->base_model = c->source.base_id;
    d->template = d->template != NULL ? d->template : c->spec.chat_template;
    if (c->adapter[0] != '\0') {
        rc = sha256_file_hex(c->adapter, sent, err);
        adapter_sha256 = sent;
    } else if (adapter_sha256 != NULL) {
        d->adapter_path = c->spec.adapter_path;
        d->adapter_scale = (double)c->spec.adapter_scale;
    }
    d->adapter_sha256 = adapter_sha256;
    if (rc == 0 && c->source.has_preset) {
        rc = ollama_draft_inherit(d, &c->source.preset, arena, err);
    }
    rc = rc == 0 ? put_digest(c, adds, adapter_sha256, err) : rc;
    return rc == 0 ? registry_put_preset(c->hub->registry, d, arena, &row, err) : rc;
}

static void forget_adapters(struct creation *c, const json_t *adapters)
{
    char factors[FS_PATH_BYTES_MAX], config[FS_PATH_BYTES_MAX];
    struct err ignored = {0};
    if (sort_adapters(c->hub, adapters, factors, config, &ignored) == 0) {
        ollama_blob_forget(factors);
        ollama_blob_forget(config);
    }
}

static int create(struct creation *c, const json_t *body, struct err *err)
{
    const json_t *adapters = json_object_get(body, "adapters");
    const bool has_files = json_object_size(json_object_get(body, "files")) > 0;
    const bool has_adapters = json_object_size(adapters) > 0;
    const bool has_from = body_string(body, "from") != NULL;
    bool adds = false;
    int num_ctx = 0;
    int rc = members_refuse(body, unsupported, COUNT_OF(unsupported), err);
    if (rc == 0 && has_files == has_from) {
        rc = err_set(err, ERR_INVALID,
                     has_from ? "'from' and 'files' exclude each other"
                              : "'from' or 'files' is required");
    }
    if (rc == 0 && has_from) {
        rc = find_source(c, body_string(body, "from"), err);
    }
    if (rc == 0) {
        rc = ollama_draft_read(c->hub, body, c->request->arena, &c->draft, &adds, &num_ctx, err);
    }
    if (rc == 0) { /* of files nothing is known yet */
        rc = ollama_check_context(c->hub, &c->source, num_ctx, err);
    }
    if (rc == 0) {
        rc = has_files ? take_files(c, body, err) : quantize_source(c, body, err);
    }
    if (rc == 0 && has_adapters) {
        rc = take_adapters(c, adapters, err);
    }
    adds = adds || has_adapters;
    if (rc == 0 && (adds || c->replaces || !c->draft.with_base)) {
        rc = put_preset(c, adds, err);
    }
    if (rc == 0 && has_adapters) {
        forget_adapters(c, adapters);
    }
    return rc;
}

static void forget_base(const struct creation *c)
{
    struct err why = {0};
    if (registry_delete_base(c->hub->registry, c->draft.name, &why) != 0) {
        log_event(LOG_WARNING, "api", "leftover", "base=\"%s\" error=\"%s\"", c->draft.name,
                  why.message);
    }
}

static void creation_release(struct creation *c, bool done)
{
    if (c->adapter[0] != '\0') {
        ollama_blob_forget(c->adapter);
    }
    if (!done && c->made_base) {
        forget_base(c);
    }
    mem_free(c);
}

/* `name` with or without :latest. NULL for lack of memory. */
static struct creation *creation_new(struct hub *hub, struct http_request *request,
                                     const char *name, struct err *err)
{
    struct creation *c = mem_calloc(1, sizeof *c);
    if (c != NULL) {
        c->hub = hub;
        c->request = request;
        c->draft.name = ollama_without_latest(name, request->arena);
    }
    if (c == NULL || c->draft.name == NULL) {
        mem_free(c);
        (void)mem_err(err, sizeof *c);
        return NULL;
    }
    return c;
}

HANDLER(ollama_create)
{
    static const char done[] = "{\"status\":\"success\"}\n";
    struct http_issues issues;
    const json_t *body = NULL;
    const char *name = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, &ollama_create_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    rc = rc == 0 ? ollama_model_name(body, &name, err) : rc;
    if (rc == 0) {
        struct creation *c = creation_new(ctx, request, name, err);
        if (c == NULL) {
            return -(int)err->code;
        }
        rc = create(c, body, err);
        creation_release(c, rc == 0);
    }
    if (rc != 0) {
        return rc;
    }
    const bool plain = json_is_false(json_object_get(body, "stream"));
    return http_reply_text(response, 200, plain ? "application/json" : HTTP_NDJSON, done, err);
}

/* Copying a name onto itself changes nothing. */
static int copy(struct creation *c, const char *from, struct err *err)
{
    const int rc = find_source(c, from, err);
    if (rc != 0) {
        return rc;
    }
    if (c->source.has_preset && strcmp(c->source.preset.name, c->draft.name) == 0) {
        return 0;
    }
    if (c->source.has_preset) {
        c->draft.source = c->source.preset.source;
    }
    return put_preset(c, false, err);
}

HANDLER(ollama_copy)
{
    struct http_issues issues;
    const json_t *body = NULL;
    http_issues_init(&issues);
    int rc = body_read(request, &ollama_copy_body, &issues, &body, err);
    if (rc == 0 && issues.count > 0) {
        return http_issues_reply(&issues, request, response, err);
    }
    http_issues_release(&issues);
    if (rc == 0) {
        struct creation *c = creation_new(ctx, request, body_string(body, "destination"), err);
        if (c == NULL) {
            return -(int)err->code;
        }
        rc = copy(c, body_string(body, "source"), err);
        creation_release(c, rc == 0);
    }
    return rc == 0 ? http_reply_empty(response, 200, err) : rc;
}
