/* Children: started by posix_spawn from one thread, talked to over a socket, never left behind.
 *
 * A child gets one end of a socketpair as descriptor PROC_CONTROL_FD, /dev/null as standard input,
 * our standard error as both outputs, every other descriptor closed, default signals and a process
 * group of its own (a Ctrl-C in the terminal is the parent's to handle). It dies with its parent,
 * even on kill -9: on Linux by PR_SET_PDEATHSIG, everywhere by its end of the socket closing.
 * The spawner thread is started by the first proc_spawn and lives as long as the process, because
 * PR_SET_PDEATHSIG fires when the spawning thread ends; it also waits for the children.
 * All functions may be called from any thread; a struct proc is used by one thread at a time.
 */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum {
    PROC_CONTROL_FD = 3,
    PROC_CHILDREN_MAX = 256,
    PROC_ENV_MAX = 64,        /* additions to the environment */
    PROC_EXIT_ORPHANED = 112, /* exit status of a child that found its parent gone */
};

/* How a child ended. */
struct proc_exit {
    bool signalled; /* value is a signal, else an exit status */
    int value;
};

struct proc_child; /* the spawner's record */

struct proc {
    struct proc_child *child; /* NULL when released */
    pid_t pid;
    int control; /* our end, close-on-exec; closed by proc_release */
};

/* Called once on the spawner thread when the child has ended and was waited for. Must not block and
 * must not call proc_spawn, proc_wait or proc_release. */
typedef void (*proc_exit_fn)(void *ctx, struct proc_exit how);

struct proc_options {
    const char *path;        /* program; NULL = this program */
    const char *const *argv; /* NULL at its end */
    const char *const *env;  /* "NAME=VALUE" put over our environment, NULL at its end; or NULL */
    proc_exit_fn on_exit;    /* or NULL */
    void *ctx;
};

/* ERR_NOT_FOUND / ERR_FORBIDDEN when the program cannot be run, ERR_BUSY at PROC_CHILDREN_MAX. */
int proc_spawn(struct proc *proc, const struct proc_options *options, struct err *err) MUST_CHECK;
/* True when the child has ended; fills *how. */
bool proc_poll(const struct proc *proc, struct proc_exit *how);
/* Waits for the end of the child. timeout_ms < 0: for ever. ERR_TIMEOUT. */
int proc_wait(const struct proc *proc, int timeout_ms, struct proc_exit *how,
              struct err *err) MUST_CHECK;
/* Sends a signal to a child that is still there; never to another process that got its pid. */
void proc_kill(const struct proc *proc, int signal);
/* Closes our end, kills the child if it is still there and forgets it (the spawner buries it).
 * After this on_exit is not called any more. Safe on a zeroed struct and twice. */
void proc_release(struct proc *proc);

/* --- in the child -------------------------------------------------------------------------------
 */

/* First call of a child's main: makes it die with its parent, the kernel's first choice when memory
 * runs out, deaf to SIGPIPE, and fd close-on-exec. ERR_INVALID when fd is no socket (started by
 * hand), ERR_CLOSED when the parent is gone already. */
int proc_child_init(int fd, struct err *err) MUST_CHECK;
/* Starts a thread that ends this process (status PROC_EXIT_ORPHANED, at once) when the other end of
 * fd closes. */
int proc_child_watch(int fd, struct err *err) MUST_CHECK;
/* Limits for a child that reads hostile input: address space (Linux), processor time, no core file.
 * 0 = no limit. */
int proc_child_limit(uint64_t memory_bytes, unsigned cpu_seconds, struct err *err) MUST_CHECK;

#endif
