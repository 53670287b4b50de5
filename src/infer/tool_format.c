#include "infer/tool_format.h"

#include <stddef.h>
#include <string.h>

enum { HERMES, LLAMA3, MISTRAL, MISTRAL_ARGS, GRANITE, N_FORMATS };

static const struct tool_format formats[N_FORMATS] = {
    [HERMES] = {.name = "hermes",
                .open = "<tool_call>",
                .close = "</tool_call>",
                .begin = "",
                .call_begin = "<tool_call>\n{\"name\": ",
                .middle = ", \"arguments\": ",
                .call_end = "}\n</tool_call>",
                .between = "\n",
                .end = "",
                .tokens = {"<tool_call>", "</tool_call>"}},
    /* its templates refuse a message with more than one call */
    [LLAMA3] = {.name = "llama3",
                .begin = "",
                .call_begin = "{\"name\": ",
                .middle = ", \"parameters\": ",
                .call_end = "}",
                .end = ""},
    [MISTRAL] = {.name = "mistral",
                 .open = "[TOOL_CALLS]",
                 .begin = "[TOOL_CALLS][",
                 .call_begin = "{\"name\": ",
                 .middle = ", \"arguments\": ",
                 .call_end = "}",
                 .between = ", ",
                 .end = "]",
                 .short_ids = true,
                 .tokens = {"[TOOL_CALLS]"}},
    [MISTRAL_ARGS] = {.name = "mistral_args",
                      .open = "[TOOL_CALLS]",
                      .begin = "",
                      .call_begin = "[TOOL_CALLS]",
                      .middle = "[ARGS]",
                      .call_end = "",
                      .between = "",
                      .end = "",
                      .bare_name = true,
                      .short_ids = true,
                      .tokens = {"[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"}},
    [GRANITE] = {.name = "granite",
                 .open = "<|tool_call|>",
                 .begin = "<|tool_call|>[",
                 .call_begin = "{\"name\": ",
                 .middle = ", \"arguments\": ",
                 .call_end = "}",
                 .between = ", ",
                 .end = "]",
                 .tokens = {"<|tool_call|>"}},
};

const struct tool_format *tool_format_named(const char *name)
{
    for (size_t i = 0; name != NULL && i < N_FORMATS; i++) {
        if (strcmp(formats[i].name, name) == 0) {
            return &formats[i];
        }
    }
    return &formats[HERMES];
}

/* One that does not know of tools is told of them in hermes' words (prompt_tools.c). */
const struct tool_format *tool_format_of_template(const char *source)
{
    if (strstr(source, "tools") == NULL || strstr(source, "<tool_call>") != NULL) {
        return &formats[HERMES];
    }
    if (strstr(source, "[TOOL_CALLS]") != NULL) {
        return &formats[strstr(source, "[ARGS]") != NULL ? MISTRAL_ARGS : MISTRAL];
    }
    if (strstr(source, "<|tool_call|>") != NULL) {
        return &formats[GRANITE];
    }
    return &formats[strstr(source, "<|start_header_id|>") != NULL ? LLAMA3 : HERMES];
}
