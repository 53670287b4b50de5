/* Ctrl-C (and SIGTERM) asks a command to stop in an orderly way; the second one ends it at once. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdatomic.h>
#include <stdbool.h>

/* From now on, and again after one has come. Main thread. */
void interrupt_catch(void);
bool interrupted(void);
/* For what takes a flag to look at (http_request's cancel). */
const atomic_bool *interrupt_flag(void);

#endif
