/* A conversation is cut before one of the user's messages, since templates want those first, and an
 * answer of a tool is never left without its call. Fewer messages make fewer tokens, so where to
 * cut is found by halving: a dozen renderings for thousands of messages. */
#include "infer/prompt.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"

static bool has_role(const json_t *message, const char *role)
{
    const char *its = json_string_value(json_object_get(message, "role"));
    return its != NULL && strcmp(its, role) == 0;
}

/* Where the conversation may begin, in ascending order. */
static size_t list_cuts(const json_t *messages, size_t *cuts)
{
    size_t n = 0;
    for (size_t i = 1; i < json_array_size(messages); i++) {
        if (has_role(json_array_get(messages, i), "user")) {
            cuts[n++] = i;
        }
    }
    return n;
}

/* The request without the messages before `cut`, but for the system's. json_decref. */
static json_t *without(const json_t *request, size_t cut)
{
    const json_t *messages = json_object_get(request, "messages");
    json_t *copy = json_copy((json_t *)request);
    json_t *kept = json_array();
    size_t i;
    json_t *message;
    int failed = copy == NULL || kept == NULL;
    json_array_foreach(messages, i, message)
    {
        if (failed == 0 && (i >= cut || has_role(message, "system"))) {
            failed = json_array_append(kept, message);
        }
    }
    failed = failed == 0 ? json_object_set(copy, "messages", kept) : failed;
    json_decref(kept);
    if (failed != 0) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

static int tokens_after(struct prompter *p, const json_t *request, size_t cut,
                        struct token_ids *out, struct err *err)
{
    json_t *rest = without(request, cut);
    out->n = 0;
    const int rc = rest != NULL ? prompter_tokens(p, rest, out, err) : mem_err(err, 0);
    json_decref(rest);
    return rc;
}

/* The first cut that makes it fit, or the last one of all; where there is none, `out` stays. */
static int cut_messages(struct prompter *p, const json_t *request, size_t limit,
                        struct token_ids *out, struct err *err)
{
    const json_t *messages = json_object_get(request, "messages");
    size_t *cuts = mem_calloc(json_array_size(messages), sizeof *cuts);
    if (cuts == NULL) {
        return mem_err(err, json_array_size(messages) * sizeof *cuts);
    }
    const size_t n = list_cuts(messages, cuts);
    size_t low = 0;
    size_t high = n > 0 ? n - 1 : 0;
    int rc = 0;
    while (rc == 0 && low < high) {
        const size_t middle = low + (high - low) / 2;
        rc = tokens_after(p, request, cuts[middle], out, err);
        if (out->n <= limit) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    rc = rc == 0 && n > 0 ? tokens_after(p, request, cuts[low], out, err) : rc;
    mem_free(cuts);
    return rc;
}

/* A text's end goes; the token that the model puts behind every text stays behind it. */
static void cut_text(const struct prompter *p, size_t limit, struct token_ids *out)
{
    const int32_t last = out->ids[out->n - 1];
    out->n = limit;
    if (last == tokenizer_eos(engine_model_tokenizer(p->model))) {
        out->ids[limit - 1] = last;
    }
}

int prompter_fit(struct prompter *p, const json_t *request, struct token_ids *out, struct err *err)
{
    const int64_t context = engine_model_info(p->model)->context_length;
    const int64_t asked = json_integer_value(json_object_get(request, "context_tokens"));
    const bool is_less = asked > 0 && asked < context;
    const int64_t most = is_less ? asked : context;
    const size_t limit = most > 1 ? (size_t)most - 1 : 1; /* there is an answer to come */
    const int rc = prompter_tokens(p, request, out, err);
    if (rc != 0 || out->n <= limit) {
        return rc;
    }
    if (!json_is_true(json_object_get(request, "truncate"))) {
        return is_less ? err_set(err, ERR_INVALID,
                                 "the prompt is %zu tokens; the context holds %lld (num_ctx)",
                                 out->n, (long long)asked)
                       : 0;
    }
    if (json_is_true(json_object_get(request, "embed"))) {
        cut_text(p, limit, out);
        return 0;
    }
    return json_array_size(json_object_get(request, "messages")) > 1
               ? cut_messages(p, request, limit, out, err)
               : 0;
}
