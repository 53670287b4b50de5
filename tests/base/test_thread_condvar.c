/* The pool with condition variables, the way of sleeping where there is no futex: the file itself
 * is compiled in here with that branch chosen, and takes the place of the library's. */
#define THREAD_NO_FUTEX 1
#include "../../src/base/thread.c"

#include "base/thread_cases.h"

int main(void)
{
    return thread_cases();
}
