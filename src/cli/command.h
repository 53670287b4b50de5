/* The command line: one row per command, one file per command.
 *
 * A command gets its arguments parsed against its own options plus the settings, which every
 * command takes as flags (--port 9000). It prints its result on stdout and everything else on
 * stderr, and returns an exit status: EXIT_DONE, EXIT_FAILED (it was tried and did not work),
 * EXIT_USAGE (it was asked wrongly). With --json the result is one JSON value.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/settings.h"

struct args;
struct command;

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

enum { ARGS_MAX = 64, OPTIONS_MAX = 64 };

/* An option of a command. value names what it takes ("FILE"), NULL for a switch. */
struct option_info {
    const char *name; /* without the dashes */
    const char *value;
    const char *help;
};

/* What a command does when it does several things: `mlx-hub COMMAND ACTION …`. */
struct action {
    const char *name;
    const char *usage;   /* "MODEL [--notes TEXT]" */
    const char *summary; /* one line for --help */
    const char *options; /* those of the command's options that it takes: "notes status" */
    int positional_min, positional_max;
    int (*run)(const struct args *args, struct err *err);
};

struct args {
    const struct command *command;
    const struct action *action; /* NULL when the command has none; its name is no positional */
    const char *program;         /* argv[0] */
    const char *positional[ARGS_MAX];
    int n_positional;
    const char
        *values[OPTIONS_MAX]; /* by row of the command's options; "" for a switch; NULL = absent */
    bool json;
    struct settings settings;
};

struct command {
    const char *name;
    const char *summary;  /* one line for the list of commands */
    const char *usage;    /* "MODEL [PROMPT]" */
    const char *examples; /* lines for --help */
    const struct option_info *options;
    int n_options;
    int positional_min, positional_max;
    bool hidden;                  /* for the program's own children */
    bool logs;                    /* logs as the settings say; else warnings only, unless asked */
    const struct action *actions; /* instead of run and the positional counts; or NULL */
    int n_actions;
    int (*run)(const struct args *args, struct err *err); /* EXIT_*; err is printed when set */
};

/* All commands, in the order of the list. */
const struct command *const *commands(size_t *n);

/* The value of option `name`, NULL when absent ("" for a switch that is there). Asserts that the
 * command has such an option. */
const char *args_get(const struct args *args, const char *name);
/* As a number; fallback when absent. ERR_INVALID naming the option. */
int args_get_int(const struct args *args, const char *name, long fallback, long *out,
                 struct err *err) MUST_CHECK;
int args_get_real(const struct args *args, const char *name, double fallback, double *out,
                  struct err *err) MUST_CHECK;

/* Parses argv[0..argc) against the command and loads the settings. ERR_INVALID says what is wrong.
 * Settings given as flags are put into the environment too, so that children have the same ones:
 * before any thread is started. */
int args_parse(struct args *args, const struct command *command, int argc, char **argv,
               struct err *err) MUST_CHECK;

/* The whole program but the process: finds the command, parses, runs, prints errors. */
int cli_main(int argc, char **argv);

#endif
