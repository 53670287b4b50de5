/* A render with a limit of one's own on steps: what tests and the fuzzer use, so that they need not
 * spend the ten million that template_render allows. Otherwise as template_render. */
#ifndef TEXT_JINJA_RENDER_H
#define TEXT_JINJA_RENDER_H

#include <stdint.h>

#include "text/template.h"

int jinja_render(const struct template *t, const struct template_input *input, uint64_t steps_max,
                 struct buf *out, struct err *err) MUST_CHECK;

#endif
