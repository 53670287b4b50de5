/* From argv to a command's exit status. */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/command.h"
#include "cli/interrupt.h"

static void print_commands(FILE *out)
{
    size_t n;
    const struct command *const *all = commands(&n);
    fputs("mlx-hub: fine-tune, keep and serve language models on your own machine\n\n"
          "usage: mlx-hub COMMAND [ARGUMENTS] [--OPTION VALUE …]\n\n",
          out);
    for (size_t i = 0; i < n; i++) {
        if (!all[i]->hidden) {
            fprintf(out, "  %-10s %s\n", all[i]->name, all[i]->summary);
        }
    }
    fputs(
        "\nmlx-hub COMMAND --help tells more. Every setting (mlx-hub config) is an option, too.\n",
        out);
}

static void print_help(const struct command *c)
{
    printf("%s\n\n", c->summary);
    if (c->n_actions == 0) {
        printf("usage: mlx-hub %s %s\n", c->name, c->usage);
    }
    for (int i = 0; i < c->n_actions; i++) {
        printf("%s mlx-hub %s %s %s\n            %s\n", i == 0 ? "usage:" : "      ", c->name,
               c->actions[i].name, c->actions[i].usage, c->actions[i].summary);
    }
    if (c->n_options > 0) {
        printf("\noptions:\n");
    }
    for (int i = 0; i < c->n_options; i++) {
        char name[64];
        snprintf(name, sizeof name, "--%s %s", c->options[i].name,
                 c->options[i].value != NULL ? c->options[i].value : "");
        printf("  %-32s %s\n", name, c->options[i].help);
    }
    printf("%s  %-32s %s\n", c->n_options > 0 ? "" : "\noptions:\n", "--json",
           "print the result as JSON");
    printf("\nexamples:\n%s", c->examples);
}

static const struct command *find_command(const char *name)
{
    size_t n;
    const struct command *const *all = commands(&n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(all[i]->name, name) == 0) {
            return all[i];
        }
    }
    return NULL;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            return false;
        }
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

/* People who ran a command want its result; what goes on inside is for a server's log, unless asked
 * for. Children read the level from the environment. */
static int open_log(struct args *args, struct err *err)
{
    const enum setting_source source = args->settings.source[setting_find("log-level")];
    if (!args->command->logs && source == SETTING_DEFAULT && !args->settings.debug) {
        snprintf(args->settings.log_level, sizeof args->settings.log_level, "WARNING");
        if (setenv("MLX_HUB_LOG_LEVEL", "WARNING", 1) != 0) {
            return err_set(err, ERR_NOMEM, "out of memory");
        }
    }
    return log_init(args->settings.log_level, args->settings.log_json, err);
}

static int run_command(const struct command *command, const char *program, int argc, char **argv)
{
    struct err err = {0};
    struct args *args = mem_calloc(1, sizeof *args); /* settings are too large for the stack */
    int status = EXIT_USAGE;
    if (args == NULL) {
        fputs("mlx-hub: out of memory\n", stderr);
        return EXIT_FAILED;
    }
    args->program = program;
    if (args_parse(args, command, argc, argv, &err) == 0 && fault_from_env(&err) == 0 &&
        open_log(args, &err) == 0) {
        status = (args->action != NULL ? args->action->run : command->run)(args, &err);
    }
    if (err.code == ERR_CANCELLED && interrupted()) {
        status = EXIT_INTERRUPTED;
    } else if (err.code != ERR_NONE) {
        fprintf(stderr, "mlx-hub %s: %s\n", command->name, err.message);
        status = status == EXIT_DONE ? EXIT_FAILED : status;
    }
    if (fflush(stdout) != 0) {
        status = EXIT_FAILED;
    }
    mem_free(args);
    return status;
}

int cli_main(int argc, char **argv)
{
    setlocale(LC_CTYPE, ""); /* widths of characters on a terminal; numbers stay as they are */
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_commands(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_commands(stdout);
        return EXIT_DONE;
    }
    const struct command *command =
        find_command(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
    if (command == NULL) {
        fprintf(stderr, "mlx-hub: there is no command '%s'; mlx-hub --help lists them\n", argv[1]);
        return EXIT_USAGE;
    }
    if (asks_for_help(argc - 2, argv + 2)) {
        print_help(command);
        return EXIT_DONE;
    }
    return run_command(command, argv[0], argc - 2, argv + 2);
}
