#include "cli/print.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/command.h"

int print_json(struct buf *buf, struct err *err)
{
    const int rc = buf_check(buf, "the result", err);
    if (rc == 0) {
        fwrite(buf->data, 1, buf->len, stdout);
        putchar('\n');
    }
    buf_release(buf);
    return rc == 0 ? EXIT_DONE : EXIT_FAILED;
}

int print_tree(const json_t *tree, struct err *err)
{
    struct buf buf;
    struct json_out out;
    buf_init(&buf, PRINT_BYTES_MAX);
    json_out_init(&out, &buf);
    json_out_tree(&out, tree);
    return print_json(&buf, err);
}

void print_inline(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            fputs("\\n", stdout);
        } else if (*text == '\t') {
            fputs("\\t", stdout);
        } else if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            printf("\\x%02x", (unsigned)(unsigned char)*text);
        } else {
            putchar(*text);
        }
    }
}

void table_init(struct table *t, const char *const *headings, int n_columns)
{
    t->n_columns = n_columns;
    t->headings = headings;
    t->n_cells = 0;
    buf_init(&t->cells, PRINT_BYTES_MAX);
}

void table_cell(struct table *t, const char *text)
{
    buf_puts(&t->cells, text != NULL && text[0] != '\0' ? text : "-");
    buf_putc(&t->cells, '\0');
    t->n_cells++;
}

void table_cellf(struct table *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    buf_vprintf(&t->cells, fmt, args);
    va_end(args);
    buf_putc(&t->cells, '\0');
    t->n_cells++;
}

/* Characters, not bytes; wide ones count as one, which is close enough for names. */
static int width(const char *text)
{
    int n = 0;
    for (const char *p = text; *p != '\0'; p++) {
        n += ((unsigned char)*p & 0xc0) != 0x80;
    }
    return n;
}

static void print_row(const struct table *t, const char *const *cells, const int *widths)
{
    for (int c = 0; c < t->n_columns; c++) {
        const int pad = c + 1 < t->n_columns ? widths[c] - width(cells[c]) + 2 : 0;
        printf("%s%*s", cells[c], pad, "");
    }
    putchar('\n');
}

void table_print(struct table *t)
{
    int widths[TABLE_COLUMNS_MAX] = {0};
    const char *row[TABLE_COLUMNS_MAX];
    const char *at = t->cells.data;
    for (int c = 0; c < t->n_columns; c++) {
        widths[c] = width(t->headings[c]);
    }
    for (int i = 0; i < t->n_cells; i++) {
        const int w = width(at);
        widths[i % t->n_columns] = w > widths[i % t->n_columns] ? w : widths[i % t->n_columns];
        at += strlen(at) + 1;
    }
    print_row(t, t->headings, widths);
    at = t->cells.data;
    for (int i = 0; i < t->n_cells; i++) {
        row[i % t->n_columns] = at;
        at += strlen(at) + 1;
        if ((i + 1) % t->n_columns == 0) {
            print_row(t, row, widths);
        }
    }
    buf_release(&t->cells);
}

void progress_init(struct progress *p)
{
    p->terminal = isatty(STDERR_FILENO) == 1;
    p->tenths = -1;
    p->open = false;
}

enum { BAR_CELLS = 24 };

void progress_show(struct progress *p, double fraction, const char *text)
{
    const double f = fraction < 0.0 ? 0.0 : fraction > 1.0 ? 1.0 : fraction;
    if (!p->terminal) {
        const int tenths = (int)(f * 10.0);
        if (tenths != p->tenths) {
            p->tenths = tenths;
            fprintf(stderr, "%3.0f%% %s\n", f * 100.0, text);
        }
        return;
    }
    const int full = (int)(f * BAR_CELLS);
    fputs("\r\033[K", stderr);
    if (fraction >= 0.0) {
        for (int i = 0; i < BAR_CELLS; i++) {
            fputs(i < full ? "█" : "░", stderr);
        }
        fprintf(stderr, " %3.0f%% ", f * 100.0);
    }
    fputs(text, stderr);
    fflush(stderr);
    p->open = true;
}

void progress_end(struct progress *p)
{
    if (p->open) {
        fputc('\n', stderr);
    }
    p->open = false;
}

void format_bytes(double bytes, char out[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t u = 0;
    while (bytes >= 1000.0 && u + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1000.0;
        u++;
    }
    snprintf(out, 32, u == 0 ? "%.0f %s" : "%.1f %s", bytes, units[u]);
}

void format_seconds(double seconds, char out[32])
{
    if (!isfinite(seconds) || seconds < 0.0) {
        snprintf(out, 32, "-");
    } else if (seconds < 60.0) {
        snprintf(out, 32, "%.0fs", seconds);
    } else if (seconds < 3600.0) {
        snprintf(out, 32, "%dm %02ds", (int)seconds / 60, (int)seconds % 60);
    } else {
        snprintf(out, 32, "%dh %02dm", (int)(seconds / 3600.0), (int)(seconds / 60.0) % 60);
    }
}
