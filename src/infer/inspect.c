/* Hub: 'I' {path} ─▶ child: opens, compiles, describes ─▶ 'i' {…} or 'x' {code, message}. */
#include "infer/inspect.h"

#include <string.h>

#include "base/frame.h"
#include "base/json.h"
#include "base/log.h"
#include "base/proc.h"
#include "engine/engine.h"
#include "engine/tokenizer_files.h"
#include "formats/model_files.h"
#include "text/template.h"

enum {
    ANSWER_BYTES_MAX = 1 << 20,
    TIMEOUT_MS = 120000,
    CPU_SECONDS_MAX = 60 /* address space is not limited: maps of weights are larger than memory */
};

static int describe(const char *path, struct json_out *out, struct err *err)
{
    struct model_files *files = NULL;
    struct tokenizer *tokenizer = NULL;
    struct template *template = NULL;
    struct engine_estimate estimate;
    int rc = engine_estimate_open(path, &estimate, err);
    if (rc == 0) {
        rc = model_files_open(path, &files, err);
    }
    if (rc == 0) {
        rc = tokenizer_from_files(files, &tokenizer, err);
    }
    const char *source = rc == 0 ? model_files_chat_template(files) : NULL;
    if (rc == 0 && source != NULL) {
        rc = template_new(source, strlen(source), &template, err);
        if (rc != 0) {
            err_prefix(err, "the chat template");
        }
    }
    if (rc == 0) {
        const struct model_config *c = model_files_config(files);
        const uint64_t context = c->context_length < 8192 ? c->context_length : 8192;
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
                                  context * estimate.kv_bytes_per_token));
        json_out_kv_bool(out, "has_tokenizer", tokenizer != NULL);
        json_out_kv_bool(out, "has_template", source != NULL);
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

static int answer(struct frame_conn *conn, const struct buf *request, struct err *err)
{
    struct buf buf;
    struct json_out out;
    struct err fault = {0};
    const char *path = NULL;
    json_t *tree = json_parse(request->data, request->len, &fault);
    int rc = tree != NULL ? json_get_string(tree, "path", "", &path, &fault) : -(int)fault.code;
    buf_init(&buf, ANSWER_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    if (rc == 0) {
        rc = describe(path, &out, &fault);
    }
    if (rc != 0) {
        buf_clear(&buf);
        json_out_init(&out, &buf);
        json_out_object(&out);
        json_out_kv_int(&out, "code", fault.code);
        json_out_kv_string(&out, "message", fault.message);
    }
    json_out_object_end(&out);
    const int sent = frame_send(conn, rc == 0 ? 'i' : 'x', buf.data, buf.len, TIMEOUT_MS, err);
    buf_release(&buf);
    json_decref(tree);
    return sent;
}

int inspect_main(int control_fd)
{
    struct err err = {0};
    struct frame_conn conn;
    struct buf request;
    uint8_t type;
    int rc = proc_child_init(control_fd, &err);
    if (rc == 0) {
        rc = proc_child_limit(0, CPU_SECONDS_MAX, &err);
    }
    if (rc == 0) {
        rc = frame_conn_init(&conn, control_fd, &err);
    }
    if (rc != 0) {
        log_event(LOG_ERROR, "infer", "inspect_start", "error=\"%s\"", err.message);
        return 1;
    }
    buf_init(&request, ANSWER_BYTES_MAX);
    rc = frame_recv(&conn, &type, &request, TIMEOUT_MS, &err);
    if (rc == 0) {
        rc = answer(&conn, &request, &err);
    }
    buf_release(&request);
    frame_conn_release(&conn);
    return rc == 0 ? 0 : 1;
}

static int take_answer(struct frame_conn *conn, struct buf *out, struct err *err)
{
    struct buf answer_buf;
    uint8_t type = 0;
    buf_init(&answer_buf, ANSWER_BYTES_MAX);
    int rc = frame_recv(conn, &type, &answer_buf, TIMEOUT_MS, err);
    if (rc != 0) {
        err_clear(err);
        rc = err_set(err, ERR_CORRUPT,
                     "the process that read the model's files ended unexpectedly: they are "
                     "damaged, or hostile");
    } else if (type == 'i') {
        buf_append(out, answer_buf.data, answer_buf.len);
        rc = buf_check(out, "the description", err);
    } else {
        json_t *tree = json_parse(answer_buf.data, answer_buf.len, err);
        const int64_t code = json_integer_value(json_object_get(tree, "code"));
        const char *message = json_string_value(json_object_get(tree, "message"));
        rc = err_set(err, code > 0 && code < ERR_CODE_COUNT ? (enum err_code)code : ERR_CORRUPT,
                     "%s", message != NULL ? message : "the model's files cannot be read");
        json_decref(tree);
    }
    buf_release(&answer_buf);
    return rc;
}

int inspect_model(const char *program, const char *path, struct buf *out, struct err *err)
{
    const char *argv[] = {"mlx-hub", "inspect", NULL};
    const struct proc_options options = {.path = program, .argv = argv};
    struct proc proc = {0};
    struct frame_conn conn;
    struct buf request;
    struct json_out json;
    int rc = proc_spawn(&proc, &options, err);
    if (rc != 0) {
        return rc;
    }
    rc = frame_conn_init(&conn, proc.control, err);
    if (rc != 0) {
        proc_release(&proc);
        return rc;
    }
    buf_init(&request, ANSWER_BYTES_MAX);
    json_out_init(&json, &request);
    json_out_object(&json);
    json_out_kv_string(&json, "path", path);
    json_out_object_end(&json);
    rc = buf_check(&request, "the request", err);
    if (rc == 0) {
        rc = frame_send(&conn, 'I', request.data, request.len, TIMEOUT_MS, err);
    }
    if (rc == 0) {
        rc = take_answer(&conn, out, err);
    }
    buf_release(&request);
    frame_conn_release(&conn);
    proc_release(&proc);
    return rc;
}
