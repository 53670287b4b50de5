/* The pool with the platform's own way of sleeping. */
#include "base/thread_cases.h"

int main(void)
{
    return thread_cases();
}
