/* mlx-hub reproduce: train a version again from its manifest and compare the bytes. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/eval_dataset.h"
#include "cli/lookup.h"
#include "cli/print.h"

static void print_result(const char *version, const json_t *result)
{
    const bool pass = json_is_true(json_object_get(result, "pass"));
    const char *actual = row_text(result, "actual");
    size_t i;
    const json_t *line;
    printf("%s  %s\n", pass ? "PASS" : "FAIL", version);
    printf("expected  %s\n", row_text(result, "expected"));
    printf("actual    %s\n", actual[0] != '\0' ? actual : "(not trained again)");
    json_array_foreach(json_object_get(result, "differences"), i, line)
    {
        printf("differs   %s\n", json_string_value(line));
    }
}

static int run(const struct args *args, struct err *err)
{
    const char *version = args->positional[0];
    struct hub hub = {0};
    json_t *result = NULL;
    int status = EXIT_FAILED;
    int rc = hub_open(&hub, args, true, err);
    rc = rc == 0 ? version_task(&hub, version, "reproduce", NULL, args->json, &result, err) : rc;
    if (rc == 0) {
        status = EXIT_DONE;
        if (args->json) {
            status = print_tree(result, err);
        } else {
            print_result(version, result);
        }
        if (!json_is_true(json_object_get(result, "pass"))) {
            status = EXIT_FAILED;
        }
    }
    hub_close(&hub);
    json_decref(result);
    return status;
}

const struct command command_reproduce = {
    .name = "reproduce",
    .summary = "Train a version again from its manifest and compare the bytes",
    .usage = "VERSION        exit status 1 when anything differs",
    .examples = "  mlx-hub reproduce facts@1.0.0\n"
                "  mlx-hub reproduce facts:production --json\n",
    .positional_min = 1,
    .positional_max = 1,
    .run = run,
};
