/* The processes that the hub starts for itself: runner, inspect, train-inspect. And worker, which
 * people may start, too. */
#include <stdio.h>

#include "base/proc.h"
#include "cli/commands.h"
#include "infer/inspect.h"
#include "infer/runner.h"
#include "train/check.h"
#include "worker/worker.h"

static int run_runner(const struct args *args, struct err *err)
{
    (void)args;
    (void)err;
    return runner_main(PROC_CONTROL_FD);
}

const struct command command_runner = {
    .name = "runner",
    .summary = "Hold one model and answer the hub (started by the hub)",
    .usage = "",
    .examples = "  started by mlx-hub serve, never by hand\n",
    .hidden = true,
    .logs = true,
    .run = run_runner,
};

static int run_inspect(const struct args *args, struct err *err)
{
    (void)args;
    (void)err;
    return inspect_main(PROC_CONTROL_FD);
}

const struct command command_inspect = {
    .name = "inspect",
    .summary = "Read a model's files within limits (started by the hub)",
    .usage = "",
    .examples = "  started by mlx-hub serve, never by hand\n",
    .hidden = true,
    .logs = true,
    .run = run_inspect,
};

static int run_train_inspect(const struct args *args, struct err *err)
{
    (void)args;
    (void)err;
    return train_inspect_main(PROC_CONTROL_FD);
}

const struct command command_train_inspect = {
    .name = "train-inspect",
    .summary = "Read datasets and headers of weights within limits (started by the hub)",
    .usage = "",
    .examples = "  started by mlx-hub serve, never by hand\n",
    .hidden = true,
    .logs = true,
    .run = run_train_inspect,
};

static const struct option_info worker_options[] = {
    {"child", NULL, "for serve: answer on its control socket"},
    {"once", NULL, "end when the queue is empty"},
    {"pulls", NULL, "for serve: take pulls and nothing else"},
};

static int run_worker(const struct args *args, struct err *err)
{
    const struct worker_options options = {.is_child = args_get(args, "child") != NULL,
                                           .once = args_get(args, "once") != NULL,
                                           .pulls = args_get(args, "pulls") != NULL};
    int n_jobs = 0;
    if (worker_run(&args->settings, &options, &n_jobs, err) != 0) {
        return EXIT_FAILED;
    }
    if (args->json) {
        printf("{\"jobs\":%d}\n", n_jobs);
    }
    return EXIT_DONE;
}

const struct command command_worker = {
    .name = "worker",
    .summary = "Take training jobs from the queue and run them",
    .usage = "[--once]",
    .examples = "  mlx-hub worker --once        train what is queued, then end\n",
    .options = worker_options,
    .n_options = sizeof worker_options / sizeof worker_options[0],
    .logs = true,
    .run = run_worker,
};
