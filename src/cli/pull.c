/* mlx-hub pull: fetch a model from a model hub. A job of the hub does the work. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/base.h"
#include "cli/commands.h"
#include "cli/follow.h"
#include "cli/hub.h"
#include "cli/lookup.h"
#include "cli/print.h"

enum { PATH_BYTES = 1200 };

static const struct option_info options[] = {
    {"as", "NAME", "what the hub calls it (org/name, as there)"},
    {"file", "GGUF", "the file to take, or a quantization like Q8_0, where there are several"},
    {"quantization", "BITS", "4bit, 8bit or none, as for import"},
};

static int print_pulled(struct hub *hub, const struct args *args, const json_t *result,
                        struct err *err)
{
    char path[PATH_BYTES];
    json_t *base = NULL;
    snprintf(path, sizeof path, "/base-models/%s", row_text(result, "as"));
    if (remote_call(&hub->remote, "GET", path, NULL, &base, err) != 0) {
        return EXIT_FAILED;
    }
    int status = EXIT_DONE;
    if (args->json) {
        status = print_tree(base, err);
    } else {
        print_base(base, json_is_true(json_object_get(result, "was_there")) ? "already there:"
                                                                            : "pulled");
    }
    json_decref(base);
    return status;
}

static int report(struct hub *hub, const struct args *args, const json_t *job, struct err *err)
{
    const char *status = row_text(job, "status");
    const char *why = row_text(job, "error_message");
    if (strcmp(status, "completed") == 0) {
        return print_pulled(hub, args, json_object_get(job, "result"), err);
    }
    (void)err_set(err, ERR_INVALID, "%s", why[0] != '\0' ? why : "the pull was cancelled");
    return EXIT_FAILED;
}

static int queue(struct hub *hub, const struct args *args, json_t **job, struct err *err)
{
    json_t *body =
        json_pack("{s:s, s:s?, s:s?, s:s?}", "id", args->positional[0], "as", args_get(args, "as"),
                  "file", args_get(args, "file"), "quantization", args_get(args, "quantization"));
    if (body == NULL) {
        return err_set(err, ERR_INVALID, "the id is not UTF-8");
    }
    const int rc = remote_call(&hub->remote, "POST", "/base-models/pull", body, job, err);
    json_decref(body);
    return rc;
}

static int run(const struct args *args, struct err *err)
{
    struct hub hub = {0};
    json_t *queued = NULL, *job = NULL;
    int status = EXIT_FAILED;
    int rc = hub_open(&hub, args, true, err);
    rc = rc == 0 ? queue(&hub, args, &queued, err) : rc;
    if (rc == 0 &&
        (rc = follow_or_cancel(&hub, row_text(queued, "id"), args->json, &job, err)) == 0) {
        status = report(&hub, args, job, err);
    } else if (rc == -ERR_CANCELLED) {
        fprintf(stderr, "\nstopped; what has come is kept: the same command goes on with it\n");
        status = EXIT_INTERRUPTED;
    }
    json_decref(job);
    json_decref(queued);
    hub_close(&hub);
    return status;
}

const struct command command_pull = {
    .name = "pull",
    .summary = "Fetch a model from Hugging Face, or the hub that HF_ENDPOINT names",
    .usage = "ID[@REVISION] [--as NAME] [--file GGUF]\n"
             "       ID: org/name; safetensors with their tokenizer, or one GGUF file. A pull that "
             "was\n"
             "       interrupted goes on where it stopped. HF_TOKEN opens gated models.",
    .examples = "  mlx-hub pull HuggingFaceTB/SmolLM2-135M-Instruct\n"
                "  mlx-hub pull bartowski/SmolLM2-1.7B-Instruct-GGUF --file Q8_0 --as smollm2\n"
                "  mlx-hub pull meta-llama/Llama-3.2-1B@main --quantization 4bit\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .positional_min = 1,
    .positional_max = 1,
    .run = run,
};
