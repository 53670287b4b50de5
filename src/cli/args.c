/* Options may stand anywhere; "--" ends them; "--name=value" and "--name value" are the same. A
 * name that is not the command's own is looked up among the settings. */
#include "cli/command.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct parser {
    struct args *args;
    const char *names[ARGS_MAX], *values[ARGS_MAX]; /* settings given as flags */
    size_t n_settings;
};

static int option_row(const struct command *command, const char *name)
{
    for (int i = 0; i < command->n_options; i++) {
        if (strcmp(command->options[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static int put_option(struct parser *p, char *name, const char *value, bool *took_next,
                      const char *next, struct err *err)
{
    struct args *args = p->args;
    const int row = option_row(args->command, name);
    if (strcmp(name, "json") == 0 && row < 0) {
        args->json = true;
        return 0;
    }
    const bool takes = row < 0 || args->command->options[row].value != NULL;
    if (row < 0 && setting_find(name) < 0) {
        return err_set(err, ERR_INVALID, "there is no option --%s; see mlx-hub %s --help", name,
                       args->command->name);
    }
    if (!takes && value != NULL) {
        return err_set(err, ERR_INVALID, "--%s takes no value", name);
    }
    if (takes && value == NULL) {
        value = next;
        *took_next = true;
    }
    if (takes && value == NULL) {
        return err_set(err, ERR_INVALID, "--%s needs a value", name);
    }
    if (row >= 0) {
        args->values[row] = takes ? value : "";
        return 0;
    }
    if (p->n_settings == ARGS_MAX) {
        return err_set(err, ERR_INVALID, "too many settings");
    }
    p->names[p->n_settings] = name;
    p->values[p->n_settings++] = value;
    return 0;
}

static int put_positional(struct args *args, const char *text, struct err *err)
{
    if (args->n_positional == args->command->positional_max) {
        return err_set(err, ERR_INVALID, "'%s' is one argument too many; see mlx-hub %s --help",
                       text, args->command->name);
    }
    args->positional[args->n_positional++] = text;
    return 0;
}

int args_parse(struct args *args, const struct command *command, int argc, char **argv,
               struct err *err)
{
    struct parser p = {.args = args};
    bool options = true;
    args->command = command;
    for (int i = 0; i < argc; i++) {
        char *text = argv[i];
        int rc;
        if (options && strcmp(text, "--") == 0) {
            options = false;
            continue;
        }
        if (options && strncmp(text, "--", 2) == 0) {
            char *equals = strchr(text, '=');
            bool took_next = false;
            if (equals != NULL) {
                *equals = '\0';
            }
            rc = put_option(&p, text + 2, equals != NULL ? equals + 1 : NULL, &took_next,
                            i + 1 < argc ? argv[i + 1] : NULL, err);
            i += took_next;
        } else {
            rc = put_positional(args, text, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    if (args->n_positional < command->positional_min) {
        return err_set(err, ERR_INVALID, "too few arguments: mlx-hub %s %s", command->name,
                       command->usage);
    }
    return settings_load(&args->settings, p.names, p.values, p.n_settings, err);
}

const char *args_get(const struct args *args, const char *name)
{
    const int row = option_row(args->command, name);
    assert(row >= 0);
    return args->values[row];
}

int args_get_int(const struct args *args, const char *name, long fallback, long *out,
                 struct err *err)
{
    const char *text = args_get(args, name);
    char *end;
    *out = fallback;
    if (text == NULL) {
        return 0;
    }
    errno = 0;
    *out = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0) {
        return err_set(err, ERR_INVALID, "--%s is '%s', which is no whole number", name, text);
    }
    return 0;
}

int args_get_real(const struct args *args, const char *name, double fallback, double *out,
                  struct err *err)
{
    const char *text = args_get(args, name);
    char *end;
    *out = fallback;
    if (text == NULL) {
        return 0;
    }
    errno = 0;
    *out = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0) {
        return err_set(err, ERR_INVALID, "--%s is '%s', which is no number", name, text);
    }
    return 0;
}
