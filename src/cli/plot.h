/* A curve as text, for terminals. */
#ifndef CLI_PLOT_H
#define CLI_PLOT_H

#include <stddef.h>
#include <stdio.h>

enum { PLOT_COLUMNS = 64, PLOT_ROWS = 12 };

/* n points with rising x; each column shows the mean of its points. Values that are not finite are
 * left out. */
void plot(FILE *out, const char *title, const double *x, const double *y, size_t n);

#endif
