/* mlx-hub quantize: a base in 4 or 8 bits, as a base of its own. A job of the hub does the work. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/hub.h"
#include "cli/lookup.h"
#include "cli/print.h"

enum { PATH_BYTES = 1200 };

static const struct option_info options[] = {
    {"bits", "BITS", "4 or 8 (4)"},
    {"group-size", "N",
     "32, 64 or 128 weights share a scale (32 where the base has blocks of 32, "
     "else 64)"},
    {"as", "ID", "what the new base is called"},
};

static void print_result(const json_t *result)
{
    char bytes[32];
    format_bytes(row_real(result, "bytes", 0.0), bytes);
    printf("quantised %s as %s, %s: ", row_text(result, "base"), row_text(result, "as"), bytes);
    if (json_is_true(json_object_get(result, "lossless"))) {
        printf("lossless\n");
    } else {
        printf("%lld tensors quantised, %lld quantised again, %lld rounded, %lld as before\n",
               (long long)row_int(result, "quantised"), (long long)row_int(result, "requantised"),
               (long long)row_int(result, "rounded"), (long long)row_int(result, "exact"));
    }
    printf("log-probabilities differ from the base's by %.2g on average\nnext: mlx-hub chat %s\n",
           row_real(result, "mean_difference", 0.0), row_text(result, "as"));
}

static int report(const struct args *args, const json_t *job, struct err *err)
{
    const json_t *result = json_object_get(job, "result");
    if (strcmp(row_text(job, "status"), "completed") != 0) {
        (void)err_set(
            err, ERR_INVALID, "job %.8s %s%s%s", row_text(job, "id"), row_text(job, "status"),
            row_text(job, "error_message")[0] != '\0' ? ": " : "", row_text(job, "error_message"));
        return EXIT_FAILED;
    }
    if (args->json) {
        return print_tree(result, err);
    }
    print_result(result);
    return EXIT_DONE;
}

static int queue(struct hub *hub, const struct args *args, long bits, long group, json_t **job,
                 struct err *err)
{
    char path[PATH_BYTES];
    json_t *body = json_pack("{s:s, s:i}", "as", args_get(args, "as"), "bits", (int)bits);
    if (body == NULL ||
        (group > 0 && json_object_set_new(body, "group_size", json_integer(group)) != 0)) {
        json_decref(body);
        return err_set(err, ERR_INVALID, "the id is not UTF-8");
    }
    snprintf(path, sizeof path, "/base-models/%s/quantize", args->positional[0]);
    const int rc = remote_call(&hub->remote, "POST", path, body, job, err);
    json_decref(body);
    return rc;
}

static int run(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *queued = NULL, *job = NULL;
    long bits = 4, group = 0;
    int status = EXIT_FAILED;
    if (args_get(args, "as") == NULL) {
        (void)err_set(err, ERR_INVALID, "say what the new base is called: --as ID");
        return EXIT_USAGE;
    }
    if (args_get_int(args, "bits", 4, &bits, err) != 0 ||
        args_get_int(args, "group-size", 0, &group, err) != 0) {
        return EXIT_USAGE;
    }
    if ((bits != 4 && bits != 8) || (group != 0 && group != 32 && group != 64 && group != 128)) {
        (void)err_set(err, ERR_INVALID, "--bits takes 4 or 8, --group-size 32, 64 or 128");
        return EXIT_USAGE;
    }
    int rc = hub_open(&hub, args, true, err);
    rc = rc == 0 ? queue(&hub, args, bits, group, &queued, err) : rc;
    if (rc == 0 &&
        (rc = follow_or_cancel(&hub, row_text(queued, "id"), args->json, &job, err)) == 0) {
        status = report(args, job, err);
    } else if (rc == -ERR_CANCELLED) {
        status = EXIT_INTERRUPTED;
    }
    json_decref(job);
    json_decref(queued);
    hub_close(&hub);
    return status;
}

const struct command command_quantize = {
    .name = "quantize",
    .summary = "Write a base in 4 or 8 bits, as a base of its own",
    .usage = "BASE --as ID [--bits 4|8] [--group-size 32|64|128]",
    .examples = "  mlx-hub quantize org/base --as org/base-4bit\n"
                "  mlx-hub quantize org/base --bits 8 --group-size 32 --as org/base-8bit\n"
                "to a folder for mlx-lm instead:\n"
                "  mlx-hub export org/base --format mlx --bits 4 --out ./base-4bit\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .positional_min = 1,
    .positional_max = 1,
    .run = run,
};
