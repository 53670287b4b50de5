#include "infer/capabilities.h"

#include <stddef.h>
#include <string.h>

struct capabilities capabilities_of_template(const char *source)
{
    struct capabilities c = {0};
    if (source != NULL) {
        c.tools = strstr(source, "tools") != NULL;
        c.thinking = strstr(source, "<think>") != NULL;
    }
    return c;
}
