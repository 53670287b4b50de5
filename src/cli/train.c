/* mlx-hub train: submit a training job and follow it.
 *
 * Every key of a job's config is an option; which type a value has is read from the config's own
 * defaults, so this file knows names and help only. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/hub.h"
#include "cli/lookup.h"
#include "cli/print.h"
#include "formats/train_config.h"

enum { CONFIG_BYTES_MAX = 1 << 20 };

static const struct option_info options[] = {
    {"dataset", "DATASET", "what to learn: a name or id that mlx-hub dataset list shows"},
    {"config", "FILE", "a JSON object with any of the keys below; options win over it"},
    {"detach", NULL, "do not follow: submit and return"},
    {"lora-rank", "N", "rank of the factors (16)"},
    {"lora-alpha", "X", "their scale is alpha / rank (32)"},
    {"lora-dropout", "P", "dropout on the adapter's input (0)"},
    {"use-rslora", "BOOL", "scale by alpha / sqrt(rank) (false)"},
    {"lora-targets", "LIST", "q_proj,k_proj,v_proj,o_proj (default), or all-linear"},
    {"num-layers", "N", "the last N blocks, -1 = all (-1)"},
    {"init-from", "VERSION", "go on from this version's adapter (of a model: its newest)"},
    {"quantization", "Q", "of the frozen base: loaded (as it is), 4bit, 8bit (QLoRA), none"},
    {"learning-rate", "X", "(5e-5)"},
    {"weight-decay", "X", "(0.01)"},
    {"lr-schedule", "S", "constant, linear or cosine (linear)"},
    {"warmup-steps", "N", "at most a tenth of the run (100)"},
    {"max-grad-norm", "X", "clip gradients to this norm, 0 = never (1)"},
    {"epochs", "N", "(3)"},
    {"max-steps", "N", "stop after so many steps, whatever the epochs"},
    {"batch-size", "N", "rows of a step (4)"},
    {"gradient-accumulation-steps", "N", "micro-steps of a step (1)"},
    {"max-seq-length", "N", "tokens of a row, longer ones are cut (512)"},
    {"mask-prompt", "BOOL", "learn the answers only (true)"},
    {"packing", "BOOL", "pack short rows together (true)"},
    {"seed", "N", "(42)"},
    {"val-fraction", "X", "rows held out to validate on (0.05)"},
    {"val-dataset-id", "DATASET", "validate on this dataset instead"},
    {"eval-every", "N", "steps between validations (once an epoch)"},
    {"early-stopping-patience", "N", "stop after N validations without gain (never)"},
    {"publish", "WHICH", "best (default): what validated best, if anything did; or last"},
    {"checkpoint-every", "N", "steps between checkpoints (100)"},
    {"checkpoints-kept", "N", "(2)"},
    {"log-every", "N", "(10)"},
    {"cooldown-seconds", "X", "pause between epochs, for machines that throttle (0)"},
};

/* --- config from options ------------------------------------------------------------------------
 */

static json_t *list_of(const char *text)
{
    json_t *list = json_array();
    while (*text != '\0') {
        const size_t n = strcspn(text, ",");
        (void)json_array_append_new(list, json_stringn(text, n));
        text += n + (text[n] == ',');
    }
    return list;
}

/* The value of a key whose default is `like`; a text that does not fit goes as text, and the hub
 * says what is wrong with it. */
static json_t *value_of(const json_t *like, const char *text)
{
    if (json_is_array(like) && strcmp(text, "all-linear") != 0) {
        return list_of(text);
    }
    if (json_is_string(like) || json_is_array(like)) {
        return json_string(text);
    }
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
        return json_boolean(text[0] == 't');
    }
    json_t *value = json_parse(text, strlen(text), NULL);
    if (value == NULL || !(json_is_number(value) || json_is_null(value))) {
        json_decref(value);
        value = json_string(text);
    }
    return value;
}

static json_t *default_config(struct err *err)
{
    struct train_config config;
    struct buf buf;
    struct json_out out;
    json_t *tree = NULL;
    buf_init(&buf, CONFIG_BYTES_MAX);
    json_out_init(&out, &buf);
    train_config_defaults(&config);
    train_config_write(&config, &out);
    if (buf_check(&buf, "the config", err) == 0) {
        tree = json_parse(buf.data, buf.len, err);
    }
    buf_release(&buf);
    return tree;
}

static int add_options(const struct args *args, json_t *config, struct err *err)
{
    const char *key;
    json_t *like;
    json_t *defaults = default_config(err);
    int rc = defaults != NULL ? 0 : -(int)err->code;
    json_object_foreach(defaults, key, like)
    {
        const char *text = args_get(args, key);
        if (rc == 0 && text != NULL &&
            json_object_set_new(config, key, value_of(like, text)) != 0) {
            rc = err_set(err, ERR_INVALID, "--%s is not UTF-8", key);
        }
    }
    json_decref(defaults);
    return rc;
}

/* The file's keys, the options' over them; checked here, so that a typo needs no hub. */
static int make_config(const struct args *args, json_t **config, struct err *err)
{
    const char *file = args_get(args, "config");
    *config = file != NULL ? json_parse_file(file, CONFIG_BYTES_MAX, err) : json_object();
    if (*config == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    return json_is_object(*config) ? add_options(args, *config, err)
                                   : err_set(err, ERR_INVALID, "%s: expected a JSON object", file);
}

/* A dataset to validate on may be a name still, which only the hub can turn into an id. */
static int check_config(const json_t *config, struct err *err)
{
    struct train_config parsed;
    json_t *copy = json_copy((json_t *)config);
    if (copy == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    if (json_is_string(json_object_get(copy, "val_dataset_id"))) {
        (void)json_object_del(copy, "val_dataset_id");
    }
    const int rc = train_config_parse(&parsed, copy, err);
    json_decref(copy);
    return rc;
}

/* val_dataset_id and init_from by the names that every command takes. */
static int resolve_names(struct remote *r, json_t *config, struct err *err)
{
    static const char *const keys[] = {"val_dataset_id", "init_from"};
    int rc = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && rc == 0; i++) {
        const char *name = json_string_value(json_object_get(config, keys[i]));
        json_t *row = NULL;
        if (name == NULL || uuid_valid(name)) {
            continue;
        }
        rc = i == 0 ? lookup_dataset(r, name, &row, err) : lookup_latest(r, name, NULL, &row, err);
        if (rc == 0 &&
            json_object_set_new(config, keys[i], json_string(row_text(row, "id"))) != 0) {
            rc = err_set(err, ERR_NOMEM, "out of memory");
        }
        json_decref(row);
    }
    return rc;
}

/* --- the command --------------------------------------------------------------------------------
 */

static int find_model_row(struct remote *r, const char *name, json_t **row, struct err *err)
{
    struct err missing = {0};
    const int rc = lookup_model(r, name, row, &missing);
    if (rc == -ERR_NOT_FOUND) {
        return err_set(err, ERR_NOT_FOUND,
                       "there is no model '%s'; make one: mlx-hub model create \"%s\" --base ID",
                       name, name);
    }
    return rc == 0 ? 0 : err_set(err, missing.code, "%s", missing.message);
}

static int submit(const struct args *args, struct hub *hub, json_t *config, json_t **job,
                  struct err *err)
{
    json_t *model = NULL;
    json_t *dataset = NULL;
    json_t *body = NULL;
    int rc = find_model_row(&hub->remote, args->positional[0], &model, err);
    rc = rc == 0 ? lookup_dataset(&hub->remote, args_get(args, "dataset"), &dataset, err) : rc;
    rc = rc == 0 ? resolve_names(&hub->remote, config, err) : rc;
    if (rc == 0) {
        body = json_pack("{s:s, s:s, s:O}", "model_id", row_text(model, "id"), "dataset_id",
                         row_text(dataset, "id"), "config", config);
        rc = body != NULL ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    }
    rc = rc == 0 ? remote_call(&hub->remote, "POST", "/training/jobs", body, job, err) : rc;
    if (rc == 0 && hub->remote.warning[0] != '\0') {
        fprintf(stderr, "warning: %s\n", hub->remote.warning);
    }
    json_decref(body);
    json_decref(model);
    json_decref(dataset);
    return rc;
}

static int report_detached(const struct args *args, const struct hub *hub, const json_t *job,
                           struct err *err)
{
    const char *id = row_text(job, "id");
    if (args->json) {
        return print_tree(job, err);
    }
    printf("job %s is queued\n", id);
    if (hub_is_remote(hub)) {
        printf("next: mlx-hub job follow %.8s\n", id);
    } else {
        printf("no server is running; next: mlx-hub serve, or mlx-hub job follow %.8s\n", id);
    }
    return EXIT_DONE;
}

static int run(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *config = NULL;
    json_t *job = NULL;
    const bool detach = args_get(args, "detach") != NULL;
    int status = EXIT_FAILED;
    if (args_get(args, "dataset") == NULL) {
        (void)err_set(err, ERR_INVALID,
                      "--dataset DATASET is needed; mlx-hub dataset list shows them");
        return EXIT_USAGE;
    }
    int rc = make_config(args, &config, err);
    rc = rc == 0 ? check_config(config, err) : rc;
    if (rc == -ERR_UNPROCESSABLE) {
        json_decref(config);
        return EXIT_USAGE;
    }
    rc = rc == 0 ? hub_open(&hub, args, !detach, err) : rc;
    rc = rc == 0 ? submit(args, &hub, config, &job, err) : rc;
    if (rc == 0 && detach) {
        status = report_detached(args, &hub, job, err);
    } else if (rc == 0) {
        if (!args->json) {
            fprintf(stderr, "job %s\n", row_text(job, "id"));
        }
        status = follow_and_report(args, &hub, row_text(job, "id"), err);
    }
    hub_close(&hub);
    json_decref(config);
    json_decref(job);
    return status;
}

const struct command command_train = {
    .name = "train",
    .summary = "Fine-tune a registered model on a dataset (LoRA)",
    .usage = "MODEL --dataset DATASET [--config FILE] [--KEY VALUE …]",
    .examples = "  mlx-hub train facts --dataset facts\n"
                "  mlx-hub train facts --dataset facts --learning-rate 1e-3 --epochs 4 "
                "--batch-size 8\n"
                "  mlx-hub train facts --dataset facts --config config.json --detach\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .positional_min = 1,
    .positional_max = 1,
    .run = run,
};
