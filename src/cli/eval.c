/* mlx-hub eval: how well a model predicts a text.
 *
 *   text ─▶ tokens ─▶ windows of at most --window tokens ─▶ engine_eval_loss ─▶ exp(Σ loss / Σ
 * targets)
 *
 * The arithmetic is the trainer's: fp32 on the de-quantised weights, so the number says nothing of
 * serving's 8-bit activations, and the same model and text always give the same digits. Every token
 * is predicted from those before it in its window; the first of a window is not. The trainer wants
 * an adapter: the bare base gets a fresh one, whose zero factors leave its outputs as they are.
 * With --dataset the hub evaluates instead (eval_dataset.c). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/eval_dataset.h"
#include "cli/find_model.h"
#include "cli/interrupt.h"
#include "cli/print.h"
#include "cli/text_files.h"
#include "engine/adapter_files.h"
#include "engine/engine.h"

enum { WINDOW_TOKENS = 512, WINDOW_TOKENS_MIN = 2, WINDOW_TOKENS_MAX = 8192 };

static const struct option_info options[] = {
    {"text", "FILE", "the text to predict (- = standard input)"},
    {"dataset", "DATASET", "instead: loss, perplexity, exact match and answers on its rows"},
    {"against", "MODEL", "with --dataset: another version, a base or a file beside it"},
    {"window", "N", "tokens that are looked at together, 2-8192 (512, or the model's context)"},
};

struct evaluation {
    struct engine_model *model;
    struct engine_adapter *adapter;
    struct engine_trainer *trainer;
    struct token_ids ids;
    uint8_t targets[WINDOW_TOKENS_MAX];
    int window; /* 0: WINDOW_TOKENS, or the model's context where that is less */
    struct engine_loss loss;
    double seconds;
};

static void evaluation_release(struct evaluation *e)
{
    token_ids_release(&e->ids);
    engine_trainer_free(e->trainer);
    engine_adapter_free(e->adapter);
    engine_model_free(e->model);
}

/* --- opening --- */

static int open_adapter(struct evaluation *e, const struct infer_spec *spec, struct err *err)
{
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

static int open_model(struct evaluation *e, const struct settings *settings,
                      const struct infer_spec *spec, struct err *err)
{
    const struct engine_options with = {.threads = settings->threads,
                                        .isa = settings->isa,
                                        .context_length = settings->context_length};
    int rc = engine_model_open(&e->model, spec->base_path, &with, err);
    const int context = rc == 0 ? engine_model_info(e->model)->context_length : 0;
    if (rc == 0 && engine_model_tokenizer(e->model) == NULL) {
        rc = err_set(err, ERR_INVALID, "%s brings no tokenizer", spec->base_id);
    }
    if (rc == 0 && e->window > context) {
        rc = err_set(err, ERR_INVALID, "a window of %d tokens is more than the model's context, %d",
                     e->window, context);
    }
    if (e->window == 0) {
        e->window = context < WINDOW_TOKENS ? context : WINDOW_TOKENS;
    }
    const struct engine_train_plan plan = {.tokens_max = e->window};
    rc = rc == 0 ? open_adapter(e, spec, err) : rc;
    return rc == 0 ? engine_trainer_new(&e->trainer, e->model, e->adapter, &plan, err) : rc;
}

/* What is written in the text as a control token is plain text here. */
static int read_tokens(struct evaluation *e, const char *path, struct err *err)
{
    struct buf text;
    buf_init(&text, TOKENIZER_TEXT_BYTES_MAX);
    int rc = read_whole(path, &text, err);
    if (rc == 0) {
        rc = tokenizer_encode(engine_model_tokenizer(e->model), text.data != NULL ? text.data : "",
                              text.len, TOKENIZER_ADD_SPECIAL, &e->ids, err);
    }
    if (rc == 0 && e->ids.n < 2) {
        rc = err_set(err, ERR_INVALID, "the text has %zu tokens; at least 2 are needed", e->ids.n);
    }
    buf_release(&text);
    return rc;
}

/* --- predicting --- */

static int predict(struct evaluation *e, struct err *err)
{
    struct progress progress;
    const int64_t begun = clock_monotonic_ns();
    int rc = 0;
    memset(e->targets, 1, sizeof e->targets);
    e->targets[0] = 0;
    progress_init(&progress);
    for (size_t at = 0; rc == 0 && at + 1 < e->ids.n; at += (size_t)e->window) {
        const size_t left = e->ids.n - at;
        const struct engine_row row = {.tokens = e->ids.ids + at,
                                       .targets = e->targets,
                                       .n_tokens =
                                           left < (size_t)e->window ? (int)left : e->window};
        if (interrupted()) {
            rc = err_set(err, ERR_CANCELLED, "interrupted");
        } else {
            rc = engine_eval_loss(e->trainer, &row, 1, &e->loss, err);
            progress_show(&progress, (double)(at + (size_t)row.n_tokens) / (double)e->ids.n,
                          "predicting");
        }
    }
    progress_end(&progress);
    e->seconds = (double)(clock_monotonic_ns() - begun) / 1e9;
    return rc;
}

static int evaluate(const struct args *args, const struct infer_spec *spec, struct evaluation *e,
                    struct err *err)
{
    int rc = open_model(e, &args->settings, spec, err);
    rc = rc == 0 ? read_tokens(e, args_get(args, "text"), err) : rc;
    return rc == 0 ? predict(e, err) : rc;
}

/* --- the command --- */

static int print_result(const struct args *args, const struct evaluation *e, struct err *err)
{
    const double loss = (double)engine_loss_sum(&e->loss) / (double)e->loss.n_targets;
    const double rate = e->seconds > 0.0 ? (double)e->ids.n / e->seconds : 0.0;
    if (!args->json) {
        printf("perplexity %.4f (%.5f nats a token, %llu tokens predicted, %.0f tokens/s)\n",
               exp(loss), loss, (unsigned long long)e->loss.n_targets, rate);
        return EXIT_DONE;
    }
    struct buf buf;
    struct json_out out;
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_object(&out);
    json_out_kv_string(&out, "model", args->positional[0]);
    json_out_kv_real(&out, "perplexity", exp(loss));
    json_out_kv_real(&out, "loss", loss);
    json_out_kv_int(&out, "targets", (int64_t)e->loss.n_targets);
    json_out_kv_int(&out, "tokens", (int64_t)e->ids.n);
    json_out_kv_int(&out, "window", e->window);
    json_out_kv_real(&out, "tokens_per_second", rate);
    json_out_kv_string(&out, "engine", engine_model_info(e->model)->engine);
    json_out_kv_int(&out, "numerics_version", ENGINE_NUMERICS_VERSION);
    json_out_object_end(&out);
    return print_json(&buf, err);
}

static int run(const struct args *args, struct err *err)
{
    struct found_model model = {0};
    struct evaluation e = {0};
    long window;
    int status = EXIT_FAILED;
    if ((args_get(args, "text") == NULL) == (args_get(args, "dataset") == NULL)) {
        (void)err_set(err, ERR_INVALID, "give a text with --text FILE, or rows with --dataset D");
        return EXIT_USAGE;
    }
    if (args_get(args, "dataset") != NULL) {
        return eval_dataset_run(args, err);
    }
    if (args_get_int(args, "window", 0, &window, err) != 0) {
        return EXIT_USAGE;
    }
    if (args_get(args, "window") != NULL &&
        (window < WINDOW_TOKENS_MIN || window > WINDOW_TOKENS_MAX)) {
        (void)err_set(err, ERR_INVALID, "--window takes %d to %d", WINDOW_TOKENS_MIN,
                      WINDOW_TOKENS_MAX);
        return EXIT_USAGE;
    }
    e.window = (int)window;
    token_ids_init(&e.ids, TOKENIZER_TEXT_BYTES_MAX + TOKENIZER_AFFIX_MAX * 2);
    interrupt_catch();
    int rc = find_model(&model, &args->settings, args->positional[0], err);
    rc = rc == 0 ? evaluate(args, &model.spec, &e, err) : rc;
    if (rc == 0) {
        status = print_result(args, &e, err);
    }
    evaluation_release(&e);
    found_model_release(&model);
    return status;
}

const struct command command_eval = {
    .name = "eval",
    .summary = "Measure how well a model predicts a text, or answers a dataset",
    .usage = "MODEL --text FILE | MODEL --dataset DATASET [--against MODEL]",
    .examples = "  mlx-hub eval model.gguf --text essay.txt\n"
                "  mlx-hub eval my-model@1.0.0 --text essay.txt --json\n"
                "  mlx-hub eval my-model@1.1.0 --dataset held-out --against my-model@1.0.0\n"
                "  mlx-hub eval my-model --dataset held-out --against smollm2\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .positional_min = 1,
    .positional_max = 1,
    .run = run,
};
