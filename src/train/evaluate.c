/* rows ─▶ losses (trainer, packed) ─▶ matches and answers (one session, row by row).
 *
 * A row's tokens go into the session in pieces. Logits are computed where a target follows, and a
 * row is given up at its first token that is not the first choice, unless it is to be shown. */
#include "train/evaluate.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/machine.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "engine/adapter_files.h"
#include "formats/model_digest.h"
#include "kernels/det_math.h"
#include "train/run.h"

struct evaluation {
    const struct evaluate_spec *spec;
    const struct train_hooks *hooks;
    struct engine_model *model;
    struct engine_adapter *adapter; /* of the version; or a fresh one, which changes nothing */
    struct engine_trainer *trainer;
    struct engine_session *session;
    struct row_maker maker;
    struct train_rows rows;
    struct row_list list;
    struct engine_row *micro;
    float *logits; /* EVALUATE_PIECE_TOKENS rows */
    int tokens_max, vocab;
    struct engine_loss loss;
    int64_t begun_ns;
    uint64_t tokens;
};

static int poll_hooks(void *ctx, struct err *err)
{
    const struct evaluation *e = ctx;
    if (e->hooks == NULL || e->hooks->poll == NULL) {
        return 0;
    }
    switch (e->hooks->poll(e->hooks->ctx)) {
    case TRAIN_CANCEL:
    case TRAIN_ABANDON:
        return err_set(err, ERR_CANCELLED, "the evaluation was cancelled");
    case TRAIN_CHECKPOINT_AND_STOP:
        return err_set(err, ERR_CLOSED, "the evaluation was stopped");
    case TRAIN_GO_ON:
        break;
    }
    return 0;
}

static double mean_loss(const struct evaluation *e)
{
    return e->loss.n_targets > 0 ? (double)engine_loss_sum(&e->loss) / (double)e->loss.n_targets
                                 : (double)NAN;
}

/* Losses are the first half of the way, answers the second. */
static void tell(struct evaluation *e, int64_t done)
{
    const int64_t steps = 2 * (int64_t)e->list.n;
    const double seconds = (double)(clock_monotonic_ns() - e->begun_ns) / 1e9;
    const struct train_progress progress = {
        .step = done,
        .steps = steps,
        .epoch = (double)done / (double)steps,
        .loss = mean_loss(e),
        .val_loss = (double)NAN,
        .grad_norm = (double)NAN,
        .tokens_per_second = seconds > 0 ? (double)e->tokens / seconds : 0.0,
        .memory_bytes = machine_resident_bytes(),
        .eta_seconds = done > 0 ? seconds / (double)done * (double)(steps - done) : (double)NAN};
    if (e->hooks != NULL && e->hooks->progress != NULL) {
        e->hooks->progress(e->hooks->ctx, &progress, done == steps);
    }
}

/* --- opening ---------------------------------------------------------------------------------- */

static int check_base(const struct evaluate_spec *spec, struct err *err)
{
    char sha256[SHA256_HEX_BYTES];
    if (spec->base_sha256 == NULL) {
        return 0;
    }
    const int rc = model_digest(spec->base_path, sha256, err);
    if (rc == 0 && strcmp(sha256, spec->base_sha256) != 0) {
        return err_set(err, ERR_CORRUPT,
                       "base model %s changed since it was imported: its checksum was %s and is "
                       "%s; import it again",
                       spec->base_id, spec->base_sha256, sha256);
    }
    return rc;
}

static int check_memory(const struct evaluate_spec *spec, struct err *err)
{
    uint64_t bytes = 0;
    const int rc =
        train_evaluate_estimate(spec->base_path, spec->max_seq_length, spec->threads, &bytes, err);
    if (rc == 0 && spec->memory_bytes_max > 0 && bytes > spec->memory_bytes_max) {
        return err_set(err, ERR_UNAVAILABLE,
                       "evaluating needs %.0f MB and %.0f MB are allowed: lower max_seq_length",
                       (double)bytes / 1e6, (double)spec->memory_bytes_max / 1e6);
    }
    return rc;
}

static int open_adapter(struct evaluation *e, struct err *err)
{
    const struct evaluate_spec *spec = e->spec;
    if (spec->adapter_path != NULL) {
        return engine_adapter_load(&e->adapter, e->model, spec->adapter_path, spec->adapter_scale,
                                   err);
    }
    const struct engine_lora none = {.rank = 1,
                                     .scale = 1.0f,
                                     .targets = 1u << ENGINE_Q_PROJ,
                                     .first_layer = engine_model_info(e->model)->n_layers - 1};
    return engine_adapter_new(&e->adapter, e->model, &none, 0, err);
}

static int open_model(struct evaluation *e, struct err *err)
{
    const struct evaluate_spec *spec = e->spec;
    struct engine_estimate estimate;
    int rc = engine_estimate_open(spec->base_path, spec->threads, &estimate, err);
    if (rc != 0) {
        return rc;
    }
    const struct train_config limits = {.max_seq_length = spec->max_seq_length};
    e->tokens_max = run_tokens_max(&limits, &estimate.info);
    const struct engine_options options = {
        .threads = spec->threads, .isa = spec->isa, .context_length = e->tokens_max};
    rc = engine_model_open(&e->model, spec->base_path, &options, err);
    if (rc == 0) {
        e->vocab = engine_model_info(e->model)->vocab_size;
        rc = open_adapter(e, err);
    }
    if (rc != 0) {
        err_prefix(err, "base model %s", spec->base_id);
    }
    return rc;
}

static int open_rows(struct evaluation *e, struct err *err)
{
    const struct evaluate_spec *spec = e->spec;
    struct row_list unused = {0};
    if (!fs_exists(spec->dataset_path)) {
        return err_set(err, ERR_NOT_FOUND, "%s is gone: put the file back and evaluate again",
                       spec->dataset_path);
    }
    int rc = row_maker_init(&e->maker, e->model, spec->chat_template, spec->date, e->tokens_max,
                            spec->mask_prompt, err);
    rc = rc == 0 ? train_rows_read(&e->rows, &e->maker, spec->dataset_path, spec->dataset_columns,
                                   spec->dataset_sha256, poll_hooks, e, err)
                 : rc;
    rc = rc == 0 ? row_lists_split(&e->rows, 0, 0, &e->list, &unused, err) : rc;
    row_list_release(&unused);
    return rc;
}

static int open_work(struct evaluation *e, struct err *err)
{
    const struct engine_train_plan plan = {.tokens_max = e->tokens_max};
    const size_t rows = (size_t)e->tokens_max / 2 + 1,
                 logits = EVALUATE_PIECE_TOKENS * (size_t)e->vocab;
    e->micro = mem_calloc(rows, sizeof *e->micro);
    e->logits = mem_calloc(logits, sizeof *e->logits);
    int rc = e->micro != NULL && e->logits != NULL ? 0 : mem_err(err, logits * sizeof *e->logits);
    rc = rc == 0 ? engine_trainer_new(&e->trainer, e->model, e->adapter, &plan, err) : rc;
    return rc == 0 ? engine_session_new(&e->session, e->model, err) : rc;
}

static void evaluation_release(struct evaluation *e)
{
    engine_session_free(e->session);
    engine_trainer_free(e->trainer);
    engine_adapter_free(e->adapter);
    mem_free(e->micro);
    mem_free(e->logits);
    row_list_release(&e->list);
    train_rows_release(&e->rows);
    row_maker_release(&e->maker);
    engine_model_free(e->model);
}

/* --- losses ----------------------------------------------------------------------------------- */

static int measure(struct evaluation *e, struct err *err)
{
    for (uint32_t at = 0; at < e->list.n;) {
        int rc = poll_hooks(e, err);
        if (rc != 0) {
            return rc;
        }
        const uint32_t n = micro_step_rows(&e->list, at, e->list.n - at, e->tokens_max, true);
        for (uint32_t i = 0; i < n; i++) {
            const struct train_row *row = row_list_row(&e->list, at + i);
            e->micro[i] = (struct engine_row){.tokens = e->rows.tokens + row->at,
                                              .targets = e->rows.targets + row->at,
                                              .n_tokens = (int)row->n_tokens};
            e->tokens += row->n_tokens;
        }
        rc = engine_eval_loss(e->trainer, e->micro, (int)n, &e->loss, err);
        if (rc != 0) {
            return rc;
        }
        at += n;
        tell(e, at);
    }
    return 0;
}

/* --- answers ---------------------------------------------------------------------------------- */

static int32_t first_choice(const float *logits, int vocab)
{
    int32_t best = 0;
    for (int32_t id = 1; id < vocab; id++) {
        best = logits[id] > logits[best] ? id : best;
    }
    return best;
}

/* Appends tokens to the session; with `all`, their logits. */
static int feed(struct evaluation *e, const int32_t *tokens, int n, bool all, bool last,
                struct err *err)
{
    struct engine_piece piece = {.session = e->session,
                                 .adapter = e->spec->adapter_path != NULL ? e->adapter : NULL,
                                 .tokens = tokens,
                                 .n_tokens = n,
                                 .logits = all || last ? e->logits : NULL,
                                 .all_logits = all};
    return engine_eval(e->model, &piece, 1, err);
}

/* Whether every target of the row is the first choice after what stands before it. */
static int match_row(struct evaluation *e, const struct train_row *row, bool *match,
                     struct err *err)
{
    const int32_t *tokens = e->rows.tokens + row->at;
    const uint8_t *targets = e->rows.targets + row->at;
    const int n = (int)row->n_tokens - 1; /* nothing follows the last one */
    engine_session_truncate(e->session, 0);
    *match = true;
    for (int at = 0; at < n && *match; at += EVALUATE_PIECE_TOKENS) {
        const int count = n - at < EVALUATE_PIECE_TOKENS ? n - at : EVALUATE_PIECE_TOKENS;
        const bool any = memchr(targets + at + 1, 1, (size_t)count) != NULL;
        const int rc = feed(e, tokens + at, count, any, false, err);
        if (rc != 0) {
            return rc;
        }
        for (int i = 0; i < count && any && *match; i++) {
            *match = targets[at + i + 1] == 0 ||
                     first_choice(e->logits + (size_t)i * (size_t)e->vocab, e->vocab) ==
                         tokens[at + i + 1];
        }
    }
    return 0;
}

static int text_of(const struct evaluation *e, const int32_t *ids, size_t n, char **out,
                   struct err *err)
{
    struct buf text;
    buf_init(&text, TOKENIZER_TEXT_BYTES_MAX);
    const int rc = tokenizer_decode(engine_model_tokenizer(e->model), ids, n, false, &text, err);
    if (rc == 0) {
        const size_t most = text.len < EVALUATE_TEXT_BYTES_MAX ? text.len : EVALUATE_TEXT_BYTES_MAX;
        *out = mem_strndup(text.data != NULL ? text.data : "",
                           text.len > most ? utf8_complete_prefix(text.data, most) : most);
    }
    buf_release(&text);
    return rc != 0 || *out != NULL ? rc : mem_err(err, EVALUATE_TEXT_BYTES_MAX);
}

/* Greedy decoding behind the first n tokens of the row. */
static int answer(struct evaluation *e, const int32_t *tokens, int n, struct token_ids *out,
                  struct err *err)
{
    int rc = 0;
    engine_session_truncate(e->session, 0);
    for (int at = 0; at < n && rc == 0; at += EVALUATE_PIECE_TOKENS) {
        const int count = n - at < EVALUATE_PIECE_TOKENS ? n - at : EVALUATE_PIECE_TOKENS;
        rc = feed(e, tokens + at, count, false, at + count == n, err);
    }
    for (int held = n; rc == 0; held++) {
        const int32_t id = first_choice(e->logits, e->vocab);
        rc = token_ids_push(out, id, err);
        if (rc != 0 || row_maker_is_end(&e->maker, id) || held >= e->tokens_max ||
            out->n == EVALUATE_ANSWER_TOKENS_MAX) {
            break;
        }
        rc = feed(e, &id, 1, false, true, err);
    }
    return rc;
}

/* The row's last stretch of targets is what is asked for. */
static int show_row(struct evaluation *e, const struct train_row *row, bool match,
                    struct evaluate_result *result, struct err *err)
{
    struct evaluate_sample *sample = &result->samples[result->n_samples++];
    const int32_t *tokens = e->rows.tokens + row->at;
    const uint8_t *targets = e->rows.targets + row->at;
    size_t begin = row->n_tokens - 1;
    struct token_ids ids;
    token_ids_init(&ids, EVALUATE_ANSWER_TOKENS_MAX);
    while (begin > 1 && targets[begin - 1] != 0) {
        begin--;
    }
    sample->row = row->number;
    sample->match = match;
    int rc = answer(e, tokens, (int)begin, &ids, err);
    rc = rc == 0 ? text_of(e, tokens, begin, &sample->prompt, err) : rc;
    rc = rc == 0 ? text_of(e, tokens + begin, row->n_tokens - begin, &sample->expected, err) : rc;
    rc = rc == 0 ? text_of(e, ids.ids, ids.n, &sample->answer, err) : rc;
    token_ids_release(&ids);
    return rc;
}

static int compare(struct evaluation *e, struct evaluate_result *result, struct err *err)
{
    const int most =
        e->spec->n_samples < EVALUATE_SAMPLES_MAX ? e->spec->n_samples : EVALUATE_SAMPLES_MAX;
    for (uint32_t i = 0; i < e->list.n; i++) {
        const struct train_row *row = row_list_row(&e->list, i);
        bool match = false;
        int rc = poll_hooks(e, err);
        rc = rc == 0 ? match_row(e, row, &match, err) : rc;
        if (rc == 0 && result->n_samples < most) {
            rc = show_row(e, row, match, result, err);
        }
        if (rc != 0) {
            return rc;
        }
        result->matches += match;
        tell(e, (int64_t)e->list.n + (int64_t)i + 1);
    }
    return 0;
}

/* --- the whole -------------------------------------------------------------------------------- */

static void fill(const struct evaluation *e, struct evaluate_result *result)
{
    result->max_seq_length = e->tokens_max;
    result->mask_prompt = e->spec->mask_prompt;
    result->rows = (int64_t)e->rows.n_rows;
    result->dropped = e->rows.dropped;
    result->truncated = e->rows.truncated;
    result->targets = (int64_t)e->rows.n_targets;
    result->loss = mean_loss(e);
    result->perplexity = det_exp(result->loss);
    result->exact_match = (double)result->matches / (double)result->rows;
    result->seconds = (double)(clock_monotonic_ns() - e->begun_ns) / 1e9;
}

int train_evaluate_limits(const char *text, struct train_config *config, struct err *err)
{
    json_t *json = json_parse(text, strlen(text), err);
    int rc = json != NULL ? json_get_int(json, "max_seq_length", config->max_seq_length,
                                         &config->max_seq_length, err)
                          : -(int)err->code;
    rc = rc == 0
             ? json_get_bool(json, "mask_prompt", config->mask_prompt, &config->mask_prompt, err)
             : rc;
    json_decref(json);
    return rc;
}

int train_evaluate(const struct evaluate_spec *spec, const struct train_hooks *hooks,
                   struct evaluate_result *result, struct err *err)
{
    struct evaluation e = {.spec = spec, .hooks = hooks, .begun_ns = clock_monotonic_ns()};
    int rc;
    memset(result, 0, sizeof *result);
    if ((rc = check_base(spec, err)) == 0 && (rc = check_memory(spec, err)) == 0 &&
        (rc = open_model(&e, err)) == 0 && (rc = open_rows(&e, err)) == 0 &&
        (rc = open_work(&e, err)) == 0 && (rc = measure(&e, err)) == 0 &&
        (rc = compare(&e, result, err)) == 0) {
        fill(&e, result);
    }
    if (rc != 0) {
        evaluate_result_release(result);
    }
    evaluation_release(&e);
    return rc;
}

void evaluate_result_release(struct evaluate_result *result)
{
    for (int i = 0; i < result->n_samples; i++) {
        mem_free(result->samples[i].prompt);
        mem_free(result->samples[i].expected);
        mem_free(result->samples[i].answer);
    }
    memset(result, 0, sizeof *result);
}

void evaluate_result_write(const struct evaluate_result *result, struct json_out *out)
{
    json_out_kv_int(out, "max_seq_length", result->max_seq_length);
    json_out_kv_bool(out, "mask_prompt", result->mask_prompt);
    json_out_kv_int(out, "rows", result->rows);
    json_out_kv_int(out, "rows_dropped", result->dropped);
    json_out_kv_int(out, "rows_truncated", result->truncated);
    json_out_kv_int(out, "targets", result->targets);
    json_out_kv_real(out, "loss", result->loss);
    json_out_kv_real(out, "perplexity", result->perplexity);
    json_out_kv_real(out, "exact_match", result->exact_match);
    json_out_kv_int(out, "matches", result->matches);
    json_out_kv_real(out, "seconds", result->seconds);
    json_out_kv_int(out, "numerics_version", ENGINE_NUMERICS_VERSION);
    json_out_key(out, "samples");
    json_out_array(out);
    for (int i = 0; i < result->n_samples; i++) {
        const struct evaluate_sample *sample = &result->samples[i];
        json_out_object(out);
        json_out_kv_int(out, "row", sample->row);
        json_out_kv_string(out, "prompt", sample->prompt);
        json_out_kv_string(out, "expected", sample->expected);
        json_out_kv_string(out, "answer", sample->answer);
        json_out_kv_bool(out, "match", sample->match);
        json_out_object_end(out);
    }
    json_out_array_end(out);
}
