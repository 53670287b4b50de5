/* The question is {path}, {contents: path} or {template}; the child opens, compiles and describes.
 */
#include "infer/inspect.h"

#include <string.h>

#include "base/ask.h"
#include "engine/engine.h"
#include "engine/tokenizer_files.h"
#include "formats/model_files.h"
#include "infer/capabilities.h"
#include "text/template.h"

static const struct ask_kind kind = {
    .command = "inspect",
    .cpu_seconds = 60,
    .timeout_ms = 120000,
    .answer_bytes_max = INSPECT_CONTENTS_BYTES_MAX,
    .broken = "the process that read the model's files ended unexpectedly: they are damaged, or "
              "hostile",
};

/* Of the template for tools, which is NULL where there is none of its own, as of the other. */
static void put_capabilities(const char *source, const char *with_tools, struct json_out *out)
{
    const struct capabilities plain = capabilities_of_template(source);
    const struct capabilities tools = capabilities_of_template(with_tools);
    json_out_key(out, "capabilities");
    json_out_array(out);
    if (plain.tools || tools.tools) {
        json_out_string(out, "tools");
    }
    if (plain.thinking || tools.thinking) {
        json_out_string(out, "thinking");
    }
    json_out_array_end(out);
}

static int describe(const char *path, struct json_out *out, struct err *err)
{
    struct model_files *files = NULL;
    struct tokenizer *tokenizer = NULL;
    struct template *template = NULL;
    struct engine_estimate estimate;
    int rc = engine_estimate_open(path, 0, &estimate, err);
    if (rc == 0) {
        rc = model_files_open(path, &files, err);
    }
    if (rc == 0) {
        rc = tokenizer_from_files(files, &tokenizer, err);
    }
    const char *source = rc == 0 ? model_files_chat_template(files) : NULL;
    const char *with_tools = rc == 0 ? model_files_tool_template(files) : NULL;
    if (rc == 0 && with_tools != NULL) {
        rc = template_new(with_tools, strlen(with_tools), &template, err);
        if (rc != 0) {
            err_prefix(err, "the chat template named tool_use");
        }
        template_free(template);
        template = NULL;
    }
    if (rc == 0 && source != NULL) {
        rc = template_new(source, strlen(source), &template, err);
        if (rc != 0) {
            err_prefix(err, "the chat template");
        }
    }
    if (rc == 0) {
        const struct model_config *c = model_files_config(files);
        const uint64_t context = c->context_length < 8192 ? c->context_length : 8192;
        const uint64_t pages = (context + ENGINE_KV_PAGE_TOKENS - 1) / ENGINE_KV_PAGE_TOKENS;
        json_out_kv_string(out, "format",
                           model_files_container(files) == MODEL_GGUF ? "gguf" : "safetensors");
        json_out_kv_string(out, "architecture", c->arch);
        json_out_kv_int(out, "parameters", (int64_t)model_files_parameters(files));
        json_out_kv_string(out, "quantization", model_files_quantisation(files));
        json_out_kv_int(out, "bytes", (int64_t)model_files_file_bytes(files));
        json_out_kv_int(out, "context_length", c->context_length);
        json_out_kv_int(out, "vocab_size", c->vocab);
        json_out_kv_int(out, "n_layers", c->n_layers);
        json_out_kv_int(out, "kv_bytes_per_token", (int64_t)estimate.kv_bytes_per_token);
        json_out_kv_int(out, "memory_bytes",
                        (int64_t)(estimate.weight_bytes + estimate.workspace_bytes +
                                  pages * ENGINE_KV_PAGE_TOKENS * estimate.kv_bytes_per_token));
        json_out_kv_bool(out, "has_tokenizer", tokenizer != NULL);
        json_out_kv_bool(out, "has_template", source != NULL);
        put_capabilities(source, with_tools, out);
        json_out_key(out, "eos");
        json_out_array(out);
        for (unsigned i = 0; i < c->n_eos; i++) {
            json_out_int(out, c->eos_ids[i]);
        }
        json_out_array_end(out);
    }
    template_free(template);
    tokenizer_free(tokenizer);
    model_files_free(files);
    return rc;
}

static void put_info(const struct model_config *c, struct json_out *out)
{
    json_out_key(out, "info");
    json_out_object(out);
    json_out_kv_int(out, "block_count", c->n_layers);
    json_out_kv_int(out, "embedding_length", c->hidden);
    json_out_kv_int(out, "feed_forward_length", c->ffn);
    json_out_kv_int(out, "attention.head_count", c->n_heads);
    json_out_kv_int(out, "attention.head_count_kv", c->n_kv_heads);
    json_out_kv_int(out, "vocab_size", c->vocab);
    json_out_object_end(out);
}

static void put_tensors(const struct model_files *files, struct json_out *out)
{
    json_out_key(out, "tensors");
    json_out_array(out);
    for (size_t i = 0; i < model_files_tensor_count(files); i++) {
        const struct tensor_view *view = model_files_tensor_at(files, i);
        json_out_object(out);
        json_out_kv_string(out, "name", view->name);
        json_out_kv_string(out, "type", tensor_type_name(view->type));
        json_out_key(out, "shape");
        json_out_array(out);
        for (unsigned k = 0; k < view->n_dims; k++) {
            json_out_uint(out, view->dims[k]);
        }
        json_out_array_end(out);
        json_out_object_end(out);
    }
    json_out_array_end(out);
}

static int put_contents(const char *path, struct json_out *out, struct err *err)
{
    struct model_files *files = NULL;
    const int rc = model_files_open(path, &files, err);
    if (rc == 0) {
        json_out_kv_string(out, "template", model_files_chat_template(files));
        put_info(model_files_config(files), out);
        put_tensors(files, out);
    }
    model_files_free(files);
    return rc;
}

static int compile(const char *source, struct err *err)
{
    struct template *template = NULL;
    const int rc = template_new(source, strlen(source), &template, err);
    template_free(template);
    return rc;
}

static int answer(const json_t *question, struct json_out *out, struct err *err)
{
    const char *path = NULL;
    const char *source = NULL;
    const char *contents = NULL;
    int rc = json_get_string(question, "path", "", &path, err);
    rc = rc == 0 ? json_get_string(question, "contents", NULL, &contents, err) : rc;
    rc = rc == 0 ? json_get_string(question, "template", NULL, &source, err) : rc;
    json_out_object(out);
    if (rc == 0) {
        rc = source != NULL     ? compile(source, err)
             : contents != NULL ? put_contents(contents, out, err)
                                : describe(path, out, err);
    }
    json_out_object_end(out);
    return rc;
}

int inspect_main(int control_fd)
{
    return ask_answer_main(&kind, control_fd, answer);
}

static int question_of(const char *program, const char *key, const char *text, struct buf *out,
                       struct err *err)
{
    struct buf question;
    struct json_out json;
    buf_init(&question, ASK_QUESTION_BYTES_MAX);
    json_out_init(&json, &question);
    json_out_object(&json);
    json_out_kv_string(&json, key, text);
    json_out_object_end(&json);
    const int rc = ask_child(&kind, program, &question, out, err);
    buf_release(&question);
    return rc;
}

int inspect_model(const char *program, const char *path, struct buf *out, struct err *err)
{
    return question_of(program, "path", path, out, err);
}

int inspect_contents(const char *program, const char *path, struct buf *out, struct err *err)
{
    return question_of(program, "contents", path, out, err);
}

int inspect_template(const char *program, const char *source, struct err *err)
{
    struct buf nothing;
    buf_init(&nothing, ASK_QUESTION_BYTES_MAX); /* an error comes in it, too */
    const int rc = question_of(program, "template", source, &nothing, err);
    buf_release(&nothing);
    return rc;
}
