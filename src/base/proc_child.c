/* How it works. What a child does for itself right after it started. The order matters: the death
 * signal is asked for first and the parent looked at after, so a parent that died in between is
 * noticed by its closed socket (the hub may be process 1, so getppid proves nothing).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "base/fault.h"
#include "base/proc.h"

#ifdef POLLRDHUP
enum { HANG_UP_EVENTS = POLLRDHUP };
#else
enum { HANG_UP_EVENTS = 0 };
#endif
enum { WATCH_STACK_BYTES = 128 * 1024 };

#ifdef __linux__
/* Asks to be chosen before the hub when memory runs out. Raising one's own score is always
 * allowed, a higher one that was inherited stays, and where there is no /proc nothing is lost. */
static void offer_to_oom_killer(void)
{
    static const char SCORE[] = "500";
    char inherited[16] = "";
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    if (read(fd, inherited, sizeof inherited - 1) > 0 &&
        strtol(inherited, NULL, 10) < strtol(SCORE, NULL, 10) &&
        pwrite(fd, SCORE, sizeof SCORE - 1, 0) < 0) {
        /* a container may forbid it; the child works all the same */
    }
    close(fd);
}
#endif

/* Waits up to timeout_ms (-1: for ever) for the other end to close. */
static bool hung_up(int fd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = HANG_UP_EVENTS};
    for (;;) {
        int n = poll(&poll_fd, 1, timeout_ms);
        if (n > 0)
            return true;
        if (n == 0)
            return false;
        if (errno != EINTR && errno != EAGAIN)
            return true;
    }
}

int proc_child_init(int fd, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISSOCK(st.st_mode))
        return err_set(err, ERR_INVALID,
                       "descriptor %d is no socket: this command is started by the hub itself", fd);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return err_set_errno(err, errno, "cannot prepare the control socket");
    signal(SIGPIPE, SIG_IGN);
#ifdef __linux__
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return err_set_errno(err, errno, "cannot tie this process to its parent");
    offer_to_oom_killer();
#endif
    if (hung_up(fd, 0))
        return err_set(err, ERR_CLOSED, "the hub that started this process is gone");
    return 0;
}

static void *watch(void *arg)
{
    int fd = (int)(intptr_t)arg;
    (void)hung_up(fd, -1);
    _exit(PROC_EXIT_ORPHANED);
    return NULL;
}

int proc_child_watch(int fd, struct err *err)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    int errnum = fault_hit(FAULT_SPAWN) ? EAGAIN : pthread_attr_init(&attributes);
    if (errnum != 0)
        return err_set_errno(err, errnum, "cannot watch the control socket");
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, WATCH_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errnum = pthread_create(&thread, &attributes, watch, (void *)(intptr_t)fd);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return errnum == 0 ? 0 : err_set_errno(err, errnum, "cannot watch the control socket");
}

/* Sanitizers reserve terabytes of address space for their shadow. */
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CAN_LIMIT_MEMORY 1
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef CAN_LIMIT_MEMORY
#endif
#endif
#endif

int proc_child_limit(uint64_t memory_bytes, unsigned cpu_seconds, struct err *err)
{
    struct rlimit none = {0, 0};
    int rc = setrlimit(RLIMIT_CORE, &none);
#ifdef CAN_LIMIT_MEMORY
    struct rlimit memory = {(rlim_t)memory_bytes, (rlim_t)memory_bytes};
    if (rc == 0 && memory_bytes)
        rc = setrlimit(RLIMIT_AS, &memory);
#else
    (void)memory_bytes;
#endif
    struct rlimit cpu = {cpu_seconds, (rlim_t)cpu_seconds + 1};
    if (rc == 0 && cpu_seconds)
        rc = setrlimit(RLIMIT_CPU, &cpu);
    return rc == 0 ? 0 : err_set_errno(err, errno, "cannot limit this process");
}
