/* How it works. For each row of the table the first source that has a value wins: flag, then
 * MLX_HUB_<NAME> and <NAME> in the environment, then the same two in .env, then the default.
 *
 * 1. Names are compared without regard to case; where the exact spelling is also there, it wins.
 * 2. An empty value in the environment or in .env counts as not set (compose files pass those on).
 * 3. A line of .env that is no NAME=VALUE is an error with its number: silence would hide a typo.
 */
#include "base/settings.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/settings_internal.h"

enum { DOTENV_BYTES_MAX = 1 << 16, NAME_BYTES_MAX = 64 };

static const char PREFIX[] = "MLX_HUB_";

extern char **environ;

/* --- .env: a list of "NAME=VALUE" texts, NULL at its end, like environ ---------------------------
 */

struct dotenv {
    struct arena arena;
    char **entries;
};

static bool name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Value in double quotes with \n, \t, \" and \\ ; returns the byte after, NULL when unclosed. */
static const char *copy_quoted(const char *at, char *to)
{
    for (at++; *at != '"'; at++) {
        if (!*at || *at == '\n')
            return NULL;
        if (*at == '\\' && at[1] && at[1] != '\n') {
            at++;
            *to++ = *at == 'n' ? '\n' : *at == 't' ? '\t' : *at;
        } else {
            *to++ = *at;
        }
    }
    *to = '\0';
    return at + 1;
}

static const char *copy_literal(const char *at, char *to)
{
    for (at++; *at != '\''; at++) {
        if (!*at || *at == '\n')
            return NULL;
        *to++ = *at;
    }
    *to = '\0';
    return at + 1;
}

/* Up to the end of the line or " #", blanks at the end dropped. */
static const char *copy_plain(const char *at, char *to)
{
    char *start = to, before = ' ';
    for (; *at && *at != '\n'; at++) {
        if (*at == '#' && isblank((unsigned char)before))
            break;
        before = *at;
        *to++ = *at;
    }
    while (to > start && isspace((unsigned char)to[-1]))
        to--;
    *to = '\0';
    return at;
}

/* The line at `at` as "NAME=VALUE" into `to`, which is as long as the line; "" for a blank line or
 * a comment. Returns the end of the line, NULL when it is malformed. */
static const char *copy_line(const char *at, char *to)
{
    to[0] = '\0';
    while (isblank((unsigned char)*at))
        at++;
    if (strncmp(at, "export", 6) == 0 && isblank((unsigned char)at[6]))
        for (at += 6; isblank((unsigned char)*at);)
            at++;
    if (*at == '#' || *at == '\n' || *at == '\r' || !*at)
        return at + strcspn(at, "\n");
    const char *name = at;
    while (name_char(*at))
        *to++ = *at++;
    while (isblank((unsigned char)*at))
        at++;
    if (at == name || *at != '=')
        return NULL;
    *to++ = *at++;
    while (isblank((unsigned char)*at))
        at++;
    bool quoted = *at == '"' || *at == '\'';
    at = *at == '"' ? copy_quoted(at, to) : *at == '\'' ? copy_literal(at, to) : copy_plain(at, to);
    if (!at)
        return NULL;
    while (isspace((unsigned char)*at) && *at != '\n')
        at++;
    if (quoted && *at == '#')
        return at + strcspn(at, "\n");
    if (!quoted)
        return at + strcspn(at, "\n");
    return *at == '\n' || !*at ? at : NULL;
}

static int dotenv_parse(struct dotenv *env, const char *text, struct err *err)
{
    size_t lines = 1, n = 0;
    for (const char *at = text; *at; at++)
        lines += *at == '\n';
    env->entries = arena_alloc(&env->arena, lines + 1, sizeof *env->entries);
    if (!env->entries)
        return mem_err(err, (lines + 1) * sizeof *env->entries);
    size_t line = 1;
    for (const char *at = text; *at; line++) {
        size_t length = strcspn(at, "\n");
        char *entry = arena_alloc(&env->arena, length + 2, 1);
        if (!entry)
            return mem_err(err, length + 2);
        at = copy_line(at, entry);
        if (!at)
            return err_set(err, ERR_INVALID, ".env line %zu is not NAME=VALUE", line);
        if (entry[0])
            env->entries[n++] = entry;
        at += *at == '\n';
    }
    return 0;
}

static int dotenv_load(struct dotenv *env, struct err *err)
{
    struct buf text;
    int rc = 0;
    buf_init(&text, DOTENV_BYTES_MAX);
    if (!fs_exists(".env"))
        goto out;
    rc = fs_read_file(".env", DOTENV_BYTES_MAX, &text, err);
    if (rc == 0 && strlen(text.data) != text.len)
        rc = err_set(err, ERR_INVALID, ".env has a NUL byte in it");
    if (rc == 0)
        rc = dotenv_parse(env, text.data, err);
out:
    buf_release(&text);
    return rc;
}

/* --- looking up ---------------------------------------------------------------------------------
 */

static const char *find_name(char *const *entries, const char *name)
{
    const char *any_case = NULL;
    size_t length = strlen(name);
    for (; entries && *entries; entries++) {
        const char *entry = *entries;
        if (strncasecmp(entry, name, length) != 0 || entry[length] != '=' || !entry[length + 1])
            continue;
        if (strncmp(entry, name, length) == 0)
            return entry + length + 1;
        if (!any_case)
            any_case = entry + length + 1;
    }
    return any_case;
}

/* MLX_HUB_<NAME>, else <NAME>. */
static const char *find_either(char *const *entries, const char *name)
{
    char prefixed[NAME_BYTES_MAX];
    snprintf(prefixed, sizeof prefixed, "%s%s", PREFIX, name);
    const char *value = find_name(entries, prefixed);
    return value ? value : find_name(entries, name);
}

/* A flag's name against a row's: case and '-' for '_' do not matter, and a leading MLX_HUB_ may be
 * left out. */
static bool same_name(const char *flag, const char *name)
{
    for (; *flag && *name; flag++, name++) {
        char c = *flag == '-' ? '_' : (char)toupper((unsigned char)*flag);
        if (c != *name)
            return false;
    }
    return *flag == *name;
}

static bool flag_names(const char *flag, const char *name)
{
    const char *bare =
        strncmp(name, PREFIX, sizeof PREFIX - 1) == 0 ? name + sizeof PREFIX - 1 : name;
    char prefixed[NAME_BYTES_MAX];
    snprintf(prefixed, sizeof prefixed, "%s%s", PREFIX, bare);
    return same_name(flag, name) || same_name(flag, bare) || same_name(flag, prefixed);
}

int setting_find(const char *flag)
{
    size_t count;
    const struct setting_info *table = settings_table(&count);
    for (size_t i = 0; i < count; i++)
        if (flag_names(flag, table[i].name))
            return (int)i;
    return -1;
}

static int check_flags(const char *const *names, size_t n_flags, struct err *err)
{
    for (size_t i = 0; i < n_flags; i++)
        if (setting_find(names[i]) < 0)
            return err_set(err, ERR_INVALID,
                           "--%.64s is not a setting; `mlx-hub config` lists them", names[i]);
    return 0;
}

int settings_load(struct settings *settings, const char *const *names, const char *const *values,
                  size_t n_flags, struct err *err)
{
    size_t count;
    const struct setting_info *table = settings_table(&count);
    struct dotenv dotenv = {0};
    memset(settings, 0, sizeof *settings);
    arena_init(&dotenv.arena, 0);
    int rc = check_flags(names, n_flags, err);
    if (rc == 0)
        rc = dotenv_load(&dotenv, err);
    for (size_t row = 0; row < count && rc == 0; row++) {
        const char *value = NULL;
        enum setting_source source = SETTING_DEFAULT;
        for (size_t i = 0; i < n_flags; i++)
            if (setting_find(names[i]) == (int)row) {
                value = values[i];
                source = SETTING_FLAG;
            }
        if (!value && (value = find_either(environ, table[row].name)))
            source = SETTING_ENV;
        if (!value && (value = find_either(dotenv.entries, table[row].name)))
            source = SETTING_DOTENV;
        settings->source[row] = source;
        rc = settings_apply(settings, row, value ? value : table[row].fallback, err);
    }
    if (rc == 0)
        rc = settings_resolve(settings, err);
    arena_release(&dotenv.arena);
    return rc;
}
