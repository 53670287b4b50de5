/* Probe rows are random tokens; every position's token is a target, and since a loss has a lane for
 * each of sixteen targets, one evaluation gives sixteen log-probabilities apart. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "engine/adapter_files.h"
#include "engine/engine.h"
#include "train/merge_int.h"

enum { PROBES = MERGE_PROBE_ROWS * MERGE_PROBE_TARGETS, ROW_TOKENS = MERGE_PROBE_TARGETS + 1 };

_Static_assert(MERGE_PROBE_TARGETS == 16, "one lane of a loss for each target");

struct probe {
    struct engine_model *model;
    struct engine_adapter *adapter;
    struct engine_trainer *trainer;
    uint32_t n_tokens; /* of a row */
};

static void probe_release(struct probe *p)
{
    engine_trainer_free(p->trainer);
    engine_adapter_free(p->adapter);
    engine_model_free(p->model);
}

/* adapter_path NULL: none, for which a fresh adapter stands. */
static int probe_open(struct probe *p, const struct merge *m, const char *path,
                      const char *adapter_path, struct err *err)
{
    const struct engine_options options = {
        .threads = m->spec->threads, .isa = m->spec->isa, .context_length = 2 * ROW_TOKENS};
    const struct engine_train_plan plan = {.tokens_max = ROW_TOKENS};
    const struct model_config *c = model_files_config(m->base);
    memset(p, 0, sizeof *p);
    /* inside a window, beyond which a file may have no words for it */
    p->n_tokens =
        c->sliding_window > 0 && c->sliding_window < ROW_TOKENS ? c->sliding_window : ROW_TOKENS;
    int rc = engine_model_open(&p->model, path, &options, err);
    if (rc == 0 && adapter_path != NULL) {
        rc = engine_adapter_load(&p->adapter, p->model, adapter_path, (float)m->manifest.lora_scale,
                                 err);
    } else if (rc == 0) {
        const struct engine_lora none = {.rank = 1,
                                         .scale = 1.0f,
                                         .targets = 1u << ENGINE_Q_PROJ,
                                         .first_layer = engine_model_info(p->model)->n_layers - 1};
        rc = engine_adapter_new(&p->adapter, p->model, &none, 0, err);
    }
    return rc == 0 ? engine_trainer_new(&p->trainer, p->model, p->adapter, &plan, err) : rc;
}

static int probe_rows(struct probe *p, float out[PROBES], struct err *err)
{
    const uint32_t vocab = (uint32_t)engine_model_info(p->model)->vocab_size;
    uint8_t targets[ROW_TOKENS];
    memset(targets, 1, sizeof targets);
    targets[0] = 0;
    for (uint32_t r = 0; r < MERGE_PROBE_ROWS; r++) {
        int32_t tokens[ROW_TOKENS];
        struct engine_loss loss = {.n_targets = 0};
        for (uint32_t i = 0; i < p->n_tokens; i++) {
            uint32_t words[4];
            rng_draw4(0, RNG_SAMPLE, r, i, words);
            tokens[i] = (int32_t)(((uint64_t)words[0] * vocab) >> 32);
        }
        const struct engine_row row = {
            .tokens = tokens, .targets = targets, .n_tokens = (int)p->n_tokens};
        const int rc = engine_eval_loss(p->trainer, &row, 1, &loss, err);
        if (rc != 0) {
            return rc;
        }
        memcpy(out + r * MERGE_PROBE_TARGETS, loss.lanes, sizeof loss.lanes);
    }
    return 0;
}

static int probe(const struct merge *m, const char *path, const char *adapter_path,
                 float out[PROBES], struct err *err)
{
    struct probe p;
    int rc = probe_open(&p, m, path, adapter_path, err);
    rc = rc == 0 ? probe_rows(&p, out, err) : rc;
    probe_release(&p);
    return rc;
}

static void compare(const float a[PROBES], const float b[PROBES], double *mean, double *largest)
{
    *mean = *largest = 0;
    for (int i = 0; i < PROBES; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        *mean += d / PROBES;
        *largest = d > *largest ? d : *largest;
    }
}

int merge_check(const struct merge *m, const char *path, struct err *err)
{
    struct merge_result *result = m->result;
    float bare[PROBES], want[PROBES], got[PROBES];
    double unused;
    int rc = probe(m, m->spec->base_path, NULL, bare, err);
    memcpy(want, bare, sizeof want);
    if (rc == 0 && m->factors != NULL) {
        rc = probe(m, m->spec->base_path, m->factors_path, want, err);
    }
    rc = rc == 0 ? probe(m, path, NULL, got, err) : rc;
    if (rc != 0) {
        return rc;
    }
    compare(want, got, &result->mean_difference, &result->largest_difference);
    compare(want, bare, &result->adapter_effect, &unused);
    result->probed = PROBES;
    const bool told = result->quantised + result->requantised > 0;
    const bool exact = result->exact == result->tensors || m->type == MERGE_F32;
    const bool same = exact ? result->largest_difference <= MERGE_F32_LARGEST
                            : result->mean_difference <= MERGE_BF16_MEAN;
    if (!told && !same) {
        return err_set(err, ERR_INTERNAL,
                       "the merged weights do not answer as the base with its adapter does: "
                       "log-probabilities differ by %.3g on average and %.3g at most",
                       result->mean_difference, result->largest_difference);
    }
    return 0;
}
