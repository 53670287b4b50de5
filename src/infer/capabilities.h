/* What a chat template says that its model was taught, for clients that ask before they send. */
#ifndef INFER_CAPABILITIES_H
#define INFER_CAPABILITIES_H

#include <stdbool.h>

struct capabilities {
    bool tools;    /* it is told of tools in words of its own; others are told in the hub's */
    bool thinking; /* it thinks between tags that are told apart from the answer */
};

/* source NULL: of a model that has none. */
struct capabilities capabilities_of_template(const char *source);

#endif
