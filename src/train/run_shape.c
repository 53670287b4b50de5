#include <stdio.h>
#include <string.h>

#include "train/evaluate.h"
#include "train/run.h"

_Static_assert((int)TRAIN_Q_PROJ == 1 << ENGINE_Q_PROJ && (int)TRAIN_K_PROJ == 1 << ENGINE_K_PROJ &&
                   (int)TRAIN_V_PROJ == 1 << ENGINE_V_PROJ &&
                   (int)TRAIN_O_PROJ == 1 << ENGINE_O_PROJ &&
                   (int)TRAIN_GATE_PROJ == 1 << ENGINE_GATE_PROJ &&
                   (int)TRAIN_UP_PROJ == 1 << ENGINE_UP_PROJ &&
                   (int)TRAIN_DOWN_PROJ == 1 << ENGINE_DOWN_PROJ,
               "config and engine number the targets alike");

/* What a worker holds besides: the program and its libraries, the database, the tokenizer. */
enum { PROCESS_BYTES = 18 << 20, PROCESS_BYTES_OF_TOKEN = 80 };

static uint64_t process_bytes(const struct engine_info *info)
{
    return PROCESS_BYTES + (uint64_t)info->vocab_size * PROCESS_BYTES_OF_TOKEN;
}

static bool is_float(const char *have)
{
    return have[0] == 'F' || have[0] == 'B';
}

int run_quantized_bits(const struct train_config *config, const char *have)
{
    if (!is_float(have)) {
        return 0;
    }
    return config->quantization == TRAIN_4BIT ? 4 : config->quantization == TRAIN_8BIT ? 8 : 0;
}

/* A float base can be quantised before it is trained on; any other is trained on as it is. */
static int check_quantization(const struct train_config *config, const char *have, struct err *err)
{
    bool fits = true;
    switch (config->quantization) {
    case TRAIN_LOADED:
        break;
    case TRAIN_4BIT:
        fits = strncmp(have, "Q4", 2) == 0 || strcmp(have, "MLX4") == 0;
        break;
    case TRAIN_8BIT:
        fits = strncmp(have, "Q8", 2) == 0 || strcmp(have, "MLX8") == 0;
        break;
    case TRAIN_NO_QUANTIZATION:
        fits = is_float(have);
        break;
    }
    if (fits) {
        return 0;
    }
    return err_set(err, ERR_UNSUPPORTED,
                   "quantization \"%s\": the base's weights are %s; import the base in that "
                   "precision, or leave quantization at \"loaded\"",
                   train_quantization_name(config->quantization), have);
}

int run_lora(const struct train_config *config, const struct engine_info *info,
             struct engine_lora *lora, struct err *err)
{
    const int64_t layers = config->num_layers < 0 || config->num_layers > info->n_layers
                               ? info->n_layers
                               : config->num_layers;
    *lora = (struct engine_lora){.rank = (int)config->lora_rank,
                                 .scale = (float)train_config_scale(config),
                                 .targets = config->lora_targets,
                                 .first_layer = info->n_layers - (int)layers};
    return check_quantization(config, info->quantization, err);
}

int run_tokens_max(const struct train_config *config, const struct engine_info *info)
{
    int64_t tokens = config->max_seq_length;
    tokens = tokens < info->context_trained ? tokens : info->context_trained;
    return (int)(tokens < TRAIN_SEQUENCE_MAX ? tokens : TRAIN_SEQUENCE_MAX);
}

static uint64_t adapter_values(const struct engine_info *info, const struct engine_lora *lora)
{
    const uint64_t d = (uint64_t)info->d_model, f = (uint64_t)info->d_ffn;
    const uint64_t q = (uint64_t)info->n_heads * (uint64_t)info->head_dim;
    const uint64_t kv = (uint64_t)info->n_kv_heads * (uint64_t)info->head_dim;
    const uint64_t width[ENGINE_TARGET_COUNT] = {d + q, d + kv, d + kv, q + d, d + f, d + f, f + d};
    uint64_t sum = 0;
    for (int t = 0; t < ENGINE_TARGET_COUNT; t++) {
        sum += (lora->targets >> t) & 1 ? width[t] : 0;
    }
    return sum * (uint64_t)lora->rank * (uint64_t)(info->n_layers - lora->first_layer);
}

/* What is left of the weights when the layers' matrices are quantised: a scale and a bias for every
 * 32 of their values at worst, and the embeddings as they are. */
static void quantize_estimate(struct engine_estimate *estimate, int bits)
{
    struct engine_info *info = &estimate->info;
    const uint64_t embedding = 2 * (uint64_t)info->vocab_size * (uint64_t)info->d_model;
    const uint64_t rest = info->n_parameters > embedding ? info->n_parameters - embedding : 0;
    const uint64_t bytes = embedding * sizeof(float) + rest * (uint64_t)bits / 8 + rest / 4;
    estimate->weight_bytes = bytes < estimate->weight_bytes ? bytes : estimate->weight_bytes;
    (void)snprintf(info->quantization, sizeof info->quantization, "MLX%d", bits);
}

int run_memory(const char *base_path, const struct train_config *config, int threads,
               uint64_t *bytes, struct err *err)
{
    struct engine_estimate estimate;
    struct engine_lora lora;
    uint64_t trainer = 0;
    int rc = engine_estimate_open(base_path, threads, &estimate, err);
    if (rc != 0) {
        return rc;
    }
    struct engine_info *info = &estimate.info;
    const struct engine_train_plan plan = {.tokens_max = run_tokens_max(config, info),
                                           .dropout = (float)config->lora_dropout};
    const int bits = run_quantized_bits(config, info->quantization);
    uint64_t while_quantising = 0;
    if (bits > 0) {
        while_quantising = estimate.weight_bytes;
        quantize_estimate(&estimate, bits);
        while_quantising += process_bytes(info) + estimate.weight_bytes;
    }
    info->context_length = plan.tokens_max;
    rc = run_lora(config, info, &lora, err);
    if (rc == 0) {
        rc = engine_trainer_estimate_info(info, &lora, &plan, &trainer, err);
    }
    if (rc != 0) {
        return rc;
    }
    /* The adapter, two moments, a copy while it is saved; the best one where rows may validate. */
    const bool validates = config->val_fraction > 0 || config->val_dataset_id[0] != '\0';
    const uint64_t copies = validates && config->publish == TRAIN_PUBLISH_BEST ? 5 : 4;
    const uint64_t rope = (uint64_t)plan.tokens_max * (uint64_t)info->head_dim * sizeof(float);
    *bytes = process_bytes(info) + estimate.weight_bytes + trainer + rope +
             copies * adapter_values(info, &lora) * sizeof(float);
    *bytes = *bytes > while_quantising ? *bytes : while_quantising;
    return 0;
}

int train_evaluate_estimate(const char *base_path, int64_t max_seq_length, int threads,
                            uint64_t *bytes, struct err *err)
{
    struct engine_estimate estimate;
    struct train_config config;
    train_config_defaults(&config);
    config.max_seq_length = max_seq_length;
    config.lora_targets = TRAIN_ALL_LINEAR;
    int rc = run_memory(base_path, &config, threads, bytes, err);
    rc = rc == 0 ? engine_estimate_open(base_path, threads, &estimate, err) : rc;
    if (rc == 0) {
        const uint64_t tokens = (uint64_t)run_tokens_max(&config, &estimate.info);
        *bytes += estimate.weight_bytes + estimate.workspace_bytes +
                  tokens * estimate.kv_bytes_per_token +
                  EVALUATE_PIECE_TOKENS * (uint64_t)estimate.info.vocab_size * sizeof(float);
    }
    return rc;
}

int train_estimate(const char *base_path, const struct train_config *config, int threads,
                   uint64_t *bytes, struct err *err)
{
    return run_memory(base_path, config, threads, bytes, err);
}
