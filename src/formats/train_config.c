/* How it works: `fields` has one row per key, in the order in which the config is written. A row
 * names where the value lies (offset), its kind and its range; the loops below do the rest.
 * Invariants:
 *  1. A parsed config is inside every range of the table, so no later code checks again.
 *  2. Parsing what train_config_write wrote gives the same struct.
 */
#include "formats/train_config.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum kind { INT, OPTIONAL_INT, REAL, BOOL, ENUM, TARGETS, TEXT, UUID };

struct field {
    const char *name;
    enum kind kind;
    size_t offset;
    double fallback; /* of numbers, flags and enums */
    double min, max; /* inclusive; not used by flags, enums and texts */
    const char *const *names;
    size_t text_bytes;
};

static const char *const quantizations[] = {"loaded", "4bit", "8bit", "none", NULL};
static const char *const schedules[] = {"constant", "linear", "cosine", NULL};
static const char *const publishes[] = {"best", "last", NULL};
static const char *const targets[] = {"q_proj",    "k_proj",  "v_proj",    "o_proj",
                                      "gate_proj", "up_proj", "down_proj", NULL};

enum { TARGETS_DEFAULT = TRAIN_Q_PROJ | TRAIN_K_PROJ | TRAIN_V_PROJ | TRAIN_O_PROJ };

/* Learning rate times steps under which an adapter hardly moves from where it began. */
#define TRAVEL_MIN 1e-3

#define AT(member) offsetof(struct train_config, member)

static const struct field fields[] = {
    {"quantization", ENUM, AT(quantization), TRAIN_LOADED, 0, 0, quantizations, 0},
    {"lora_rank", INT, AT(lora_rank), 16, 1, 256, NULL, 0},
    {"lora_alpha", REAL, AT(lora_alpha), 32, 1e-6, 1e6, NULL, 0},
    {"lora_dropout", REAL, AT(lora_dropout), 0, 0, 0.95, NULL, 0},
    {"use_rslora", BOOL, AT(use_rslora), 0, 0, 0, NULL, 0},
    {"lora_targets", TARGETS, AT(lora_targets), TARGETS_DEFAULT, 0, 0, targets, 0},
    {"num_layers", INT, AT(num_layers), -1, -1, 10000, NULL, 0},
    {"init_from", TEXT, AT(init_from), 0, 0, 0, NULL, TRAIN_INIT_FROM_BYTES},
    {"learning_rate", REAL, AT(learning_rate), 5e-5, 1e-12, 1, NULL, 0},
    {"weight_decay", REAL, AT(weight_decay), 0.01, 0, 1, NULL, 0},
    {"lr_schedule", ENUM, AT(lr_schedule), TRAIN_LINEAR, 0, 0, schedules, 0},
    {"warmup_steps", INT, AT(warmup_steps), 100, 0, 1e9, NULL, 0},
    {"max_grad_norm", REAL, AT(max_grad_norm), 1.0, 0, 1e9, NULL, 0},
    {"epochs", INT, AT(epochs), 3, 1, 100000, NULL, 0},
    {"max_steps", OPTIONAL_INT, AT(max_steps), 0, 1, 1e9, NULL, 0},
    {"batch_size", INT, AT(batch_size), 4, 1, 4096, NULL, 0},
    {"gradient_accumulation_steps", INT, AT(gradient_accumulation_steps), 1, 1, 4096, NULL, 0},
    {"max_seq_length", INT, AT(max_seq_length), 512, 8, 1048576, NULL, 0},
    {"mask_prompt", BOOL, AT(mask_prompt), 1, 0, 0, NULL, 0},
    {"packing", BOOL, AT(packing), 1, 0, 0, NULL, 0},
    {"seed", INT, AT(seed), 42, -9.3e18, 9.3e18, NULL, 0},
    {"val_fraction", REAL, AT(val_fraction), 0.05, 0, 0.5, NULL, 0},
    {"val_dataset_id", UUID, AT(val_dataset_id), 0, 0, 0, NULL, UUID_BYTES},
    {"eval_every", OPTIONAL_INT, AT(eval_every), 0, 1, 1e9, NULL, 0},
    {"early_stopping_patience", OPTIONAL_INT, AT(early_stopping_patience), 0, 1, 1e6, NULL, 0},
    {"publish", ENUM, AT(publish), TRAIN_PUBLISH_BEST, 0, 0, publishes, 0},
    {"checkpoint_every", INT, AT(checkpoint_every), 100, 1, 1e9, NULL, 0},
    {"checkpoints_kept", INT, AT(checkpoints_kept), 2, 1, 100, NULL, 0},
    {"log_every", INT, AT(log_every), 10, 1, 1e6, NULL, 0},
    {"cooldown_seconds", REAL, AT(cooldown_seconds), 0, 0, 3600, NULL, 0},
};
enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

double train_config_scale(const struct train_config *config)
{
    const double rank = (double)config->lora_rank;

    return config->use_rslora ? config->lora_alpha / sqrt(rank) : config->lora_alpha / rank;
}

const char *train_target_name(int bit)
{
    return bit >= 0 && bit < TRAIN_TARGET_COUNT ? targets[bit] : NULL;
}

const char *train_quantization_name(enum train_quantization quantization)
{
    return quantizations[quantization];
}

const char *train_schedule_name(enum train_schedule schedule)
{
    return schedules[schedule];
}

/* The enums of the struct are ints to the table: C gives an enum without negative values the size
 * of int on every compiler that we build with, and this says so where it would not. */
_Static_assert(sizeof(enum train_quantization) == sizeof(int), "enum is an int");
_Static_assert(sizeof(enum train_schedule) == sizeof(int), "enum is an int");
_Static_assert(sizeof(enum train_publish) == sizeof(int), "enum is an int");

static void *member(struct train_config *config, const struct field *field)
{
    return (char *)config + field->offset;
}

static void set_default(struct train_config *config, const struct field *field)
{
    void *at = member(config, field);

    switch (field->kind) {
    case INT:
    case OPTIONAL_INT:
        *(int64_t *)at = (int64_t)field->fallback;
        break;
    case REAL:
        *(double *)at = field->fallback;
        break;
    case BOOL:
        *(bool *)at = field->fallback != 0;
        break;
    case ENUM:
        *(int *)at = (int)field->fallback;
        break;
    case TARGETS:
        *(unsigned *)at = (unsigned)field->fallback;
        break;
    case TEXT:
    case UUID:
        memset(at, 0, field->text_bytes);
        break;
    }
}

void train_config_defaults(struct train_config *config)
{
    memset(config, 0, sizeof *config);
    for (int i = 0; i < FIELD_COUNT; i++)
        set_default(config, &fields[i]);
}

static int bad_range(const struct field *field, struct err *err)
{
    char low[32], high[32];

    json_format_real(field->min, low);
    json_format_real(field->max, high);
    return err_set(err, ERR_UNPROCESSABLE, "config.%s must be between %s and %s%s", field->name,
                   low, high, field->kind == OPTIONAL_INT ? ", or null" : "");
}

static int bad_enum(const char *name, const char *const *names, const char *extra, struct err *err)
{
    char list[160] = "";
    size_t used = 0;

    for (size_t i = 0; names[i]; i++) {
        int n = snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);

        if (n < 0 || (size_t)n >= sizeof list - used)
            break;
        used += (size_t)n;
    }
    return err_set(err, ERR_UNPROCESSABLE, "config.%s must be one of %s%s", name, list, extra);
}

static int index_of(const char *const *names, const char *text)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], text) == 0)
            return i;
    return -1;
}

static int parse_int(struct train_config *config, const struct field *field, const json_t *json,
                     struct err *err)
{
    int64_t value = 0;
    int rc = json_get_int(json, field->name, 0, &value, err);

    if (rc < 0)
        return rc;
    if ((double)value < field->min || (double)value > field->max)
        return bad_range(field, err);
    *(int64_t *)member(config, field) = value;
    return 0;
}

static int parse_real(struct train_config *config, const struct field *field, const json_t *json,
                      struct err *err)
{
    double value = 0;
    int rc = json_get_real(json, field->name, 0, &value, err);

    if (rc < 0)
        return rc;
    if (!(value >= field->min && value <= field->max))
        return bad_range(field, err);
    *(double *)member(config, field) = value;
    return 0;
}

static int parse_enum(struct train_config *config, const struct field *field, const json_t *json,
                      struct err *err)
{
    const char *text = NULL;
    int rc = json_get_string(json, field->name, "", &text, err);

    if (rc < 0)
        return rc;
    int found = index_of(field->names, text);
    if (found < 0)
        return bad_enum(field->name, field->names, "", err);
    *(int *)member(config, field) = found;
    return 0;
}

static int parse_text(struct train_config *config, const struct field *field, const json_t *json,
                      struct err *err)
{
    const char *text = NULL;
    int rc = json_get_string(json, field->name, "", &text, err);

    if (rc < 0)
        return rc;
    if (field->kind == UUID && *text && !uuid_valid(text))
        return err_set(err, ERR_UNPROCESSABLE, "config.%s must be a UUID", field->name);
    if (strlen(text) >= field->text_bytes)
        return err_set(err, ERR_UNPROCESSABLE, "config.%s is longer than %zu bytes", field->name,
                       field->text_bytes - 1);
    memcpy(member(config, field), text, strlen(text) + 1);
    return 0;
}

static int parse_targets(struct train_config *config, const json_t *value, struct err *err)
{
    unsigned bits = 0;
    size_t i;
    json_t *item;

    if (json_is_string(value) && strcmp(json_string_value(value), "all-linear") == 0) {
        config->lora_targets = TRAIN_ALL_LINEAR;
        return 0;
    }
    if (!json_is_array(value))
        return err_set(err, ERR_UNPROCESSABLE,
                       "config.lora_targets must be a list of layer names or \"all-linear\"");
    json_array_foreach((json_t *)value, i, item)
    {
        int bit = json_is_string(item) ? index_of(targets, json_string_value(item)) : -1;

        if (bit < 0)
            return bad_enum("lora_targets", targets, ", or \"all-linear\" instead of a list", err);
        bits |= 1u << bit;
    }
    if (bits == 0)
        return err_set(err, ERR_UNPROCESSABLE, "config.lora_targets must name at least one layer");
    config->lora_targets = bits;
    return 0;
}

static int parse_field(struct train_config *config, const struct field *field, const json_t *json,
                       struct err *err)
{
    const json_t *value = json_object_get(json, field->name);
    int rc = 0;

    if (!value || json_is_null(value))
        return 0;
    switch (field->kind) {
    case INT:
    case OPTIONAL_INT:
        rc = parse_int(config, field, json, err);
        break;
    case REAL:
        rc = parse_real(config, field, json, err);
        break;
    case BOOL:
        rc = json_get_bool(json, field->name, false, member(config, field), err);
        break;
    case ENUM:
        rc = parse_enum(config, field, json, err);
        break;
    case TARGETS:
        rc = parse_targets(config, value, err);
        break;
    case TEXT:
    case UUID:
        rc = parse_text(config, field, json, err);
        break;
    }
    return rc;
}

static int check_keys(const json_t *json, struct err *err)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)json, key, value)
    {
        bool known = false;

        for (int i = 0; i < FIELD_COUNT && !known; i++)
            known = strcmp(fields[i].name, key) == 0;
        if (!known)
            return err_set(err, ERR_UNPROCESSABLE, "Unknown config key '%.200s'", key);
    }
    return 0;
}

int train_config_parse(struct train_config *config, const json_t *json, struct err *err)
{
    train_config_defaults(config);
    if (!json || json_is_null(json))
        return 0;
    if (!json_is_object(json))
        return err_set(err, ERR_UNPROCESSABLE, "config must be an object");
    int rc = check_keys(json, err);
    for (int i = 0; i < FIELD_COUNT && rc == 0; i++)
        rc = parse_field(config, &fields[i], json, err);
    if (rc == 0 && config->num_layers == 0)
        rc = err_set(err, ERR_UNPROCESSABLE, "config.num_layers must be -1 (all) or at least 1");
    return rc;
}

int train_config_parse_stored(struct train_config *config, const json_t *json, struct err *err)
{
    const int rc = train_config_parse(config, json, err);

    if (rc == 0 && json_object_get(json, "publish") == NULL && config->early_stopping_patience == 0)
        config->publish = TRAIN_PUBLISH_LAST;
    return rc;
}

int train_config_parse_text(struct train_config *config, const char *text, struct err *err)
{
    json_t *json = json_parse(text, strlen(text), err);
    int rc = json ? train_config_parse_stored(config, json, err)
                  : err_set(err, ERR_UNPROCESSABLE, "json");

    json_decref(json);
    return rc;
}

static void write_targets(const struct train_config *config, struct json_out *out)
{
    if (config->lora_targets == TRAIN_ALL_LINEAR) {
        json_out_kv_string(out, "lora_targets", "all-linear");
        return;
    }
    json_out_key(out, "lora_targets");
    json_out_array(out);
    for (int bit = 0; bit < TRAIN_TARGET_COUNT; bit++)
        if (config->lora_targets & (1u << bit))
            json_out_string(out, targets[bit]);
    json_out_array_end(out);
}

static void write_field(const struct train_config *config, const struct field *field,
                        struct json_out *out)
{
    const void *at = (const char *)config + field->offset;

    switch (field->kind) {
    case OPTIONAL_INT:
        if (*(const int64_t *)at == 0) {
            json_out_kv_null(out, field->name);
            break;
        }
        json_out_kv_int(out, field->name, *(const int64_t *)at);
        break;
    case INT:
        json_out_kv_int(out, field->name, *(const int64_t *)at);
        break;
    case REAL:
        json_out_kv_real(out, field->name, *(const double *)at);
        break;
    case BOOL:
        json_out_kv_bool(out, field->name, *(const bool *)at);
        break;
    case ENUM:
        json_out_kv_string(out, field->name, field->names[*(const int *)at]);
        break;
    case TARGETS:
        write_targets(config, out);
        break;
    case TEXT:
    case UUID:
        json_out_kv_string(out, field->name, *(const char *)at ? (const char *)at : NULL);
        break;
    }
}

void train_config_write(const struct train_config *config, struct json_out *out)
{
    json_out_object(out);
    for (int i = 0; i < FIELD_COUNT; i++)
        write_field(config, &fields[i], out);
    json_out_object_end(out);
}

static int64_t at_least_one(int64_t value)
{
    return value < 1 ? 1 : value;
}

void train_config_plan(const struct train_config *config, int64_t rows, struct train_plan *plan)
{
    int64_t rows_per_step = config->batch_size * config->gradient_accumulation_steps;

    memset(plan, 0, sizeof *plan);
    if (!config->val_dataset_id[0] && config->val_fraction > 0 && rows >= TRAIN_ROWS_FOR_VALIDATION)
        plan->val_rows = at_least_one((int64_t)floor((double)rows * config->val_fraction));
    plan->train_rows = rows - plan->val_rows;
    plan->steps_per_epoch = at_least_one((plan->train_rows + rows_per_step - 1) / rows_per_step);
    plan->steps = plan->steps_per_epoch * config->epochs;
    if (config->max_steps > 0)
        plan->steps = config->max_steps;
    plan->warmup_steps = config->warmup_steps;
    if (plan->warmup_steps > plan->steps / TRAIN_WARMUP_SHARE)
        plan->warmup_steps = plan->steps / TRAIN_WARMUP_SHARE;
    plan->eval_every = config->eval_every > 0 ? config->eval_every : plan->steps_per_epoch;
}

bool train_config_warning(const struct train_config *config, const struct train_plan *plan,
                          char *out, size_t out_bytes)
{
    char rate[32];

    if ((double)plan->steps * config->learning_rate >= TRAVEL_MIN)
        return false;
    json_format_real(config->learning_rate, rate);
    snprintf(out, out_bytes,
             "%lld steps at a learning rate of %s will hardly change the model: raise epochs, "
             "max_steps or learning_rate",
             (long long)plan->steps, rate);
    return true;
}
