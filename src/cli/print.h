/* What commands share in printing: JSON results, tables, progress. */
#ifndef CLI_PRINT_H
#define CLI_PRINT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

enum { PRINT_BYTES_MAX = 64 << 20, TABLE_COLUMNS_MAX = 16, PROGRESS_LINE_BYTES = 512 };

/* Prints buf and a newline on stdout, or fails with its sticky error; releases buf. EXIT_*. */
int print_json(struct buf *buf, struct err *err) MUST_CHECK;
/* The same of a tree, which stays the caller's. */
int print_tree(const json_t *tree, struct err *err) MUST_CHECK;

/* A text on stdout within one line: line breaks, tabs and other control characters as escapes, so
 * that what a model says cannot drive a terminal. */
void print_inline(const char *text);

/* A table with columns as wide as their longest cell; cells are copied. */
struct table {
    int n_columns;
    const char *const *headings; /* static */
    struct buf cells;            /* NUL-terminated, row by row */
    int n_cells;
};
void table_init(struct table *table, const char *const *headings, int n_columns);
void table_cell(struct table *table, const char *text); /* NULL prints "-" */
void table_cellf(struct table *table, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Prints to stdout and releases. */
void table_print(struct table *table);

/* One line on stderr that is drawn over on a terminal; elsewhere nothing but the last text of each
 * step of a tenth. fraction < 0: unknown. */
struct progress {
    bool terminal;
    int tenths;
    bool open;
};
void progress_init(struct progress *progress);
void progress_show(struct progress *progress, double fraction, const char *text);
void progress_end(struct progress *progress);

/* "98.4 MB", "12m 05s" */
void format_bytes(double bytes, char out[32]);
void format_seconds(double seconds, char out[32]);

#endif
