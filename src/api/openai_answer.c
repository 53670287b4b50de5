#include "api/openai.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "http/error_style.h"

enum { OWN_BYTES_MAX = 32 << 20 };

int openai_begin(struct generation **out, struct hub *hub, const struct resolved_model *model,
                 const struct answer_style *style, const struct openai_request *request,
                 const char *prefix, struct err *err)
{
    uint64_t random[2];
    struct openai_answer *answer = mem_calloc(1, sizeof *answer);
    struct openai_choice *choices = mem_calloc(GENERATION_CHOICES_MAX, sizeof *choices);
    int rc = answer != NULL && choices != NULL ? 0 : mem_err(err, sizeof *choices);
    if (rc == 0 && rng_os_bytes(random, sizeof random) != 0) {
        rc = err_set(err, ERR_IO, "no random id is to be had");
    }
    if (rc == 0) {
        rc = generation_new(out, hub, model, style, request->stream, err);
    }
    if (rc != 0) {
        mem_free(answer);
        mem_free(choices);
        return rc;
    }
    (void)snprintf(answer->id, sizeof answer->id, "%s-%016" PRIx64 "%08" PRIx64, prefix, random[0],
                   random[1] & UINT32_MAX);
    (void)snprintf(answer->model, sizeof answer->model, "%s", body_string(request->body, "model"));
    answer->include_usage = request->include_usage;
    answer->logprobs = request->sampling.logprobs;
    answer->echo = request->echo;
    for (int i = 0; i < GENERATION_CHOICES_MAX; i++) {
        buf_init(&choices[i].calls, OWN_BYTES_MAX);
        buf_init(&choices[i].tokens, OWN_BYTES_MAX);
        buf_init(&choices[i].values, OWN_BYTES_MAX);
        buf_init(&choices[i].tops, OWN_BYTES_MAX);
        buf_init(&choices[i].offsets, OWN_BYTES_MAX);
        buf_init(&choices[i].thought, OWN_BYTES_MAX);
        tool_parser_init(&choices[i].parser);
        think_parser_init(&choices[i].thinking);
        (*out)->choices[i].own = &choices[i];
    }
    (*out)->own = answer;
    return 0;
}

void openai_release(struct generation *g)
{
    struct openai_choice *choices = g->choices[0].own;
    for (int i = 0; i < GENERATION_CHOICES_MAX; i++) {
        tool_parser_release(&choices[i].parser);
        think_parser_release(&choices[i].thinking);
        buf_release(&choices[i].thought);
        buf_release(&choices[i].calls);
        buf_release(&choices[i].tokens);
        buf_release(&choices[i].values);
        buf_release(&choices[i].tops);
        buf_release(&choices[i].offsets);
    }
    mem_free(choices);
    mem_free(g->own);
}

void openai_put_head(const struct generation *g, const char *object, struct json_out *out)
{
    const struct openai_answer *answer = g->own;
    const struct infer_accepted *how = &g->choices[0].accepted;
    char fingerprint[96];
    for (int i = 1; i < g->n_choices && how->engine[0] == '\0'; i++) {
        how = &g->choices[i].accepted;
    }
    (void)snprintf(fingerprint, sizeof fingerprint, "seed-%" PRIu64 "-%s-numerics-%d", how->seed,
                   how->engine, how->numerics_version);
    json_out_kv_string(out, "id", answer->id);
    json_out_kv_string(out, "object", object);
    json_out_kv_int(out, "created", g->created_us / 1000000);
    json_out_kv_string(out, "model", answer->model);
    json_out_kv_string(out, "system_fingerprint", fingerprint);
}

static double per_second(int n, double seconds)
{
    return seconds > 0.0 ? n / seconds : 0.0;
}

static void put_timings(const struct generation *g, struct json_out *out)
{
    const struct infer_done *d = &g->choices[0].done;
    const int prompt = d->prompt_tokens - d->cached_tokens;
    const int decoded = d->completion_tokens > 0 ? d->completion_tokens - 1 : 0;
    json_out_key(out, "timings");
    json_out_object(out);
    json_out_kv_int(out, "cache_n", d->cached_tokens);
    json_out_kv_int(out, "prompt_n", prompt);
    json_out_kv_real(out, "prompt_ms", d->prompt_time * 1e3);
    json_out_kv_real(out, "prompt_per_token_ms", prompt > 0 ? d->prompt_time * 1e3 / prompt : 0.0);
    json_out_kv_real(out, "prompt_per_second", per_second(prompt, d->prompt_time));
    json_out_kv_int(out, "predicted_n", d->completion_tokens);
    json_out_kv_real(out, "predicted_ms", d->decode_time * 1e3);
    json_out_kv_real(out, "predicted_per_token_ms",
                     decoded > 0 ? d->decode_time * 1e3 / decoded : 0.0);
    json_out_kv_real(out, "predicted_per_second", per_second(decoded, d->decode_time));
    json_out_object_end(out);
}

void openai_put_usage(const struct generation *g, struct json_out *out)
{
    const struct generation_usage usage = generation_usage(g);
    json_out_key(out, "usage");
    json_out_object(out);
    json_out_kv_int(out, "prompt_tokens", usage.prompt);
    json_out_kv_int(out, "completion_tokens", usage.completion);
    json_out_kv_int(out, "total_tokens", usage.prompt + usage.completion);
    json_out_key(out, "prompt_tokens_details");
    json_out_object(out);
    json_out_kv_int(out, "cached_tokens", usage.cached);
    json_out_object_end(out);
    json_out_object_end(out);
    put_timings(g, out);
}

void openai_end_stream(struct generation *g)
{
    const struct openai_answer *answer = g->own;
    struct json_out out;
    if (answer->include_usage) {
        generation_sse_begin(g, &out);
        openai_put_head(g, answer->chunk_object, &out);
        json_out_key(&out, "choices");
        json_out_array(&out);
        json_out_array_end(&out);
        openai_put_usage(g, &out);
        generation_sse_end(g, &out);
    }
    buf_puts(&g->event, "data: [DONE]\n\n");
    generation_send(g);
}

void openai_fail_stream(struct generation *g, const struct err *failure)
{
    struct http_response shape = {0};
    buf_init(&shape.body, ERR_MESSAGE_BYTES_MAX * 8);
    http_error_openai(&shape, failure);
    buf_clear(&g->event);
    buf_puts(&g->event, "data: ");
    buf_append(&g->event, shape.body.data, shape.body.len);
    buf_puts(&g->event, "\n\n");
    generation_send(g);
    buf_release(&shape.body);
}
