/* What the table files share. Private to store.
 *
 * A row function runs one statement on the caller's connection, inside whatever transaction the
 * caller began, and copies texts into the caller's arena.
 */
#ifndef STORE_ROWS_H
#define STORE_ROWS_H

#include "store/db.h"

/* Reads one row of a statement whose parameters are bound: fn(stmt, arena, row). *found false when
 * there was none. Finishes the statement. */
int rows_one(struct db_stmt *stmt, struct arena *arena,
             int (*read)(struct db_stmt *stmt, struct arena *arena, void *row, struct err *err),
             void *row, bool *found, struct err *err) MUST_CHECK;

/* Reads every row into a growing array in the arena; `size` is that of one row. */
int rows_all(struct db_stmt *stmt, struct arena *arena,
             int (*read)(struct db_stmt *stmt, struct arena *arena, void *row, struct err *err),
             size_t size, void **rows, size_t *count, struct err *err) MUST_CHECK;

/* The single integer of a statement whose parameters are bound; 0 without a row. */
int rows_int(struct db_stmt *stmt, int64_t *value, struct err *err) MUST_CHECK;

/* "%needle%" for LIKE … ESCAPE '\', lower case for ASCII, in the arena. NULL: out of memory. */
char *rows_like(struct arena *arena, const char *needle);

/* ERR_CORRUPT for a word in the database that this program does not know. */
int rows_bad_word(const char *column, const char *word, struct err *err) MUST_CHECK;

#endif
