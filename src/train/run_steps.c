/* The loop. A step is done when AdamW has moved the adapter; what follows it is settled before the
 * next one begins, and is settled first when a run resumes from a checkpoint that was taken in
 * between:
 *
 *   evaluation, when nothing was learnt yet
 *   ┌─▶ settle: evaluation when due ─▶ checkpoint when due ─▶ progress
 *   │      │ done, or out of patience ─▶ return
 *   └── step ◀─┘
 *
 * 1. Between steps the adapter, the moments and the state belong together; a step that is given up
 *    half way has changed none of them.
 * 2. Nothing is allocated that is not freed in the same call, and only checkpoints allocate.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/machine.h"
#include "base/mem.h"
#include "kernels/det_math.h"
#include "train/run.h"
#include "train/schedule.h"

enum { NOTE_BYTES = 1024, COOLDOWN_SLICE_MS = 100 };

void run_note(struct run *run, const char *fmt, ...)
{
    char line[NOTE_BYTES];
    va_list args;
    if (run->hooks == NULL || run->hooks->note == NULL) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    run->hooks->note(run->hooks->ctx, line);
}

int run_poll(void *ctx, struct err *err)
{
    struct run *run = ctx;
    if (run->hooks == NULL || run->hooks->poll == NULL) {
        return 0;
    }
    switch (run->hooks->poll(run->hooks->ctx)) {
    case TRAIN_CANCEL:
        return err_set(err, ERR_CANCELLED, "cancelled at step %lld", (long long)run->state.step);
    case TRAIN_CHECKPOINT_AND_STOP:
        return err_set(err, ERR_CLOSED, "stopped at step %lld", (long long)run->state.step);
    case TRAIN_ABANDON:
        run->abandoned = true;
        return err_set(err, ERR_CANCELLED, "abandoned at step %lld", (long long)run->state.step);
    case TRAIN_GO_ON:
        break;
    }
    return 0;
}

/* Rows list[first, first + n) as one micro-step; `ordinal` is the first one's place in the step. */
static void fill_micro(struct run *run, const struct row_list *list, uint32_t first, uint32_t n,
                       uint32_t ordinal)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct train_row *row = row_list_row(list, first + i);
        run->micro[i] = (struct engine_row){.tokens = list->rows->tokens + row->at,
                                            .targets = list->rows->targets + row->at,
                                            .n_tokens = (int)row->n_tokens,
                                            .row_in_step = ordinal + i};
    }
}

/* Says of which step a value that is not finite is. */
static int explain(const struct run *run, int rc, int64_t step, struct err *err)
{
    struct err what = {0};
    if (rc != -ERR_INVALID || err == NULL || strncmp(err->message, "NaN/Inf", 7) != 0) {
        return rc;
    }
    what = *err;
    err_clear(err);
    return err_set(err, ERR_INVALID,
                   "NaN/Inf loss detected at step %lld (%s): lower learning_rate%s, or lengthen "
                   "warmup_steps",
                   (long long)step, what.message,
                   run->config->max_grad_norm > 0 ? " or max_grad_norm"
                                                  : ", set max_grad_norm to clip gradients");
}

/* --- evaluation ------------------------------------------------------------------------------- */

static int evaluate(struct run *run, double *mean, struct err *err)
{
    const struct row_list *list = &run->validation;
    struct engine_loss loss = {.n_targets = 0};
    for (uint32_t at = 0; at < list->n;) {
        int rc = run_poll(run, err);
        if (rc != 0) {
            return rc;
        }
        const uint32_t n =
            micro_step_rows(list, at, list->n - at, run->tokens_max, run->config->packing);
        fill_micro(run, list, at, n, at);
        rc = engine_eval_loss(run->trainer, run->micro, (int)n, &loss, err);
        if (rc != 0) {
            return explain(run, rc, run->state.step, err);
        }
        at += n;
    }
    *mean = (double)engine_loss_sum(&loss) / (double)loss.n_targets;
    return 0;
}

static int settle_evaluation(struct run *run, struct err *err)
{
    struct train_state *state = &run->state;
    if (!state->evaluate) {
        return 0;
    }
    int rc = evaluate(run, &state->val_loss, err);
    if (rc != 0) {
        return rc;
    }
    state->evaluate = false;
    run->validated = true;
    run->saved = false;
    state->stale++;
    if (!(state->val_loss >= state->best_val_loss)) {
        state->best_val_loss = state->val_loss;
        state->best_step = state->step;
        state->stale = 0;
        if (run->best != NULL) {
            tensors_gather(run->tensors, run->n_tensors, run->best);
        }
    }
    run_note(run, "step %lld: validation loss %.4f, perplexity %.4f (best %.4f at step %lld)",
             (long long)state->step, state->val_loss, det_exp(state->val_loss),
             state->best_val_loss, (long long)state->best_step);
    return 0;
}

static bool out_of_patience(const struct run *run)
{
    const int64_t patience = run->config->early_stopping_patience;
    return patience > 0 && run->state.stale >= patience && !run->state.evaluate;
}

/* --- checkpoints and progress ----------------------------------------------------------------- */

static int save(struct run *run, struct err *err)
{
    const struct checkpoint_parts parts = {run->adapter, &run->adamw, run->best};
    if (run->saved || run->state.step == 0) {
        return 0;
    }
    int rc = checkpoint_write(run->spec->checkpoint_dir, &run->state, &parts, run->digest, err);
    if (rc == 0) {
        run->saved = true;
        checkpoint_prune(run->spec->checkpoint_dir, run->state.step, run->config->checkpoints_kept);
        if (run->hooks != NULL && run->hooks->checkpoint != NULL) {
            run->hooks->checkpoint(run->hooks->ctx, run->state.step);
        }
    }
    return rc;
}

static void report(struct run *run)
{
    const struct train_state *state = &run->state;
    const int64_t step = state->step;
    const double seconds = (double)(clock_monotonic_ns() - run->started_ns) / 1e9;
    const int64_t done = step - run->first_step;
    struct train_progress progress = {
        .step = step,
        .steps = run->plan.steps,
        .epoch = (double)step / (double)run->plan.steps_per_epoch,
        .loss = state->loss,
        .val_loss = state->val_loss,
        .validated = run->validated,
        .learning_rate = step > 0 ? train_learning_rate(run->config, &run->plan, step) : 0.0,
        .grad_norm = run->grad_norm,
        .tokens_per_second = seconds > 0 ? (double)run->tokens / seconds : 0.0,
        .memory_bytes = machine_resident_bytes(),
        .eta_seconds = done > 0 ? seconds / (double)done * (double)(run->plan.steps - step) : NAN,
    };
    if (progress.memory_bytes == 0) {
        progress.memory_bytes = mem_used();
    }
    if (progress.memory_bytes > run->peak_memory_bytes) {
        run->peak_memory_bytes = progress.memory_bytes;
    }
    if (run->hooks != NULL && run->hooks->progress != NULL) {
        run->hooks->progress(run->hooks->ctx, &progress,
                             step % run->config->log_every == 0 || step == 1 ||
                                 step == run->plan.steps);
    }
}

/* What the model knows before it learns. */
static int evaluate_first(struct run *run, struct err *err)
{
    struct train_state *state = &run->state;
    if (state->step > 0 || run->validation.n == 0) {
        return 0;
    }
    const int rc = evaluate(run, &state->first_val_loss, err);
    if (rc == 0) {
        state->val_loss = state->first_val_loss;
        run->validated = true;
        run_note(run, "before training: validation loss %.4f, perplexity %.4f", state->val_loss,
                 det_exp(state->val_loss));
        report(run);
    }
    return rc;
}

/* What follows a step; at the start of a resumed run too, where all of it may be done already. */
static int settle(struct run *run, bool resumed, struct err *err)
{
    const struct train_state *state = &run->state;
    const bool unfinished = state->evaluate;
    if (state->step == 0) {
        return 0;
    }
    int rc = settle_evaluation(run, err);
    if (rc == 0 && state->step % run->config->checkpoint_every == 0) {
        rc = save(run, err);
    }
    if (rc == 0 && (!resumed || unfinished)) {
        report(run);
    }
    return rc;
}

/* --- a step ----------------------------------------------------------------------------------- */

static uint64_t count_targets(const struct row_list *list, uint32_t first, uint32_t n)
{
    uint64_t targets = 0;
    for (uint32_t i = 0; i < n; i++) {
        targets += row_list_row(list, first + i)->n_targets;
    }
    return targets;
}

/* Forward and backward of all micro-steps. *tokens counts those of the rows. */
static int gradients(struct run *run, uint32_t first, uint32_t n, struct engine_loss *loss,
                     uint64_t *tokens, struct err *err)
{
    const struct row_list *list = &run->order.epoch;
    const float inverse = 1.0f / (float)count_targets(list, first, n);
    engine_trainer_zero(run->trainer);
    for (uint32_t at = 0; at < n;) {
        int rc = run_poll(run, err);
        if (rc != 0) {
            return rc;
        }
        const uint32_t rows =
            micro_step_rows(list, first + at, n - at, run->tokens_max, run->config->packing);
        fill_micro(run, list, first + at, rows, at);
        rc = engine_train_step(run->trainer, run->micro, (int)rows, (uint64_t)run->state.step + 1,
                               inverse, loss, err);
        if (rc != 0) {
            return rc;
        }
        for (uint32_t i = 0; i < rows; i++) {
            *tokens += (uint64_t)run->micro[i].n_tokens;
        }
        at += rows;
    }
    return 0;
}

static int optimize(struct run *run, int64_t step, struct err *err)
{
    float *const *grads = engine_trainer_gradients(run->trainer);
    const float norm = gradient_norm(run->tensors, grads, run->n_tensors);
    if (!isfinite(norm)) {
        return err_set(err, ERR_INVALID, "NaN/Inf gradient norm");
    }
    run->grad_norm = (double)norm;
    return adamw_step(&run->adamw, run->tensors, grads, run->n_tensors, step,
                      train_learning_rate(run->config, &run->plan, step), run->config->weight_decay,
                      clip_scale(norm, run->config->max_grad_norm), err);
}

static bool evaluation_due(const struct run *run, int64_t step)
{
    return run->validation.n > 0 && (step % run->plan.eval_every == 0 || step == run->plan.steps);
}

static int one_step(struct run *run, struct err *err)
{
    struct train_state *state = &run->state;
    const int64_t step = state->step + 1;
    struct engine_loss loss = {.n_targets = 0};
    uint64_t tokens = 0;
    uint32_t first, n;
    train_order_step(&run->order, state->step, &first, &n);
    int rc = gradients(run, first, n, &loss, &tokens, err);
    if (rc == 0) {
        rc = optimize(run, step, err);
    }
    if (rc != 0) {
        return explain(run, rc, step, err);
    }
    run->tokens += tokens;
    run->saved = run->validated = false;
    state->step = step;
    state->loss = (double)engine_loss_sum(&loss) / (double)loss.n_targets;
    state->first_loss = step == 1 ? state->loss : state->first_loss;
    state->evaluate = evaluation_due(run, step);
    state->epoch = step / run->order.steps_per_epoch;
    state->row = step % run->order.steps_per_epoch * run->order.rows_per_step;
    return 0;
}

/* The pause between epochs that the config may ask for. */
static int cool_down(struct run *run, struct err *err)
{
    const double pause = run->config->cooldown_seconds;
    if (pause <= 0 || run->state.row != 0 || run->state.step == run->first_step) {
        return 0;
    }
    const int64_t until = clock_monotonic_ns() + (int64_t)(pause * 1e9);
    while (clock_monotonic_ns() < until) {
        int rc = run_poll(run, err);
        if (rc != 0) {
            return rc;
        }
        clock_sleep_ms(COOLDOWN_SLICE_MS);
    }
    return 0;
}

static int loop(struct run *run, struct err *err)
{
    int rc = evaluate_first(run, err);
    rc = rc == 0 ? settle(run, true, err) : rc;
    while (rc == 0 && run->state.step < run->plan.steps && !out_of_patience(run)) {
        rc = cool_down(run, err);
        if (rc == 0) {
            rc = one_step(run, err);
        }
        if (rc == 0) {
            rc = settle(run, false, err);
        }
    }
    if (rc == 0 && run->state.step < run->plan.steps) {
        run_note(run, "stopped early at step %lld: no better validation loss in %lld evaluations",
                 (long long)run->state.step, (long long)run->state.stale);
    }
    return rc;
}

/* Of a run that was told to end with rc. One that is cancelled is so, whatever the disk says. */
static int save_last(struct run *run, int rc, struct err *err)
{
    struct err why = {0};
    if (save(run, &why) == 0) {
        return rc;
    }
    if (rc == -ERR_CANCELLED) {
        run_note(run, "%s", why.message);
        return rc;
    }
    err_clear(err);
    return err_set(err, why.code, "%s", why.message);
}

int run_steps(struct run *run, struct err *err)
{
    run->started_ns = clock_monotonic_ns();
    run->first_step = run->state.step;
    const int rc = loop(run, err);
    return (rc == -ERR_CLOSED || rc == -ERR_CANCELLED) && !run->abandoned ? save_last(run, rc, err)
                                                                          : rc;
}
