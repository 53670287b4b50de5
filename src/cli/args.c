/* Options may stand anywhere; "--" ends them; "--name=value" and "--name value" are the same, and
 * so are "--some-name" and "--some_name". A name that is not the command's own is looked up among
 * the settings. Where a command has actions, the first word names one. */
#include "cli/command.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parser {
    struct args *args;
    const char *names[ARGS_MAX], *values[ARGS_MAX]; /* settings given as flags */
    size_t n_settings;
};

static bool same_name(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++) {
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b)) {
            return false;
        }
    }
    return *a == *b;
}

static int option_row(const struct command *command, const char *name)
{
    assert(command->n_options <= OPTIONS_MAX);
    for (int i = 0; i < command->n_options; i++) {
        if (same_name(command->options[i].name, name)) {
            return i;
        }
    }
    return -1;
}

/* Whether `word` is one of the words of a list that spaces part. */
static bool has_word(const char *list, const char *word)
{
    const size_t n = strlen(word);
    while (list != NULL && *list != '\0') {
        const size_t m = strcspn(list, " ");
        if (m == n && memcmp(list, word, n) == 0) {
            return true;
        }
        list += m + (list[m] == ' ');
    }
    return false;
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

static int put_action(struct args *args, const char *name, struct err *err)
{
    const struct command *c = args->command;
    char names[512] = "";
    size_t n = 0;
    for (int i = 0; i < c->n_actions; i++) {
        if (strcmp(c->actions[i].name, name) == 0) {
            args->action = &c->actions[i];
            return 0;
        }
        n += (size_t)snprintf(names + n, n < sizeof names ? sizeof names - n : 0, "%s%s",
                              i > 0 ? ", " : "", c->actions[i].name);
        n = n < sizeof names ? n : sizeof names - 1;
    }
    return err_set(err, ERR_INVALID, "%s%s%s one of: %s", name[0] != '\0' ? "'" : "", name,
                   name[0] != '\0' ? "' is not" : "say", names);
}

static int put_positional(struct args *args, const char *text, struct err *err)
{
    const struct command *c = args->command;
    if (c->actions != NULL && args->action == NULL) {
        return put_action(args, text, err);
    }
    if (args->n_positional ==
        (args->action != NULL ? args->action->positional_max : c->positional_max)) {
        return err_set(err, ERR_INVALID, "'%s' is one argument too many; see mlx-hub %s --help",
                       text, c->name);
    }
    args->positional[args->n_positional++] = text;
    return 0;
}

static int put_words(struct parser *p, int argc, char **argv, struct err *err)
{
    bool options = true;
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
            rc = put_option(p, text + 2, equals != NULL ? equals + 1 : NULL, &took_next,
                            i + 1 < argc ? argv[i + 1] : NULL, err);
            i += took_next;
        } else {
            rc = put_positional(p->args, text, err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* What can be judged only when all words are there. */
static int check_whole(struct args *args, struct err *err)
{
    const struct command *c = args->command;
    const struct action *a = args->action;
    if (c->actions != NULL && a == NULL) {
        return put_action(args, "", err);
    }
    if (args->n_positional < (a != NULL ? a->positional_min : c->positional_min)) {
        return err_set(err, ERR_INVALID, "too few arguments: mlx-hub %s %s%s%s", c->name,
                       a != NULL ? a->name : "", a != NULL ? " " : "",
                       a != NULL ? a->usage : c->usage);
    }
    for (int i = 0; a != NULL && i < c->n_options; i++) {
        if (args->values[i] != NULL && !has_word(a->options, c->options[i].name)) {
            return err_set(err, ERR_INVALID, "mlx-hub %s %s takes no --%s", c->name, a->name,
                           c->options[i].name);
        }
    }
    return 0;
}

/* MLX_HUB_<NAME>, which is what children read. */
static int export_settings(const struct parser *p, struct err *err)
{
    size_t n;
    const struct setting_info *table = settings_table(&n);
    char name[128];
    for (size_t i = 0; i < p->n_settings; i++) {
        const int row = setting_find(p->names[i]);
        const char *known = table[row].name;
        const bool prefixed = strncmp(known, "MLX_HUB_", 8) == 0;
        snprintf(name, sizeof name, "%s%s", prefixed ? "" : "MLX_HUB_", known);
        if (setenv(name, p->values[i], 1) != 0) {
            return err_set_errno(err, errno, "the environment");
        }
    }
    return 0;
}

int args_parse(struct args *args, const struct command *command, int argc, char **argv,
               struct err *err)
{
    struct parser p = {.args = args};
    args->command = command;
    int rc = put_words(&p, argc, argv, err);
    rc = rc == 0 ? check_whole(args, err) : rc;
    rc = rc == 0 ? settings_load(&args->settings, p.names, p.values, p.n_settings, err) : rc;
    return rc == 0 ? export_settings(&p, err) : rc;
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
