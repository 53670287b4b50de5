/* Loops over results that every table file needs. */
#include "store/rows.h"

#include <string.h>

enum { ROWS_FIRST = 16 };

int rows_one(struct db_stmt *stmt, struct arena *arena,
             int (*read)(struct db_stmt *stmt, struct arena *arena, void *row, struct err *err),
             void *row, bool *found, struct err *err)
{
    int rc = db_step(stmt, found, err);

    if (rc == 0 && *found)
        rc = read(stmt, arena, row, err);
    return db_finish(stmt, rc, err);
}

static int grow(struct arena *arena, void **rows, size_t size, size_t count, size_t *cap,
                struct err *err)
{
    size_t wanted = *cap ? *cap * 2 : ROWS_FIRST;
    void *bigger;

    if (count < *cap)
        return 0;
    bigger = arena_alloc(arena, wanted, size);
    if (!bigger)
        return mem_err(err, wanted * size);
    if (count > 0)
        memcpy(bigger, *rows, count * size);
    *rows = bigger;
    *cap = wanted;
    return 0;
}

int rows_all(struct db_stmt *stmt, struct arena *arena,
             int (*read)(struct db_stmt *stmt, struct arena *arena, void *row, struct err *err),
             size_t size, void **rows, size_t *count, struct err *err)
{
    size_t cap = 0;
    bool more = true;
    int rc = 0;

    *rows = NULL;
    *count = 0;
    while (rc == 0) {
        rc = db_step(stmt, &more, err);
        if (rc < 0 || !more)
            break;
        rc = grow(arena, rows, size, *count, &cap, err);
        if (rc == 0)
            rc = read(stmt, arena, (char *)*rows + *count * size, err);
        if (rc == 0)
            (*count)++;
    }
    return db_finish(stmt, rc, err);
}

int rows_int(struct db_stmt *stmt, int64_t *value, struct err *err)
{
    bool row = false;
    int rc = db_step(stmt, &row, err);

    *value = rc == 0 && row ? db_int(stmt) : 0;
    return db_finish(stmt, rc, err);
}

char *rows_like(struct arena *arena, const char *needle)
{
    char *pattern = arena_alloc(arena, 2 * strlen(needle) + 3, 1);
    size_t n = 0;

    if (!pattern)
        return NULL;
    pattern[n++] = '%';
    for (const char *c = needle; *c; c++) {
        if (*c == '%' || *c == '_' || *c == '\\')
            pattern[n++] = '\\';
        pattern[n++] = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    }
    pattern[n++] = '%';
    pattern[n] = '\0';
    return pattern;
}

int rows_bad_word(const char *column, const char *word, struct err *err)
{
    if (!word) /* the columns of words are never NULL, so there was no memory to copy it to */
        return mem_err(err, 0);
    return err_set(err, ERR_CORRUPT, "The database holds %s '%.100s', which is not known", column,
                   word);
}
