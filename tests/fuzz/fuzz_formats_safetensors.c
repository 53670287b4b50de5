/* Any bytes as a safetensors file: parse, then touch everything that a parsed file hands out. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t seen; /* keeps the reads */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = {0};
    struct safetensors *file = NULL;
    if (safetensors_parse(data, size, &file, &err) != 0)
        return 0;
    for (size_t i = 0; i < safetensors_tensor_count(file); i++) {
        const struct tensor_view *view = safetensors_tensor_at(file, i);
        for (uint64_t byte = 0; byte < view->bytes; byte++)
            seen += view->data[byte];
        seen += safetensors_tensor(file, view->name) == view;
    }
    for (size_t i = 0; i < safetensors_metadata_count(file); i++) {
        struct safetensors_kv kv = safetensors_metadata_at(file, i);
        seen += strlen(kv.key) + strlen(kv.value);
    }
    safetensors_free(file);
    return 0;
}
