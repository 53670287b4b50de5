/* Templates are compiled once and kept in order of use. A template's own BOS at the start of a
 * rendered text is the only one: special tokens are parsed, none are added. */
#include "infer/prompt.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "infer/prompt_tools.h"

void prompter_init(struct prompter *p, const struct engine_model *model)
{
    memset(p, 0, sizeof *p);
    p->model = model;
}

void prompter_release(struct prompter *p)
{
    for (int i = 0; i < PROMPT_TEMPLATES_MAX; i++) {
        template_free(p->templates[i]);
    }
    memset(p, 0, sizeof *p);
}

static void move_to_front(struct prompter *p, int at, struct template *t)
{
    memmove(&p->templates[1], &p->templates[0], (size_t)at * sizeof *p->templates);
    p->templates[0] = t;
}

static int find_template(struct prompter *p, const char *source, struct template **out,
                         struct err *err)
{
    for (int i = 0; i < PROMPT_TEMPLATES_MAX && p->templates[i] != NULL; i++) {
        size_t n;
        const char *have = template_source(p->templates[i], &n);
        if (n == strlen(source) && memcmp(have, source, n) == 0) {
            *out = p->templates[i];
            move_to_front(p, i, *out);
            return 0;
        }
    }
    const int rc = template_new(source, strlen(source), out, err);
    if (rc == 0) {
        template_free(p->templates[PROMPT_TEMPLATES_MAX - 1]);
        move_to_front(p, PROMPT_TEMPLATES_MAX - 1, *out);
    }
    return rc;
}

/* A special token's text for the template; NULL when the model has none. mem_free. */
static char *token_text(const struct tokenizer *tok, int32_t id)
{
    size_t n;
    const char *bytes = id >= 0 ? tokenizer_piece(tok, id, &n) : NULL;
    return bytes != NULL ? mem_strndup(bytes, n) : NULL;
}

/* What the request says, or the model: where tools are given its template for them, as transformers
 * chooses. */
static const char *source_of(const struct prompter *p, const json_t *request)
{
    const char *source = json_string_value(json_object_get(request, "template"));
    if (source == NULL && json_is_array(json_object_get(request, "tools"))) {
        source = engine_model_tool_template(p->model);
    }
    source = source != NULL ? source : engine_model_template(p->model);
    return source != NULL ? source : template_plain;
}

const struct tool_format *prompter_tool_format(const struct prompter *p, const json_t *request)
{
    return json_array_size(json_object_get(request, "tools")) > 0
               ? tool_format_of_template(source_of(p, request))
               : NULL;
}

int prompter_render(struct prompter *p, const json_t *request, struct buf *out, struct err *err)
{
    const struct tokenizer *tok = engine_model_tokenizer(p->model);
    const char *source = NULL;
    struct template *t = NULL;
    struct template_input input = {.messages = json_object_get(request, "messages"),
                                   .tools = json_object_get(request, "tools"),
                                   .extra = json_object_get(request, "template_kwargs"),
                                   .fill_calls = true};
    json_t *told = NULL;
    json_t *numbered = NULL;
    int rc = json_get_string(request, "template", NULL, &source, err);
    if (rc == 0) {
        rc = json_get_string(request, "date", NULL, &input.date, err);
    }
    if (rc == 0) {
        rc = json_get_bool(request, "add_generation_prompt", true, &input.add_generation_prompt,
                           err);
    }
    if (rc == 0) {
        rc = find_template(p, source_of(p, request), &t, err);
    }
    if (rc != 0) {
        return rc;
    }
    char *bos = tok != NULL ? token_text(tok, tokenizer_bos(tok)) : NULL;
    char *eos = tok != NULL ? token_text(tok, tokenizer_eos(tok)) : NULL;
    input.bos_token = bos;
    input.eos_token = eos;
    if (json_is_null(input.tools)) {
        input.tools = NULL;
    }
    rc = tools_tell(source_of(p, request), input.messages, input.tools, &told, err);
    if (told != NULL) {
        input.messages = told;
        input.tools = NULL;
    }
    rc = rc == 0 ? tools_number(source_of(p, request), input.messages, &numbered, err) : rc;
    input.messages = numbered != NULL ? numbered : input.messages;
    rc = rc == 0 ? template_render(t, &input, out, err) : rc;
    json_decref(numbered);
    json_decref(told);
    mem_free(bos);
    mem_free(eos);
    return rc;
}

static int read_ids(const struct prompter *p, const json_t *prompt, struct token_ids *out,
                    struct err *err)
{
    const int vocab = engine_model_info(p->model)->vocab_size;
    size_t i;
    const json_t *id;
    json_array_foreach(prompt, i, id)
    {
        const int64_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value >= vocab) {
            return err_set(err, ERR_INVALID,
                           "token %zu of the prompt is %lld; the vocabulary holds %d", i,
                           (long long)value, vocab);
        }
        const int rc = token_ids_push(out, (int32_t)value, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int prompter_tokens(struct prompter *p, const json_t *request, struct token_ids *out,
                    struct err *err)
{
    const struct tokenizer *tok = engine_model_tokenizer(p->model);
    if (tok == NULL) {
        return err_set(err, ERR_INVALID, "the model brings no tokenizer");
    }
    const json_t *prompt = json_object_get(request, "prompt");
    const json_t *context = json_object_get(request, "context");
    int rc = json_array_size(context) > 0 ? read_ids(p, context, out, err) : 0;
    const size_t behind = out->n;
    if (rc == 0 && json_is_array(prompt)) {
        return read_ids(p, prompt, out, err);
    }
    if (rc == 0 && json_is_string(prompt)) {
        return tokenizer_encode(
            tok, json_string_value(prompt), json_string_length(prompt),
            (behind == 0 ? TOKENIZER_ADD_SPECIAL : 0u) | TOKENIZER_PARSE_SPECIAL, out, err);
    }
    struct buf text;
    buf_init(&text, TEMPLATE_OUTPUT_BYTES_MAX);
    rc = rc == 0 ? prompter_render(p, request, &text, err) : rc;
    if (rc == 0) {
        rc = tokenizer_encode(tok, text.data != NULL ? text.data : "", text.len,
                              TOKENIZER_PARSE_SPECIAL, out, err);
    }
    if (rc == 0 && behind > 0 && out->n > behind && out->ids[behind] == tokenizer_bos(tok)) {
        memmove(out->ids + behind, out->ids + behind + 1, (out->n - behind - 1) * sizeof *out->ids);
        out->n--;
    }
    buf_release(&text);
    return rc;
}
