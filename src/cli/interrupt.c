/* One lock-free flag is all that a handler touches. SA_RESETHAND gives the second signal back to
 * the system, so a command that is stuck can still be ended from the keyboard. */
#include "cli/interrupt.h"

#include <signal.h>
#include <string.h>

static atomic_bool flag;

static void on_signal(int number)
{
    (void)number;
    atomic_store(&flag, true);
}

void interrupt_catch(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND;
    atomic_store(&flag, false);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool interrupted(void)
{
    return atomic_load(&flag);
}

const atomic_bool *interrupt_flag(void)
{
    return &flag;
}
