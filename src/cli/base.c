#include "cli/base.h"

#include <stdio.h>
#include <string.h>

#include "cli/lookup.h"
#include "cli/print.h"

void print_base(const json_t *base, const char *how)
{
    char bytes[32];
    format_bytes(row_real(base, "bytes", 0.0), bytes);
    printf("%s %s: %s %s, %.1fM parameters, %s, sha256 %.16s…\n", how, row_text(base, "id"),
           row_text(base, "architecture"), row_text(base, "quantization"),
           row_real(base, "parameters", 0.0) / 1e6, bytes, row_text(base, "sha256"));
    if (strstr(row_text(base, "source"), "quantised to") != NULL) {
        printf("from %s; --quantization none keeps them as they are\n", row_text(base, "source"));
    }
    if (json_is_false(json_object_get(base, "fits"))) {
        printf("it does not fit into the memory limit: see mlx-hub config\n");
    }
    printf("next: mlx-hub chat %s\n      mlx-hub model create NAME --base %s\n",
           row_text(base, "id"), row_text(base, "id"));
}
