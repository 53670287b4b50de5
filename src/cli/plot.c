/* Points fall into PLOT_COLUMNS columns by x; the mean of each falls into a row. */
#include "cli/plot.h"

#include <math.h>

struct column {
    double sum;
    size_t n;
};

static size_t place(double at, double low, double high, size_t cells)
{
    const double share = high > low ? (at - low) / (high - low) : 0.0;
    const double cell = share * (double)(cells - 1) + 0.5;
    return cell < 0.0 ? 0 : cell >= (double)cells ? cells - 1 : (size_t)cell;
}

static void gather(struct column *columns, const double *x, const double *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(y[i])) {
            struct column *c = &columns[place(x[i], x[0], x[n - 1], PLOT_COLUMNS)];
            c->sum += y[i];
            c->n++;
        }
    }
}

void plot(FILE *out, const char *title, const double *x, const double *y, size_t n)
{
    struct column columns[PLOT_COLUMNS] = {{0}};
    double low = INFINITY;
    double high = -INFINITY;
    if (n > 0) {
        gather(columns, x, y, n);
    }
    for (size_t c = 0; c < PLOT_COLUMNS; c++) {
        const double mean = columns[c].n > 0 ? columns[c].sum / (double)columns[c].n : NAN;
        low = mean < low ? mean : low;
        high = mean > high ? mean : high;
    }
    fprintf(out, "%s\n", title);
    if (high < low) {
        fprintf(out, "  (nothing yet)\n");
        return;
    }
    for (size_t r = PLOT_ROWS; r-- > 0;) {
        const double value = low + (high - low) * (double)r / (double)(PLOT_ROWS - 1);
        if (r == PLOT_ROWS - 1 || r == 0 || r == PLOT_ROWS / 2) {
            fprintf(out, "%10.4g |", value);
        } else {
            fprintf(out, "%10s |", "");
        }
        for (size_t c = 0; c < PLOT_COLUMNS; c++) {
            const double mean = columns[c].sum / (double)(columns[c].n > 0 ? columns[c].n : 1);
            const int here = columns[c].n > 0 && place(mean, low, high, PLOT_ROWS) == r;
            fputc(here ? '*' : ' ', out);
        }
        fputc('\n', out);
    }
    fprintf(out, "%10s +", "");
    for (size_t c = 0; c < PLOT_COLUMNS; c++) {
        fputc('-', out);
    }
    fprintf(out, "\n%10s  %-*.6g%*.6g\n", "", PLOT_COLUMNS / 2, x[0], PLOT_COLUMNS / 2, x[n - 1]);
}
